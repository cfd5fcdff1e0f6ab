"""Redirected traffic: ICMP redirects, router advertisements and neighbour advertisements of impostors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from detectors.address_claims import ClaimBook, Signs
from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import ClaimDetector, address_text
from detectors.impostor import Impostor, impostors
from detectors.ledger import Entry, Key
from detectors.link_frame import LinkFrame
from detectors.round_frames import RoundFrames
from detectors.statement import count, mac_text, machine
from schemas.events import Capability, LinkClaim
from schemas.finding import Endpoint, Evidence, Finding, Severity

_OWNERS = (
    LinkClaim.ARP_REQUEST, LinkClaim.ARP_REPLY, LinkClaim.NEIGHBOUR_SOLICITATION, LinkClaim.NEIGHBOUR_ADVERTISEMENT,
)  # fmt: skip
_MEMORY = 3600
_REDIRECT, _ROUTER, _NEIGHBOUR = "redirect", "router", "neighbour"
_CONFIDENCE: dict[Severity, float] = {"high": 0.9, "medium": 0.6, "low": 0.3}


@dataclass
class _Machine(Entry):
    """One hardware address and the addresses that it said are its own."""

    addresses: list[list[int]] = field(default_factory=list)


@dataclass
class _Redirector(Entry):
    """Who redirects: [high, low, tick] of the destinations."""

    destinations: list[list[int]] = field(default_factory=list)
    signs: list[str] = field(default_factory=list)
    gateway: list[int] = field(default_factory=list)
    interface: str = ""


@dataclass
class _Router(Entry):
    """One router that advertised itself."""

    advertisements: int = 0
    interface: str = ""


class IcmpRedirectConfig(DetectorConfig):
    """Limits of ``icmp_redirect``."""

    destinations: Annotated[int, Field(ge=1)] = Field(
        10, description="destinations that one router redirects within the window; a real one has few shortcuts (count)"
    )
    routers: Annotated[int, Field(ge=1)] = Field(
        4, description="new routers on one segment within the window; segments have one to three (count)"
    )
    window: Annotated[int, Field(ge=1)] = Field(60, description="s")
    settled: Annotated[int, Field(ge=1)] = Field(
        1800,
        description="s that a machine is known before its first router advertisement; routers advertise that often",
    )
    peers: Annotated[int, Field(ge=0)] = Field(
        600, description="s: routers first heard so close to each other may both be right; advertisements are that rare"
    )
    pushes: Annotated[int, Field(ge=2)] = Field(
        3, description="seconds with a neighbour advertisement that its only receiver had not asked for (count)"
    )
    turns: Annotated[int, Field(ge=2)] = Field(
        3, description="changes between claimants of an IPv6 address within the window (count)"
    )


class IcmpRedirect(ClaimDetector):
    """Fires per machine that sends others' traffic its own way.

    A redirect is false when it names its own sender as the gateway, when its sender is known under another
    address than the router's, or when a pod sends it. What a router says of another router is ordinary.
    """

    meta = Meta(
        id="icmp_redirect",
        title="ICMP redirect",
        stage=1,
        severity="high",
        techniques=("T1557", "T1040"),
        needs=Capability.ICMP_CLAIMS,
        blind="ICMP redirects and false routers are not seen: the source does not report ICMP claims",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = IcmpRedirectConfig
    config: IcmpRedirectConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        own = self.config
        # IPv6 machines have several addresses, so that a second one is no sign.
        signs = Signs(own.pushes, own.turns, own.window, settle=20, own_addresses=False)
        asked, told = LinkClaim.NEIGHBOUR_SOLICITATION, LinkClaim.NEIGHBOUR_ADVERTISEMENT
        self._book = ClaimBook(self, asked, told, signs, frozenset())
        self._machines = self.ledger("machines", _Machine, 2048, 2 * _MEMORY)
        self._owners = self.ledger("owners", _Machine, 2048, _MEMORY)
        self._redirectors = self.ledger("redirectors", _Redirector, 256, 2 * own.window)
        self._routers = self.ledger("routers", _Router, 256, 2 * _MEMORY)

    def observe(self, frames: RoundFrames) -> None:
        """Take in who has which address, then who redirects."""
        link = frames.link
        if link is None:
            return
        self._learn(link)
        for (node, tick), keys in self._book.take(link).items():
            self._noted.append((frames.names[node], node, tick, _NEIGHBOUR, keys))
        for node, tick, keys in self._redirects(link):
            self._noted += [(frames.names[node], node, tick, _REDIRECT, key) for key in keys]
        for node, tick, routers in self._advertisements(link):
            self._noted += [(frames.names[node], node, tick, _ROUTER, router) for router in routers]
        if frames.flow is not None:
            self._book.look_at_traffic(frames.flow)

    def _learn(self, link: LinkFrame) -> None:
        columns = (link.vlan, link.mac, link.claimed_mac, *link.claimed)
        for node, tick, said in self.things(link, link.of(*_OWNERS), columns):
            for vlan, mac, claimed_mac, high, low in said:
                if not low or claimed_mac not in (mac, 0):
                    continue
                machine = self._machines.touch(node, (vlan, mac), tick)
                if [high, low] not in machine.addresses:
                    machine.addresses = [*machine.addresses[-7:], [high, low]]
                self._owners.touch(node, (vlan, high, low), tick).addresses = [[mac, 0]]

    def _redirects(self, link: LinkFrame) -> Iterator[tuple[int, int, list[Key]]]:
        """Take in redirects; return the redirectors of each tick."""
        redirects = link.of(LinkClaim.ICMP_REDIRECT)
        if not redirects.any():
            return
        interface, names = link.interface
        columns = (link.vlan, link.mac, link.claimed_mac, *link.speaker, *link.target, *link.claimed, interface)
        for node, tick, said in self.things(link, redirects, columns):
            touched: dict[Key, None] = {}
            for vlan, mac, told_mac, high, low, to_high, to_low, for_high, for_low, where in said:
                # An IPv6 redirect to the destination itself only says that it is a neighbour.
                if (to_high, to_low) == (for_high, for_low):
                    continue
                key = (vlan, mac, high, low)
                redirector = self._redirectors.touch(node, key, tick)
                kept = [d for d in redirector.destinations if d[2] > tick - self.config.window]
                kept = [d for d in kept if d[:2] != [for_high, for_low]]
                redirector.destinations = [*kept[-4 * self.config.destinations :], [for_high, for_low, tick]]
                redirector.gateway, redirector.interface = [to_high, to_low], names[where] or redirector.interface
                self._signs(node, tick, key, (to_high, to_low, told_mac), redirector)
                touched[key] = None
            yield node, tick, list(touched)

    def _signs(self, node: int, tick: int, key: Key, gateway: tuple[int, int, int], redirector: _Redirector) -> None:
        vlan, mac, high, low = key
        owner = self._owners.get(node, (vlan, *gateway[:2]), tick)
        machine = self._machines.get(node, (vlan, mac), tick)
        router = self._owners.get(node, (vlan, high, low), tick)
        signs = []
        if gateway[2] == mac or (owner is not None and owner.addresses[0][0] == mac):
            signs.append("it names itself as the gateway")
        if router is not None and router.addresses[0][0] != mac:
            signs.append("the router has another hardware address")
        elif machine is not None and [high, low] not in machine.addresses and not _link_local(high):
            signs.append("the sender is known by another address")
        redirector.signs = list(dict.fromkeys([*redirector.signs, *signs]))

    def _advertisements(self, link: LinkFrame) -> Iterator[tuple[int, int, list[tuple[Key, bool]]]]:
        """Take in advertisements; return the routers of each tick, and whether somebody else revoked them."""
        advertised = link.of(LinkClaim.ROUTER_ADVERTISEMENT)
        if not advertised.any():
            return
        interface, names = link.interface
        columns = (link.vlan, link.mac, *link.speaker, link.number, interface)
        for node, tick, said in self.things(link, advertised, columns):
            out: dict[tuple[Key, bool], None] = {}
            for vlan, mac, high, low, lifetime, where in said:
                key = (vlan, mac, high, low)
                if lifetime:
                    router = self._routers.touch(node, key, tick)
                    router.advertisements += 1
                    router.interface = names[where] or router.interface
                    out[key, False] = None
                elif any(
                    k[0] == vlan and k[2:] == key[2:] and k[1] != mac for k, _ in self._routers.entries(node, tick)
                ):
                    out[key, True] = None
            yield node, tick, list(out)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the findings about one redirector, router, or the claimants of addresses."""
        name, node, tick, what, about = noted
        if what == _NEIGHBOUR:
            found = [suspicion for key in about for suspicion in self._book.suspects(node, tick, key)]
            named = impostors(found, view, name, tick)
            return [self._impostor(view, name, tick, i) for i in named]
        if what == _REDIRECT:
            return self._judge_redirector(view, name, node, tick, about)
        return self._judge_router(view, name, node, tick, *about)

    def _impostor(self, view: TickView, node: str, tick: int, impostor: Impostor) -> Finding:
        config, mac = self.config, mac_text(impostor.mac)
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title="Neighbour spoofing", severity=impostor.severity,
            confidence=round(min(0.99, 0.1 + impostor.score / 8), 3), tick=tick,
            started=min(c.since for c in impostor.claims), node=node, subject=f"{mac}/neighbour@{node}",
            attackers=(impostor.endpoint(view, node, tick),), victims=impostor.victims(view, tick),
            techniques=self.meta.techniques, evidence=impostor.evidence(config.pushes, config.turns, config.window),
            summary=impostor.summary(), spoofable=not impostor.lead.interface, data_quality=view.quality[node],
            response=self.meta.response, quiet=120,
        )  # fmt: skip

    def _judge_redirector(self, view: TickView, name: str, node: int, tick: int, key: Key) -> list[Finding]:
        redirector = self._redirectors.get(node, key, tick)
        if redirector is None:
            return []
        config, signs = self.config, list(redirector.signs)
        sender, pod = self._sender(view, name, node, tick, key[:2], key[2:], redirector.interface)
        if pod:
            signs.append("a pod sends it")
        recent = [d for d in redirector.destinations if d[2] > tick - config.window]
        severity: Severity = "high" if signs else "medium" if len(recent) > config.destinations else "low"
        mac, speaker, gateway = mac_text(key[1]), address_text(key[2:]), address_text(redirector.gateway)
        evidence = (
            Evidence(name="signs", value=len(signs), limit=0, unit="signs"),
            Evidence(name="redirected", value=len(recent), limit=config.destinations if not signs else 0,
                     unit="destinations", window=config.window),
        )  # fmt: skip
        why = "; ".join(signs) or "nothing speaks against it but that hosts should need none"
        return [
            self._finding(
                view, name, tick, ("ICMP redirect", f"{mac}/{speaker}@{name}", severity), sender, evidence,
                tuple(view.endpoint(address_text(d), tick) for d in recent[:8]),
                f"{speaker} ({mac}) redirects traffic for {count(len(recent))} destinations to {gateway}: {why}",
                max(redirector.since, tick - config.window),
            )
        ]  # fmt: skip

    def _judge_router(self, view: TickView, name: str, node: int, tick: int, key: Key, revokes: bool) -> list[Finding]:
        config = self.config
        router = self._routers.get(node, key, tick)
        interface = router.interface if router is not None else ""
        sender, pod = self._sender(view, name, node, tick, key[:2], key[2:], interface)
        others = [(k, r) for k, r in self._routers.entries(node, tick) if k[0] == key[0] and k != key]
        signs, severity = self._router_signs(node, tick, key, router, others, pod=pod, revokes=revokes)
        fresh = sum(r.since > tick - config.window for _, r in others) + (router is not None)
        if fresh > config.routers:
            signs.append(f"{fresh} routers are new within {config.window} s, limit {config.routers}")
            severity = "high"
        if not signs:
            return []
        mac, speaker = mac_text(key[1]), address_text(key[2:])
        flood = fresh > config.routers
        told = [address_text(k[2:]) for k, _ in others[:4]] or ["ff02::1"]
        evidence = (
            Evidence(name="signs", value=len(signs), limit=0, unit="signs"),
            Evidence(name="new_routers", value=fresh, limit=config.routers if flood else None, unit="routers",
                     window=config.window),
        )  # fmt: skip
        subject = f"vlan {key[0]}/routers@{name}" if flood else f"{mac}/{speaker}@{name}"
        return [
            self._finding(
                view, name, tick, ("Rogue router advertisement", subject, severity), sender, evidence,
                tuple(view.endpoint(ip, tick) for ip in told),
                f"{speaker} ({mac}) advertises {'that a router is gone' if revokes else 'itself as a router'}: "
                f"{'; '.join(signs)}", router.since if router is not None else tick,
            )
        ]  # fmt: skip

    def _router_signs(self, node: int, tick: int, key: Key, router: _Router | None, others: list[tuple[Key, _Router]],
                      *, pod: bool, revokes: bool) -> tuple[list[str], Severity]:  # fmt: skip
        signs: list[str] = []
        severity: Severity = "medium"
        if pod:
            signs.append("a pod sends it")
        if revokes:
            signs.append("the router has another hardware address")
        if pod or revokes:
            severity = "high"
        if router is None:
            return signs, severity
        earliest = min((r.since for _, r in others), default=router.since)
        if router.since - earliest > self.config.peers:
            signs.append(f"another router was there {router.since - earliest} s earlier, limit {self.config.peers}")
        machine = self._machines.get(node, key[:2], tick)
        if machine is not None and router.since - machine.since > self.config.settled:
            signs.append(f"it was no router for {router.since - machine.since} s, limit {self.config.settled}")
        return signs, severity

    def _sender(self, view: TickView, name: str, node: int, tick: int, key: Key, speaker: Key,
                interface: str) -> tuple[Endpoint, bool]:  # fmt: skip
        """Return who really sent it, the pod behind the interface or an address of its own, and whether it is a pod."""
        speaking = self._machines.get(node, key, tick)
        names = [address_text(a) for a in (speaking.addresses if speaking is not None else [])]
        # Of the speaker's own family first.
        names.sort(key=lambda name: (":" in name) != (":" in address_text(speaker)))
        known = next((n for n in names if view.identities.find(n, tick) is not None), None)
        item = view.identities.find(known, tick) if known is not None else None
        ip = known or (names[0] if names else address_text(speaker))
        endpoint, _ = machine(view, name, tick, ip, mac=mac_text(key[1]), interface=interface)
        return endpoint, endpoint.pod is not None or (item is not None and item.kind == "Pod")

    def _finding(self, view: TickView, node: str, tick: int, what: tuple[str, str, Severity], sender: Endpoint,
                 evidence: tuple[Evidence, ...], victims: tuple[Endpoint, ...], summary: str,
                 started: int) -> Finding:  # fmt: skip
        title, subject, severity = what
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=title, severity=severity, confidence=_CONFIDENCE[severity],
            tick=tick, started=started, node=node, subject=subject, attackers=(sender,), victims=victims,
            techniques=self.meta.techniques, evidence=evidence, summary=summary, spoofable=sender.interface is None,
            data_quality=view.quality[node], response=self.meta.response, quiet=120,
        )  # fmt: skip


def _link_local(high: int) -> bool:
    return high >> 54 == 0xFE80 >> 6
