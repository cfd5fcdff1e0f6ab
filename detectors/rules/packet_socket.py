"""Packet socket: a program reads and writes raw frames."""

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

# Programs that work with packet sockets by design: address leases, link discovery, failover, network plugins.
_USUAL = (
    "sluicegate*", "dhclient*", "dhcpcd*", "udhcpc*", "NetworkManager*", "systemd-network*", "lldpd*", "keepalived*",
    "wpa_supplicant*", "hostapd*", "metallb*", "speaker*", "kube-vip*", "cilium*", "calico*", "arping*",
)  # fmt: skip


class PacketSocketConfig(DetectorConfig):
    """Limits of ``packet_socket``."""

    owners: tuple[Pattern, ...] = Field(
        _USUAL, description="shell patterns of programs that may have packet sockets on a node"
    )
    pod_owners: tuple[Pattern, ...] = Field(
        ("sluicegate*",), description="shell patterns of programs that may have packet sockets inside pods"
    )


class PacketSocket(ClaimDetector):
    """Fires per program and interface with a packet socket that no pattern allows."""

    meta = Meta(
        id="packet_socket",
        title="Packet socket",
        stage=1,
        severity="medium",
        techniques=("T1040", "T1205"),
        needs=Capability.HOST,
        blind="packet sockets are not seen: the source does not report the host's sockets",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = PacketSocketConfig
    config: PacketSocketConfig

    def observe(self, frames: RoundFrames) -> None:
        """Take in which sockets there are."""
        if frames.link is None:
            return
        for piece, claims, skipped in host_claims(frames.link, frames.names, LinkClaim.PACKET_SOCKET):
            self.skip(piece.node, skipped)
            self._noted += claims

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one socket that may not be."""
        claim: HostClaim = noted
        if matches(claim.owner, self.config.pod_owners if claim.in_pod else self.config.owners):
            return []
        endpoint = claim.endpoint(view)
        where = f"in the pod with {endpoint.ip}" if claim.in_pod else "on the node"
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=0.8 if claim.in_pod else 0.6, tick=claim.tick, started=claim.tick, node=claim.node,
            subject=claim.subject(), attackers=(endpoint,), victims=(endpoint,), techniques=self.meta.techniques,
            evidence=(Evidence(name="packet_sockets", value=1, limit=0, unit="sockets"),),
            summary=f"{claim.owner or 'an unnamed program'!r} {where} reads raw frames of "
                    f"{claim.interface or 'all interfaces'}",
            spoofable=False, data_quality=view.quality[claim.node], response=self.meta.response, quiet=600,
        )]  # fmt: skip
