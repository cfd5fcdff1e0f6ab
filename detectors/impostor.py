"""Findings about who claims an address that is another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detectors.address_claims import Suspicion
from detectors.base import TickView
from detectors.claim_detector import address_text
from detectors.statement import mac_text, machine
from schemas.finding import MAX_ENDPOINTS, Endpoint, Evidence, Severity

SURE, LIKELY, CONTESTED = 5, 4, 3  # scores from which a claim is surely, likely, or only perhaps a false one
_OWNER_KNOWN = 2
_ITS_OWN = -100  # a pod that claims its own address by its own interface is the owner, whatever speaks against it


@dataclass(frozen=True)
class Impostor:
    """One claimant and all addresses that it claims falsely in this tick."""

    mac: int
    score: int
    severity: Severity
    claims: tuple[Suspicion, ...]

    @property
    def lead(self) -> Suspicion:
        """The claim against which most speaks."""
        return self.claims[0]

    def endpoint(self, view: TickView, node: str, tick: int) -> Endpoint:
        """Return the impostor: the pod behind its interface, else by an address of its own where it has one."""
        names = [address_text(a) for c in self.claims for a in c.own]
        known = next((n for n in names if view.identities.find(n, tick) is not None), names[0] if names else "")
        found, _ = machine(view, node, tick, known, mac=mac_text(self.mac), interface=self.lead.interface)
        return found

    def victims(self, view: TickView, tick: int) -> tuple[Endpoint, ...]:
        """Return who was told, then whose addresses are claimed."""
        own = {a for c in self.claims for a in c.own}
        told = [address_text(a) for c in self.claims for a in c.told if a not in own]
        names = dict.fromkeys([*told, *(address_text(c.address) for c in self.claims)])
        return tuple(view.endpoint(name, tick) for name in list(names)[:MAX_ENDPOINTS])

    def evidence(self, pushes: int, turns: int, window: int) -> tuple[Evidence, ...]:
        """Return the signs, against the limits of the detector."""
        lead = self.lead
        return (
            Evidence(name="signs", value=self.score, limit=CONTESTED - 1, unit="points"),
            Evidence(name="unasked_answers", value=lead.pushes, limit=pushes - 1, unit="ticks"),
            Evidence(name="turns", value=lead.turns, limit=turns - 1, unit="changes of claimant", window=window),
            Evidence(name="asks_for_what_it_claims", value=lead.asks, limit=0, unit="ticks"),
            Evidence(name="addresses_claimed", value=len(self.claims), unit="addresses"),
        )

    def summary(self) -> str:
        """Say in one sentence what it does."""
        lead, mac = self.lead, mac_text(self.mac)
        names = ", ".join(sorted(address_text(c.address) for c in self.claims)[:4])
        who = f"{mac} (else {address_text(lead.own[0])})" if lead.own else f"{mac}"
        if self.score < LIKELY:
            others = ", ".join(str(mac_text(m)) for m in lead.rivals)
            return f"{who} and {others} both claim {names}: two machines have one address, {self.score} signs"
        signs = [f"{lead.pushes} unasked answers"] if lead.pushes else []
        if lead.alive:
            signs.append(f"while {', '.join(str(mac_text(m)) for m in lead.rivals)} still has it")
        if lead.asks:
            signs.append("and asks for it itself")
        if any(c.both_ways for c in self.claims):
            signs.append("towards both ends of a conversation")
        return f"{who} claims {names}: {' '.join(signs)}; {self.score} signs, limit {CONTESTED - 1}"


def impostors(suspicions: Sequence[Suspicion], view: TickView, node: str, tick: int) -> list[Impostor]:
    """Return who is suspected enough, by hardware address; inventory counts where it knows the owner."""
    by_mac: dict[int, list[tuple[int, Suspicion]]] = {}
    for suspicion in suspicions:
        score = suspicion.score + _by_inventory(suspicion, view, node, tick)
        if score >= LIKELY or (score == CONTESTED and suspicion.alive):
            by_mac.setdefault(suspicion.mac, []).append((score, suspicion))
    out = []
    for mac, found in sorted(by_mac.items()):
        ordered = sorted(found, key=lambda pair: (-pair[0], pair[1].address))
        score = ordered[0][0]
        severity: Literal["high", "medium", "low"]
        severity = "high" if score >= SURE else "medium" if score >= LIKELY else "low"
        out.append(Impostor(mac, score, severity, tuple(s for _, s in ordered)))
    return out


def _by_inventory(suspicion: Suspicion, view: TickView, node: str, tick: int) -> int:
    """Return what the inventory adds to the signs against a claimant: whose the address is, and who the claimant is.

    The claimant is who is behind its interface; where nobody says so, who has its other addresses.
    """
    find = view.identities.find
    owner = find(address_text(suspicion.address), tick)
    if owner is None:
        return 0
    sender = view.sender(node, suspicion.interface, tick) if suspicion.interface else None
    names = [sender.ip] if sender is not None else [address_text(a) for a in suspicion.own]
    mine = next((item for name in names if (item := find(name, tick)) is not None), None)
    if mine is None:
        return 0
    if mine.uid == owner.uid:
        return _ITS_OWN if sender is not None else 0
    # Nodes take over addresses of services and of each other (failover); pods never do.
    return _OWNER_KNOWN if mine.kind == "Pod" and suspicion.score else 0
