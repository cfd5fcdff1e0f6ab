"""Traffic anomaly: a workload's minutes are far from what it, and its kind, usually do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import Detector, DetectorConfig, Meta, TickView
from detectors.features import Feature
from detectors.models import week
from detectors.models.anomaly_finding import Judgement, ramp_finding, step_finding
from detectors.models.memory import HELD, PERSISTENCE, Memory
from detectors.models.scoring import Scored, score
from detectors.models.windows import LEAST, LOGS, Minute, minutes
from schemas.events import Capability
from schemas.finding import Finding

I64 = npt.NDArray[np.int64]


class TrafficAnomalyConfig(DetectorConfig):
    """Limits of ``traffic_anomaly``."""

    warm_up: Annotated[int, Field(ge=5, le=HELD)] = Field(
        10,
        description="windows (minutes) learned before a workload is judged; fewer give no spread worth the name, and a "
        "new baseline starts from 16",
    )
    limit: Annotated[float, Field(gt=1, le=30)] = Field(
        6.0, description="robust z above which a window is odd; wider while the history is short"
    )
    persistence: Annotated[int, Field(ge=1, le=PERSISTENCE)] = Field(
        3, description="odd windows (count) of the last five that make a finding; a burst is none"
    )
    tail_margin: Annotated[float, Field(ge=1)] = Field(
        1.25, description="times the workload's own 99 % score that an alert must exceed, up to three times the limit"
    )
    first_week_rise: Annotated[float, Field(gt=1)] = Field(
        20.0, description="times the first hour's medians that a baseline may creep up to while hours are not known"
    )
    rise: Annotated[float, Field(gt=1)] = Field(
        4.0, description="times the first week's highest median of that hour that a baseline may creep up to"
    )
    patience: Annotated[int, Field(ge=20)] = Field(
        120, description="odd windows (minutes) without any rule's objection after which a new level is accepted"
    )
    workloads: Annotated[int, Field(ge=1, le=65536)] = Field(
        4096, description="workloads kept per rollup partition (count), about 10 kB each"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the trees")


class TrafficAnomaly(Detector):
    """Judges one window of 60 s per workload against its own past, its hour and its role.

    Only rises count: a service that falls silent is an outage, not an attack. Every window is scored before
    it is learned; what is odd, or comes from an address that a rule named, is not learned.
    """

    meta = Meta(
        id="traffic_anomaly",
        title="Unusual traffic of a workload",
        stage=2,
        severity="medium",
        techniques=("T1498", "T1041"),
        needs=Capability.PACKETS,
        blind="traffic anomalies are not seen: the source does not count packets and bytes",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = TrafficAnomalyConfig
    config: TrafficAnomalyConfig
    order: ClassVar[int] = 1

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._memory = Memory(self.config.workloads, self.config.patience, self.config.seed)

    def features(self) -> Sequence[Feature]:
        """None: the minute rows come from stage 1 as they are."""
        return ()

    @property
    def shed(self) -> int:
        """Workloads refused because no room was left, and windows that came after a later one."""
        return self._memory.store.refused + self._memory.late

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for the minutes that closed, ordered by (minute, subject)."""
        if view.workloads is None:
            return []
        return [f for minute in minutes(view.workloads, view.identities) for f in self._judge(view, minute)]

    def _judge(self, view: TickView, minute: Minute) -> list[Finding]:
        memory, config = self._memory, self.config
        rows, places = memory.admit(minute)
        named = np.array([not view.suspects.isdisjoint(minute.members[p]) for p in places], np.bool_)
        young = memory.store["seen"][rows] < config.warm_up
        fresh = young & ~named
        memory.learn(rows[fresh], minute, minute.x[places[fresh]])
        scored = score(memory.store, memory.forest_of, rows[~young], places[~young], minute, config.limit,
                       config.tail_margin)  # fmt: skip
        odd = scored.score > scored.limit
        memory.store["odd"][scored.rows] |= odd.astype(np.uint8)
        memory.store["alarming"][scored.rows] |= (scored.score > scored.own_limit).astype(np.uint8)
        excess, reference = self._creep(minute, scored)
        creeping = excess.max(axis=1, initial=-np.inf) > 0
        findings = self._findings(view, minute, scored, creeping, excess, reference)
        memory.remember(minute, scored, odd | creeping, named[~young])
        return findings

    def _creep(self, minute: Minute, scored: Scored) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return how far medians have crept past the reference, -inf where that is of no interest; and it."""
        limits = (float(np.log(self.config.first_week_rise)), float(np.log(self.config.rise)))
        excess, reference = week.ramp(self._memory.store, scored.rows, minute.minute, scored.center, limits)
        volume = np.where(LOGS, np.expm1(scored.center), 0.0)
        return np.where(LOGS & (volume >= LEAST), excess, -np.inf), reference

    def _findings(self, view: TickView, minute: Minute, scored: Scored, creeping: npt.NDArray[np.bool_],
                  excess: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> list[Finding]:  # fmt: skip
        bits = self._memory.store["alarming"][scored.rows]
        lasting = _ones(bits)
        fires = (bits & 1 > 0) & (lasting >= self.config.persistence)
        findings = []
        for place in np.flatnonzero(fires | creeping).tolist():
            at = int(scored.places[place])
            judged = Judgement(
                minute.minute, minute.names[at], minute.members[at], minute.x[at], scored.center[place],
                scored.spread[place], scored.up[place], float(scored.score[place]), float(scored.own_limit[place]),
                float(scored.tree_score[place]), int(lasting[place]),
            )  # fmt: skip
            if fires[place]:
                findings.append(step_finding(self.meta, view, judged))
            else:
                findings.append(ramp_finding(self.meta, view, judged, excess[place], reference[place]))
        return findings

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return baselines by workload name, and the samples that the trees are grown from."""
        return self._memory.snapshot()

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self._memory.restore(state)


def _ones(bits: npt.NDArray[Any]) -> I64:
    counts: I64 = np.unpackbits(bits.astype(np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int64)
    return counts
