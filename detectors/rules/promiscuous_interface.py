"""Promiscuous interface: a network interface takes in frames that are not for it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import ClaimDetector
from detectors.host_claims import HostClaim, host_claims, matches
from detectors.round_frames import RoundFrames
from schemas.events import Capability, LinkClaim
from schemas.finding import Evidence, Finding

Pattern = Annotated[str, Field(min_length=1, max_length=120)]


class PromiscuousInterfaceConfig(DetectorConfig):
    """Limits of ``promiscuous_interface``."""

    interfaces: tuple[Pattern, ...] = Field(
        ("veth*", "cali*", "lxc*", "cni*", "docker*", "br*", "vnet*", "tap*", "ovs*", "bond*"),
        description="shell patterns of the node's interfaces that may be so; the kernel sets every bridge port",
    )
    owners: tuple[Pattern, ...] = Field(
        ("sluicegate*",), description="shell patterns of programs that may listen, in pods too"
    )


class PromiscuousInterface(ClaimDetector):
    """Fires per interface that is promiscuous and need not be. Inside a pod that is always so."""

    meta = Meta(
        id="promiscuous_interface",
        title="Promiscuous interface",
        stage=1,
        severity="medium",
        techniques=("T1040",),
        needs=Capability.HOST,
        blind="promiscuous interfaces are not seen: the source does not report the host's interfaces",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = PromiscuousInterfaceConfig
    config: PromiscuousInterfaceConfig

    def observe(self, frames: RoundFrames) -> None:
        """Take in what interfaces are set to."""
        if frames.link is None:
            return
        for piece, claims, skipped in host_claims(frames.link, frames.names, LinkClaim.PROMISCUOUS):
            self.skip(piece.node, skipped)
            self._noted += claims

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one interface that may not be promiscuous."""
        claim: HostClaim = noted
        may = matches(claim.owner, self.config.owners) if claim.owner else False
        if may or (not claim.in_pod and matches(claim.interface, self.config.interfaces)):
            return []
        endpoint = claim.endpoint(view)
        where = f"in the pod with {endpoint.ip}" if claim.in_pod else "of the node"
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=0.9 if claim.in_pod else 0.6, tick=claim.tick, started=claim.tick, node=claim.node,
            subject=claim.subject(), attackers=(endpoint,), victims=(endpoint,), techniques=self.meta.techniques,
            evidence=(Evidence(name="promiscuous", value=1, limit=0, unit="interfaces"),),
            summary=f"interface {claim.interface or 'without a name'!r} {where} takes in frames of others"
                    + (f", set by {claim.owner!r}" if claim.owner else ""),
            spoofable=False, data_quality=view.quality[claim.node], response=self.meta.response, quiet=600,
        )]  # fmt: skip
