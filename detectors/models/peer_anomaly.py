"""Peer anomaly: a workload begins to talk to peers that it never talked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import address_of, address_text
from detectors.mixing import hash_text
from detectors.models.new_edges import PAIRS, WIDTH, new_edges
from detectors.models.novelty import Novelty, NoveltyConfig
from detectors.models.peers import Peer, Surprise
from detectors.models.windows import workload_name
from detectors.outside import is_outside_halves, is_outside_text
from detectors.round_frames import RoundFrames
from detectors.statement import count
from detectors.tally import Address, NodeTally, Tally
from detectors.timed_memory import TimedMemory
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Endpoint, Severity
from schemas.identity import IdentityTable

_UDP = 17


class PeerAnomalyConfig(NoveltyConfig):
    """Limits of ``peer_anomaly``; what is new are peers."""


class PeerAnomaly(Novelty):
    """Judges whom a workload begins to talk to.

    A peer is a workload or Service where the inventory knows it, nodes are one peer, the outside is one peer for each
    port; what nobody knows is told apart by /24. Conversations are scored before they are learned.
    """

    meta = Meta(
        id="peer_anomaly",
        title="Unusual peers of a workload",
        stage=2,
        severity="medium",
        techniques=("T1021", "T1071"),
        needs=Capability.PORTS | Capability.PAYLOAD | Capability.REVERSE,
        blind="unusual peers are not seen: the source does not report payload bytes both ways",
        response=None,
    )
    Config: ClassVar[type[NoveltyConfig]] = PeerAnomalyConfig
    measure: ClassVar[str] = "peer"
    things: ClassVar[tuple[str, str, str]] = ("peers", "ports", "namespaces")
    pairs: ClassVar[int] = PAIRS
    width: ClassVar[int] = WIDTH

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._peers: TimedMemory[tuple[str, str]] = TimedMemory()

    def observe(self, frames: RoundFrames) -> None:
        """Tell of conversations that were not told of in this hour."""
        if frames.groups is None:
            return
        for edge in new_edges(self._newcomers, frames.groups, frames.identities):
            name = self.subject(frames.identities, edge.source, edge.tick)
            what = Tally(self.measure, name, address_of(edge.source), address_of(edge.target), edge.service)
            self._counted.append(NodeTally(edge.node, edge.tick, what, 1))

    def peer(self, identities: IdentityTable, what: Tally, tick: int) -> Peer:
        """Return a peer by what is known of its address."""
        port = what.port
        name, namespace = self._peers.get(
            identities, what.target, tick, lambda: self._peer(identities, what.target, tick)
        )
        return Peer(hash_text(f"{name} {port}"), hash_text(str(port)), hash_text(namespace) if namespace else 0)

    @staticmethod
    def _peer(identities: IdentityTable, target: Address, tick: int) -> tuple[tuple[str, str], int, int]:
        """Return what stands for an address, and its namespace; and from when to before when that is so."""
        ip = address_text(target)
        role, namespace = identities.role(ip, tick), ""
        if role == "external" or (role == "unknown" and is_outside_halves(*target)):
            name = "outside"
        elif role == "shared":
            name = "nodes"
        else:
            name = workload_name(identities, ip, tick) or ip
            if name == ip:
                name = _network(target)
            else:
                namespace = name.split("/", 1)[0]
        return (name, namespace), *identities.span(ip, tick)

    def told(self, view: TickView, tick: int, new: Sequence[Tally],
             now: Surprise) -> tuple[tuple[Endpoint, ...], tuple[str, ...], Severity, str]:  # fmt: skip
        """Return the peers that were met just now."""
        victims = tuple(
            view.endpoint(address_text(what.target), tick, port=what.port & 0xFFFF or None,
                          protocol="UDP" if what.port >> 16 == _UDP else "TCP")
            for what in new[:MAX_ENDPOINTS]
        )  # fmt: skip
        inside = any(not is_outside_text(v.ip) for v in victims)
        named = ", ".join(dict.fromkeys(f"{v.ip}:{v.port}" if v.port else v.ip for v in victims[:3]))
        words = f"began to talk to {count(now.new_peers)} new peers, lately {named}"
        return victims, ("T1021",) if inside else ("T1071",), self.meta.severity, words


def _network(address: Address) -> str:
    """Return the network of an address that the inventory does not know: it may be gone tomorrow, that remains."""
    high, low = address
    mapped = high == 0 and low >> 32 == 0xFFFF  # IPv4 as ::ffff:a.b.c.d
    return f"{low >> 8}/24" if mapped else f"{high}/64"
