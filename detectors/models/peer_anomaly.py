"""Peer anomaly: a workload begins to talk to peers that it never talked to."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import Detector, DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import address_text
from detectors.features import Feature
from detectors.hashing import hash_text
from detectors.models.forest import RoleForest
from detectors.models.new_edges import NewEdges
from detectors.models.peers import FEATURES, Peer, PeerMemory, Surprise
from detectors.models.windows import workload_name
from detectors.round_frames import RoundFrames
from detectors.statement import count
from detectors.tally import Address, NodeTally, Tally
from schemas.addresses import unpack
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding, Severity
from schemas.identity import IdentityTable
from schemas.roles import SHARED

_MEASURE = "peer"
_UNUSUAL_BY_PROFESSION = SHARED | {"monitoring_scraper", "vulnerability_scanner", "resolver"}
_TREE_RELIEF = 0.75  # share of the limit that is enough where the trees agree
_LEARN_PER_TICK = 8  # samples; the trees cost 50 µs each
_FEW = 8  # conversations told of; who tells of fewer has other trees


class PeerAnomalyConfig(DetectorConfig):
    """Limits of ``peer_anomaly``."""

    learning: Annotated[int, Field(ge=60)] = Field(
        86_400, description="s that a workload is watched before its peers are judged; a day holds its daily jobs"
    )
    least: Annotated[int, Field(ge=1)] = Field(
        20, description="conversations it must have told of by then (count); fewer give no habit"
    )
    limit: Annotated[float, Field(gt=1)] = Field(
        24.0, description="bits of surprise of the new peers within the window; one peer gives at most 14"
    )
    window: Annotated[int, Field(ge=60)] = Field(600, description="s in which new peers are looked at together")
    patience: Annotated[int, Field(ge=1)] = Field(
        3, description="hours (count) in which a doubted peer is met before it becomes a habit"
    )
    workloads: Annotated[int, Field(ge=1, le=65536)] = Field(
        4096, description="workloads kept per rollup partition (count), about 3 kB each"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the trees")


class _Met(NamedTuple):
    source: Address
    target: Address
    port: int


class PeerAnomaly(Detector):
    """Judges whom a workload begins to talk to against whom it has talked to, replicas of all nodes together.

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
    Config: ClassVar[type[DetectorConfig]] = PeerAnomalyConfig
    config: PeerAnomalyConfig
    order: ClassVar[int] = 1

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        own = self.config
        self._edges = NewEdges()
        self._counted: list[NodeTally] = []
        self._memory = PeerMemory(own.workloads, own.window, own.patience)
        self._forests = [RoleForest(2 * own.seed + few, FEATURES) for few in (0, 1)]

    def features(self) -> Sequence[Feature]:
        """None: conversations come as tallies."""
        return ()

    def observe(self, frames: RoundFrames) -> None:
        """Tell of conversations that were not told of in this hour."""
        if frames.groups is None:
            return
        for edge in self._edges.take(frames.groups, frames.identities):
            source, target = _halves(edge.source), _halves(edge.target)
            name = workload_name(frames.identities, unpack(edge.source), edge.tick) or unpack(edge.source)
            what = Tally(_MEASURE, name, source, target, edge.service)
            self._counted.append(NodeTally(edge.node, edge.tick, what, 1))

    def tallies(self) -> Sequence[NodeTally]:
        """Return the conversations."""
        counted, self._counted = self._counted, []
        return counted

    def refused(self) -> Mapping[int, int]:
        """Return how many conversations were too many to tell of, by node."""
        return self._edges.left_out

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per workload with too many surprising peers."""
        if view.tallies is None:
            return []
        found, samples = [], []
        for name, rows in view.tallies.of_measures((_MEASURE,)):
            met = [_Met(what.source, what.target, what.port) for what, _ in rows]
            finding, sample = self._judge(view, view.tallies.tick, name, met)
            if finding is not None:
                found.append(finding)
            elif sample is not None:
                samples.append(sample)
        # Evenly over the names, so that the same few do not teach for all.
        for few, values in samples[:: -(-len(samples) // _LEARN_PER_TICK) or 1]:
            self._forests[few].learn(values)
        return found

    def _judge(self, view: TickView, tick: int, name: str,
               met: Sequence[_Met]) -> tuple[Finding | None, tuple[bool, npt.NDArray[np.float64]] | None]:  # fmt: skip
        memory, config = self._memory, self.config
        row = memory.admit(name, tick)
        if row < 0:
            return None, None
        suspect = any(address_text(m.source) in view.suspects for m in met)
        memory.settle(row, tick, doubtful=suspect)
        if suspect:
            memory.store["fired"][row] = tick
        before = memory.surprise(row, tick)
        cold = before.watched < config.learning or before.tells < config.least
        new = []
        for one in met:
            peer = _peer(view.identities, one, tick)
            if memory.known(row, peer, tick):
                continue
            if cold and not suspect:
                memory.learn(row, peer, tick)
            elif not cold and memory.meet(row, peer, tick):
                new.append(one)
        if cold or _UNUSUAL_BY_PROFESSION.intersection(view.roles(address_text(met[0].source), tick)):
            return None, None
        now = memory.surprise(row, tick)
        few, sample = now.tells < _FEW * config.least, now.sample(config.limit)
        needed, tree_score = self._needed(now, few, sample)
        if not new or now.bits <= needed:
            return None, (few, sample)
        memory.store["fired"][row] = tick
        return self._finding(view, tick, name, new, now, (needed, tree_score)), None

    def _needed(self, now: Surprise, few: bool, sample: npt.NDArray[np.float64]) -> tuple[float, float]:
        """Return the bits that must be exceeded, and the score of the trees where they were asked."""
        limit, forest = self.config.limit, self._forests[few]
        # The trees alone are no reason: they only lower the limit for what deviates in several ways at once.
        if not _TREE_RELIEF * limit < now.bits <= limit:
            return limit, 0.0
        score = forest.score(sample)
        return (_TREE_RELIEF * limit if score > forest.limit() else limit), score

    def _finding(self, view: TickView, tick: int, name: str, new: Sequence[_Met], now: Surprise,
                 judged: tuple[float, float]) -> Finding:  # fmt: skip
        needed, tree_score = judged
        sources = list(dict.fromkeys(m.source for m in new))[:MAX_ENDPOINTS]
        attackers = tuple(view.endpoint(address_text(s), tick) for s in sources)
        victims = tuple(
            view.endpoint(address_text(m.target), tick, port=m.port & 0xFFFF or None,
                          protocol="UDP" if m.port >> 16 == 17 else "TCP")
            for m in new[:MAX_ENDPOINTS]
        )  # fmt: skip
        # Without an inventory a restarted pod is somebody else, so less is sure.
        severity: Severity = self.meta.severity if attackers[0].identity == "known" else "low"
        inside = any(not ipaddress.ip_address(v.ip).is_global for v in victims)
        evidence = [
            Evidence(name="surprise", value=round(now.bits, 1), limit=needed, unit="bits", window=self.config.window),
            Evidence(name="new_peers", value=now.new_peers, unit="peers", window=self.config.window),
            Evidence(name="new_ports", value=now.new_ports, unit="ports", window=self.config.window),
            Evidence(name="new_namespaces", value=now.new_namespaces, unit="namespaces", window=self.config.window),
            Evidence(name="usual_new_share", value=round(now.rate, 4), unit="of its conversations"),
            Evidence(name="watched", value=now.watched, unit="s"),
        ]
        if tree_score:
            evidence.append(Evidence(name="tree_score", value=round(tree_score, 4)))
        named = ", ".join(dict.fromkeys(f"{v.ip}:{v.port}" if v.port else v.ip for v in victims[:3]))
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=min(0.9, confidence(now.bits, needed)),  # unusual is not yet hostile
            tick=tick, started=tick - self.config.window, node="", subject=name, attackers=attackers, victims=victims,
            techniques=("T1021",) if inside else ("T1071",), evidence=tuple(evidence),
            summary=f"{name} began to talk to {count(now.new_peers)} new peers within {self.config.window} s, lately "
                    f"{named}: {now.bits:.1f} bits of surprise, limit {needed:g}; usually {now.rate:.1%} of its "
                    f"conversations are new",
            # Payload went both ways, so the address was truly the sender's.
            spoofable=False, data_quality=view.quality[""], response=self.meta.response, quiet=self.config.window,
        )  # fmt: skip

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return conversations told of (stage 1), peers by workload and what the trees are grown from (stage 2)."""
        state = {f"edges.{name}": values for name, values in self._edges.snapshot().items()}
        state |= {f"memory.{name}": values for name, values in self._memory.snapshot().items()}
        for number, forest in enumerate(self._forests):
            state |= {f"forest{number}.{name}": values for name, values in forest.snapshot().items()}
        return state

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""

        def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}

        self._edges.restore(under("edges."))
        self._memory.restore(under("memory."))
        for number, forest in enumerate(self._forests):
            forest.restore(under(f"forest{number}."))


def _peer(identities: IdentityTable, met: _Met, tick: int) -> Peer:
    ip = address_text(met.target)
    role, namespace = identities.role(ip, tick), ""
    if role == "external" or (role == "unknown" and ipaddress.ip_address(ip).is_global):
        name = "outside"
    elif role == "shared":
        name = "nodes"
    else:
        name = workload_name(identities, ip, tick) or ip
        if name == ip:
            # What the inventory does not know may be gone tomorrow; its network remains. IPv4 is mapped: ::ffff:0:0/96.
            high, low = met.target
            name = f"{high}" if low >> 32 != 0xFFFF or high else f"{low >> 8}/24"
        else:
            namespace = name.split("/", 1)[0]
    return Peer(hash_text(f"{name} {met.port}"), hash_text(str(met.port)), hash_text(namespace) if namespace else 0)


def _halves(packed: bytes) -> Address:
    return int.from_bytes(packed[:8]), int.from_bytes(packed[8:])
