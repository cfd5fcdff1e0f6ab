"""Strobe: one source opens connections to one service outside without a pause, more than one a second all day."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector
from detectors.daily_most import DAY, DAYS, DailyMost
from detectors.day_counts import TICK_COUNT, DayCounts
from detectors.frame import FlowFrame
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.ledger import Entry
from detectors.mixing import hash_text
from detectors.round_frames import RoundFrames
from detectors.statement import PROTOCOLS, count
from schemas.addresses import unpack
from schemas.events import Capability
from schemas.finding import Evidence, Finding, Severity
from schemas.roles import SHARED

_PAIRS = 4096  # per node, 264 bytes each
_JUDGED = 64  # pairs of one node's tick
_QUIET_SOURCES = SHARED | {"resolver", "monitoring_scraper", "vulnerability_scanner"}


class StrobeConfig(DetectorConfig):
    """Limits of ``strobe``."""

    connections: Annotated[int, Field(ge=12)] = Field(
        86_400, description="connections of one source to one service outside within a day (count); one a second"
    )
    usual_factor: Annotated[float, Field(gt=1)] = Field(
        4.0, description="times the most that the workload opened to one service on any earlier day"
    )
    failed_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="refused and unanswered share above which no habit excuses it"
    )
    callers: Annotated[int, Field(ge=1)] = Field(
        3, description="sources of a node that do so with one service (count) above which it is popular, and low"
    )
    history: Annotated[int, Field(ge=1)] = Field(
        172_800, description="s that a node is watched before answered connections are medium; two of its days"
    )
    quiet_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (53, 123, 853), description="ports of DNS and NTP, which resolvers and time servers ask for others; not judged"
    )


class Strobe(ClaimDetector):
    """Fires per source and service outside. A workload that does so every day is held to its own days."""

    meta = Meta(
        id="strobe",
        title="Strobe",
        stage=1,
        severity="medium",
        techniques=("T1499", "T1071"),
        needs=Capability.PORTS | Capability.REVERSE,
        blind="strobes are not seen: the source does not report both directions of flows with ports",
        response="block_egress_destination",
    )
    Config: ClassVar[type[DetectorConfig]] = StrobeConfig
    config: StrobeConfig

    state_version: ClassVar[int] = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._watched = self.ledger("watched", Entry, 8, DAYS * DAY)
        self._habits = self.ledger("habits", DailyMost, 1024, DAYS * DAY)
        self._nodes: dict[int, DayCounts] = {}
        self._quiet = np.zeros(1 << 16, np.bool_)
        self._quiet[list(self.config.quiet_ports)] = True

    def observe(self, frames: RoundFrames) -> None:
        """Count the connections that ours opened to services outside."""
        frame = frames.groups
        if frame is None:
            return
        groups = frames.outwards
        counted = (frame.opened[groups] > 0) | (frame.failed[groups] > 0)
        needs = int(self.meta.needs)
        sees = frame.columns.by_place("capabilities") & needs == needs
        counted &= sees[frame.place[groups]]
        groups = groups[counted & ~self._quiet[frame.service[groups] & 0xFFFF]]
        if not len(groups):
            return
        rows, nodes = _tick_counts(frame, groups), frame.node[groups]
        # Groups of one node's tick stand together.
        edges = [0, *(positions(nodes[1:] != nodes[:-1]) + 1).tolist(), len(groups)]
        for first, last in itertools.pairwise(edges):
            node, tick = int(nodes[first]), int(frame.tick[groups[first]])
            self._tick(frames.names[node], node, tick, rows[first:last])

    def _tick(self, name: str, node: int, tick: int, rows: npt.NDArray[Any]) -> None:
        self._watched.touch(node, (0,), tick)
        counts = self._nodes.get(node)
        if counts is None:
            counts = self._nodes[node] = DayCounts(_PAIRS)
        slots = counts.gather(tick, rows)
        if not len(slots):
            return
        many = slots[counts.rows["opened"][slots].sum(axis=1) > self.config.connections]
        self.skip(node, len(many) - _JUDGED)
        for slot in many[:_JUDGED].tolist():
            callers = counts.callers(slot, self.config.connections)
            self._noted.append((name, node, tick, counts.rows[slot].copy(), callers))

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one source and service."""
        name, node, tick, row, callers = noted
        config = self.config
        protocol, port = PROTOCOLS[int(row["service"]) >> 16], int(row["service"]) & 0xFFFF
        by = view.endpoint(unpack(bytes(row["src"])), tick)
        to = view.endpoint(unpack(bytes(row["dst"])), tick, port=port, protocol=protocol)
        if _QUIET_SOURCES.intersection(by.roles) or view.identities.role(to.ip, tick) in ("internal", "shared"):
            return []
        opened, failed = int(row["opened"].sum()), int(row["failed"].sum())
        who = f"{by.namespace}/{by.workload}" if by.workload and by.namespace else by.ip
        habit = self._habits.touch(node, (hash_text(who),), tick)
        usual = habit.usual(tick // DAY)
        habit.learn(tick // DAY, opened)
        in_vain = failed > config.failed_share * opened
        limit = config.connections if in_vain else max(config.connections, int(config.usual_factor * usual))
        if opened <= limit:
            return []
        watched = self._watched.get(node, (0,), tick)
        known = watched is not None and tick - watched.since > config.history
        severity: Severity = self.meta.severity if (in_vain or known) and callers <= config.callers else "low"
        span = max(1, min(tick - int(row["since"]), DAY))
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=confidence(opened, limit), tick=tick, started=max(int(row["since"]), tick - DAY), node=name,
            subject=f"{by.ip}/{to.ip}:{port}/{protocol}@{name}", attackers=(by,), victims=(to,),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="connections", value=opened, limit=limit, unit="connections", window=DAY),
                Evidence(name="failed_share", value=round(failed / opened, 3), unit="", window=DAY),
                Evidence(name="usual_connections", value=usual, unit="connections", window=DAY),
                Evidence(name="callers", value=callers, limit=None, unit="sources that do so"),
            ),
            summary=f"{by.ip} opened {count(opened)} connections to {to.ip}:{port} within {span} s, limit "
                    f"{count(limit)}; {failed / opened:.0%} failed, at most {count(usual)} on earlier days",
            # Attempts alone could bear any address.
            spoofable=in_vain, data_quality=view.quality[name],
            response=self.meta.response if severity != "low" else None, quiet=600,
        )]  # fmt: skip

    def refused(self) -> dict[int, int]:
        """Return how many pairs were too many so far, by node; only nodes with any."""
        total = dict(super().refused())
        for node, counts in self._nodes.items():
            if counts.shed:
                total[node] = total.get(node, 0) + counts.shed
        return total

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the counts of each node."""
        nodes = sorted(self._nodes.items())
        own: dict[str, npt.NDArray[Any]] = {
            "nodes": np.array([[node, counts.shed] for node, counts in nodes], np.int64).reshape(-1, 2)
        }
        for node, counts in nodes:
            counted, waiting, tick = counts.snapshot()
            own |= {f"{node}.counted": counted, f"{node}.waiting": waiting, f"{node}.tick": np.array([tick])}
        return super().snapshot() | own

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        super().restore(state)
        self._nodes = {}
        for node, shed in state["nodes"].tolist():
            counts = self._nodes[node] = DayCounts(_PAIRS)
            counts.restore(state[f"{node}.counted"], state[f"{node}.waiting"], int(state[f"{node}.tick"][0]))
            counts.shed = shed


def _tick_counts(frame: FlowFrame, groups: I64) -> npt.NDArray[Any]:
    """Return what a round says of the pairs of some groups."""
    rows = np.empty(len(groups), TICK_COUNT)
    src, dst, service = frame.src[groups], frame.dst[groups], frame.service[groups]
    rows["service_key"] = combine(frame.hashes[dst], service.astype(np.uint64))
    rows["key"] = combine(frame.hashes[src], rows["service_key"])
    rows["src"], rows["dst"], rows["service"] = frame.addresses[src], frame.addresses[dst], service
    rows["opened"], rows["failed"] = frame.opened[groups], frame.failed[groups]
    return rows
