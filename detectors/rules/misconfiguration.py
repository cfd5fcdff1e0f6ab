"""Misconfiguration: what flows show to be open or unenforced, against what the inventory says of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import ClaimDetector
from detectors.exposure import CONTROL_PLANE, CONTROL_PORTS, control_plane, exposures
from detectors.frame import FlowFrame
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.judged_pairs import JudgedPairs
from detectors.ledger import Entry
from detectors.mixing import hash_text
from detectors.policy_check import Connection, PolicyCheck
from detectors.policy_signs import IPV6_OPEN, NO_DEFAULT_DENY, NOT_ENFORCED, OPEN_HOLE, PolicySigns
from detectors.round_frames import RoundFrames
from detectors.sign import Sign
from detectors.statement import PROTOCOLS
from schemas.addresses import unpack
from schemas.events import Capability
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.policy.evaluator import Flow

# Pairs of one node that are looked at per tick, and new ones of them that are judged, about 0.1 ms each; the others
# wait for their next connection.
_LOOKED_AT, _PER_TICK = 2048, 32
_CONFIDENCE: dict[Severity, float] = {"high": 0.9, "medium": 0.8, "low": 0.6}

_TECHNIQUES = {
    NOT_ENFORCED: "T1562.004", NO_DEFAULT_DENY: "T1046", OPEN_HOLE: "T1048", IPV6_OPEN: "T1562.004",
    "node_port_exposed": "T1133", "load_balancer_open": "T1133", **CONTROL_PLANE,
}  # fmt: skip


class _Pair(NamedTuple):
    """One source that exchanged payload with one service in a tick."""

    node: int
    name: str  # of the node
    tick: int
    key: int
    begun: int  # s since epoch, of its first connection in this tick
    flow: Flow


@dataclass
class _Told(Entry):
    """Something that is wrong: when it was last told, s since epoch."""

    told: int = 0


class MisconfigurationConfig(DetectorConfig):
    """Limits of ``misconfiguration``."""

    settle: Annotated[int, Field(ge=0)] = Field(
        60, description="s after a change of policies, labels or pods in which enforcement may lag behind"
    )
    again: Annotated[int, Field(ge=60)] = Field(
        86_400, description="s after which the same is told again; people repair these"
    )
    namespaces: tuple[str, ...] = Field(
        ("kube-system",),
        description="namespaces of the control plane: they may reach it, and need no default deny",
    )
    resolvers: dict[str, str] = Field(
        {"k8s-app": "kube-dns"}, description="labels of the cluster's resolvers, which ask the outside by profession"
    )
    exposed_label: Annotated[str, Field(min_length=1, max_length=317)] = Field(
        "sluicegate.io/exposed", description="label of Services whose node ports shall be reached from outside; "
                                             "any value but false"
    )  # fmt: skip


class Misconfiguration(ClaimDetector):
    """Fires per wrong thing, at the first conversation that shows it. Silent where the inventory says nothing."""

    meta = Meta(
        id="misconfiguration",
        title="Misconfiguration",
        stage=1,
        severity="medium",
        techniques=tuple(dict.fromkeys(_TECHNIQUES.values())),
        needs=Capability.PORTS | Capability.PAYLOAD | Capability.REVERSE,
        blind="misconfigurations are not seen: the source does not report payload bytes both ways",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = MisconfigurationConfig
    config: MisconfigurationConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._judged = JudgedPairs()
        self._done: dict[tuple[int, int], list[int]] = {}  # keys judged now; empty between ticks
        self._told = self.ledger("told", _Told, 2048, self.config.again)

    def observe(self, frames: RoundFrames) -> None:
        """Pick pairs that conversed and were not judged lately."""
        groups, identities = frames.groups, frames.identities
        if groups is None or not len(identities):
            return
        chosen = (groups.exchanged > 0) & ~groups.copy
        if not identities.cluster.policies.policies_told:
            chosen &= np.isin(groups.service & 0xFFFF, [*CONTROL_PORTS, *sorted(identities.cluster.offered_ports)])
        talked = positions(chosen)
        nodes = groups.node[talked]
        for node in np.unique(nodes).tolist():
            mine = talked[nodes == node]
            tick = int(groups.tick[mine[0]])
            # Who stands behind many others in one tick stands before them in another.
            self._pick(groups, frames.names[node], node, tick, np.roll(mine, tick * _LOOKED_AT)[:_LOOKED_AT])

    def _pick(self, groups: FlowFrame, name: str, node: int, tick: int, mine: I64) -> None:
        ends = combine(groups.hashes[groups.src[mine]], groups.hashes[groups.dst[mine]])
        keys = combine(ends, groups.service[mine].astype(np.uint64))
        fresh = positions(self._judged.fresh(node, tick, keys))[:_PER_TICK]
        begun = groups.detail("conn_start", mine[fresh])
        for at, key, start in zip(mine[fresh].tolist(), keys[fresh].tolist(), begun.tolist(), strict=True):
            self._noted.append(_Pair(node, name, tick, key, start // 10**9, _flow(groups, at)))

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for what was picked, and note that it was judged."""
        found = super().evaluate(view)
        done, self._done = self._done, {}
        for (node, tick), keys in done.items():
            self._judged.add(node, tick, keys)
        return found

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return findings about one pair."""
        find, flow = view.identities.find, noted.flow
        connection = Connection(flow, find(flow.source, noted.tick), find(flow.destination, noted.tick))
        signs = [
            *self._of_policies(view, noted, connection),
            *control_plane(view, connection, noted.tick, self.config.namespaces),
            *exposures(view, connection, noted.tick, self.config.exposed_label),
        ]
        return [self._finding(view, noted, sign) for sign in signs if self._is_news(noted, sign)]

    def _of_policies(self, view: TickView, pair: _Pair, connection: Connection) -> list[Sign]:
        found: list[Sign] = []
        signs = PolicySigns(connection, pair.tick, self.config.namespaces, self.config.resolvers)
        if view.identities.cluster.policies.policies_told and signs.is_plain(view):
            check = PolicyCheck(view.identities, connection, pair.tick)
            if pair.begun < check.changed + self.config.settle:
                return []  # and it is judged again when they converse again
            found = signs.of(view, check)
        self._done.setdefault((pair.node, pair.tick), []).append(pair.key)
        return found

    def _is_news(self, pair: _Pair, sign: Sign) -> bool:
        key = (hash_text(f"{sign.what}/{sign.object}"),)
        known = self._told.get(pair.node, key, pair.tick)
        if known is not None and pair.tick - known.told < self.config.again:
            return False
        self._told.touch(pair.node, key, pair.tick).told = pair.tick
        return True

    def _finding(self, view: TickView, pair: _Pair, sign: Sign) -> Finding:
        flow = pair.flow
        source: Endpoint = view.endpoint(flow.source, pair.tick)
        target = view.endpoint(flow.destination, pair.tick, port=flow.port, protocol=flow.protocol)
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=sign.severity,
            confidence=_CONFIDENCE[sign.severity], tick=pair.tick, started=pair.tick, node=pair.name,
            subject=f"{sign.what}/{sign.object}@{pair.name}", victims=(target, source),
            techniques=(_TECHNIQUES[sign.what],),
            evidence=(Evidence(name=sign.what, value=1, limit=0, unit=sign.detail[:200]),),
            summary=sign.summary, spoofable=False, data_quality=view.quality[pair.name], quiet=600,
        )  # fmt: skip

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the ledgers and what was judged."""
        return super().snapshot() | self._judged.snapshot()

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        super().restore(state)
        self._judged.restore(state)


def _flow(groups: FlowFrame, at: int) -> Flow:
    source, target = (unpack(bytes(groups.addresses[ends[at]])) for ends in (groups.src, groups.dst))
    service = int(groups.service[at])
    return Flow(source, target, PROTOCOLS.get(service >> 16, str(service >> 16)), service & 0xFFFF)
