"""ARP spoofing: a machine that claims another's address, and which of the two it is."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from detectors.address_claims import ClaimBook, Signs, Suspicion
from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import ClaimDetector
from detectors.impostor import Impostor, impostors
from detectors.ledger import Key
from detectors.round_frames import RoundFrames
from detectors.statement import mac_number, mac_text
from schemas.events import Capability, LinkClaim
from schemas.finding import Finding

Mac = Annotated[str, Field(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]


class ArpSpoofConfig(DetectorConfig):
    """Limits of ``arp_spoof``."""

    pushes: Annotated[int, Field(ge=2)] = Field(
        2,
        description="seconds with an answer that its only receiver had not asked for; caches ask (count)",
    )
    turns: Annotated[int, Field(ge=2)] = Field(
        3, description="changes between claimants within the window; a failover with its return is two (count)"
    )
    window: Annotated[int, Field(ge=10)] = Field(60, description="s; spoofing tools repeat every 1 to 10 s")
    settle: Annotated[int, Field(ge=1)] = Field(
        20, description="s without a word of the earlier claimant after which an address has simply moved"
    )
    proxies: tuple[Mac, ...] = Field(
        ("ee:ee:ee:ee:ee:ee",),
        description="hardware addresses that answer for all others (Calico: known)",
    )


class ArpSpoof(ClaimDetector):
    """Fires per claimant when several signs agree; a claim that only moved from one machine to another has none.

    The signs are listed in ``docs/detectors/arp_spoof.md``; ``detectors.address_claims`` gathers them.
    """

    meta = Meta(
        id="arp_spoof",
        title="ARP spoofing",
        stage=1,
        severity="high",
        techniques=("T1557.002", "T1040"),
        needs=Capability.ARP,
        blind="ARP spoofing is not seen: the source does not report ARP",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = ArpSpoofConfig
    config: ArpSpoofConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        own = self.config
        signs = Signs(own.pushes, own.turns, own.window, own.settle, own_addresses=True)
        proxies = frozenset(mac_number(text) for text in own.proxies)
        self._book = ClaimBook(self, LinkClaim.ARP_REQUEST, LinkClaim.ARP_REPLY, signs, proxies)

    def observe(self, frames: RoundFrames) -> None:
        """Take in ARP claims, then the traffic of addresses that several claim."""
        claimed = self._book.take(frames.link) if frames.link is not None else {}
        if frames.flow is not None:
            self._book.look_at_traffic(frames.flow)
        self._noted += [(frames.names[node], node, tick, keys) for (node, tick), keys in claimed.items()]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return one finding per impostor of a node's tick."""
        name, node, tick, keys = noted
        found = self._suspicions(node, tick, keys)
        return [self._finding(view, name, tick, impostor) for impostor in impostors(found, view, name, tick)]

    def _suspicions(self, node: int, tick: int, keys: list[Key]) -> list[Suspicion]:
        return [suspicion for key in keys for suspicion in self._book.suspects(node, tick, key)]

    def _finding(self, view: TickView, node: str, tick: int, impostor: Impostor) -> Finding:
        config = self.config
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=impostor.severity,
            confidence=round(min(0.99, 0.1 + impostor.score / 8), 3), tick=tick,
            started=min(c.since for c in impostor.claims), node=node, subject=f"{mac_text(impostor.mac)}@{node}",
            attackers=(impostor.endpoint(view, node, tick),), victims=impostor.victims(view, tick),
            techniques=self.meta.techniques, evidence=impostor.evidence(config.pushes, config.turns, config.window),
            summary=impostor.summary(),
            # The claim itself is false; without a known interface so may be its hardware address.
            spoofable=not impostor.lead.interface, data_quality=view.quality[node], response=self.meta.response,
            quiet=120,
        )  # fmt: skip
