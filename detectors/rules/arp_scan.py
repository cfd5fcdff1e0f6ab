"""ARP scan: one machine asks for many addresses of its segment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.ledger import Entry
from detectors.round_frames import RoundFrames
from detectors.statement import count, mac_text, machine
from schemas.events import Capability, LinkClaim
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding

_KNOWN = 3600  # s that an address which spoke counts as one that exists


@dataclass
class _Asker(Entry):
    """What one machine asked for lately: two words of each address and the last tick."""

    asked: list[list[int]] = field(default_factory=list)  # [high, low, tick, was unknown], oldest first
    own: list[int] = field(default_factory=list)
    interface: str = ""


class ArpScanConfig(DetectorConfig):
    """Limits of ``arp_scan``."""

    unknown: Annotated[int, Field(ge=1)] = Field(
        10,
        description="different addresses asked for within the window that nobody had spoken from or asked for (count)",
    )
    addresses: Annotated[int, Field(ge=1)] = Field(
        100,
        description="different addresses asked for within the window, known or not; monitoring asks for many (count)",
    )
    window: Annotated[int, Field(ge=1)] = Field(30, description="s")
    learning: Annotated[int, Field(ge=0)] = Field(
        300, description="s of watching a node's ARP before an address counts as unknown; routers go round in minutes"
    )


class ArpScan(ClaimDetector):
    """Fires per hardware address that asks for more addresses than it can have business with."""

    meta = Meta(
        id="arp_scan",
        title="ARP scan",
        stage=1,
        severity="medium",
        techniques=("T1018", "T1046"),
        needs=Capability.ARP,
        blind="ARP scans are not seen: the source does not report ARP",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = ArpScanConfig
    config: ArpScanConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._askers = self.ledger("askers", _Asker, 512, 2 * self.config.window)
        self._known = self.ledger("known", Entry, 4096, _KNOWN)
        self._watched = self.ledger("watched", Entry, 1, _KNOWN)
        # Enough to tell by how much a limit is passed; more would only be memory.
        self._room = 4 * max(self.config.unknown, self.config.addresses)

    def observe(self, frames: RoundFrames) -> None:
        """Take in questions, and who exists."""
        link = frames.link
        if link is None:
            return
        interface, names = link.interface
        columns = (link.claim, link.claimed_mac, *link.claimed, *link.target, link.vlan, interface)
        for node, tick, said in self.things(link, link.of(LinkClaim.ARP_REQUEST, LinkClaim.ARP_REPLY), columns):
            learned = self._watched.touch(node, (), tick).since <= tick - self.config.learning
            asked: dict[tuple[int, int], list[tuple[int, ...]]] = {}
            for claim, mac, *addresses, vlan, where in said:
                if claim == LinkClaim.ARP_REPLY or addresses[:2] == addresses[2:]:
                    self._known.touch(node, (vlan, *addresses[:2]), tick)
                else:
                    asked.setdefault((vlan, mac), []).append((*addresses, where))
            for key, questions in asked.items():
                self._asked(node, tick, key, questions, learned=learned)
                self._askers.touch(node, key, tick).interface = names[questions[-1][4]]
            self._noted += [(frames.names[node], node, tick, key) for key in asked]

    def _asked(
        self, node: int, tick: int, key: tuple[int, int], questions: list[tuple[int, ...]], *, learned: bool
    ) -> None:
        asker = self._askers.touch(node, key, tick)
        recent = {(a[0], a[1]): a for a in asker.asked if a[2] > tick - self.config.window}
        for own_high, own_low, high, low, _ in questions:
            before = recent.pop((high, low), None)
            new = learned and self._known.get(node, (key[0], high, low), tick) is None
            # Whoever goes round the same addresses again has business there.
            self._known.touch(node, (key[0], high, low), tick)
            recent[high, low] = [high, low, tick, before[3] if before is not None else int(new)]
            asker.own = [own_high, own_low] if own_low else asker.own
        asker.asked = list(recent.values())[-self._room :]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one asker, where it asked for too many."""
        name, node, tick, key = noted
        asker = self._askers.get(node, key, tick)
        if asker is None:
            return []
        config = self.config
        recent = [a for a in asker.asked if a[2] > tick - config.window]
        unknown = sum(a[3] for a in recent)
        if unknown <= config.unknown and len(recent) <= config.addresses:
            return []
        own = address_text(asker.own) if asker.own else ""
        if own and view.identities.role(own, tick) in ("shared", "scanner"):
            return []
        victims = [(a[0], a[1]) for a in recent]
        return [self._finding(view, name, tick, key[1], asker, own, unknown, victims)]

    def _finding(self, view: TickView, node: str, tick: int, mac: int, asker: _Asker, own: str, unknown: int,
                 asked: list[Address]) -> Finding:  # fmt: skip
        config, text = self.config, mac_text(mac)
        # A machine without an address says that it has none.
        endpoint, _ = machine(view, node, tick, own or "0.0.0.0", mac=text, interface=asker.interface)  # noqa: S104
        sure = max(confidence(unknown, config.unknown), confidence(len(asked), config.addresses))
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=sure, tick=tick, started=max(asker.since, tick - config.window), node=node,
            subject=f"{text}@{node}", attackers=(endpoint,),
            victims=tuple(view.endpoint(address_text(a), tick) for a in sorted(asked)[:MAX_ENDPOINTS]),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="unknown_addresses", value=unknown, limit=config.unknown, unit="addresses",
                         window=config.window),
                Evidence(name="addresses_asked", value=len(asked), limit=config.addresses, unit="addresses",
                         window=config.window),
            ),
            summary=f"{own or 'a machine without an address'} ({text}) asked by ARP for {count(len(asked))} addresses "
                    f"within {config.window} s, limit {config.addresses}; {count(unknown)} of them never heard of, "
                    f"limit {config.unknown}",
            spoofable=not asker.interface, data_quality=view.quality[node], response=self.meta.response, quiet=60,
        )  # fmt: skip
