"""Traffic anomaly: a workload's minutes are far from what it, and its kind, usually do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import Detector, DetectorConfig, Meta, TickView
from detectors.features import Feature
from detectors.models import baseline, drift, week
from detectors.models.anomaly_finding import Judgement, ramp_finding, step_finding
from detectors.models.forest import RoleForest
from detectors.models.roles import ROLES, role_of
from detectors.models.store import Quantity, WorkloadStore
from detectors.models.windows import COUNT, LEAST, LOGS, SECONDS, Minute, minutes
from schemas.events import Capability
from schemas.finding import Finding

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_CLIP = 10.0  # robust z beyond which more is not worse, for trees and drift
_TREE_RELIEF = 0.75  # share of the limit that is enough where the trees agree; at a half, noise suffices
_HELD = 16  # windows kept aside while a workload is odd; a new baseline starts from them
_RUN_SCORES = 8  # scores of one odd spell that enter the tail: under 1 % of a day, so one spell never lifts it
_LEARN_PER_ROLE = 32  # samples per role and minute: the trees cost 50 µs each and need no more
_PERSISTENCE = 5  # windows looked back on


class TrafficAnomalyConfig(DetectorConfig):
    """Limits of ``traffic_anomaly``."""

    warm_up: Annotated[int, Field(ge=5, le=_HELD)] = Field(
        10,
        description="windows (minutes) learned before a workload is judged; fewer give no spread worth the name, and a "
        "new baseline starts from 16",
    )
    limit: Annotated[float, Field(gt=1, le=30)] = Field(
        6.0, description="robust z above which a window is odd; wider while the history is short"
    )
    persistence: Annotated[int, Field(ge=1, le=5)] = Field(
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


_STATE = (
    *baseline.QUANTITIES, *week.QUANTITIES, *drift.QUANTITIES,
    Quantity("held", (_HELD, COUNT), "f4"),
    Quantity("held_seen", (), "i4"),
    Quantity("run", (), "i4"),  # odd windows since the last five ordinary ones
    Quantity("run_scores", (_RUN_SCORES,), "f4"),
    Quantity("odd", (), "u1"),  # one bit per window of the last five, the newest lowest: odd for itself
    Quantity("alarming", (), "u1"),  # likewise: above the workload's own tail too
    Quantity("drifted", (), "u1"),
    Quantity("role", (), "i1", -1),
)  # fmt: skip


@dataclass(frozen=True)
class _Scored:
    """One minute's judgement of workloads that are past warm-up; one row each."""

    rows: I64
    places: I64  # in the minute
    center: F64
    spread: F64
    up: F64  # robust z upwards, 0 where of no interest
    sample: F64  # deviations for the trees, 0 to 1
    score: F64
    tree_score: F64
    limit: F64
    own_limit: F64


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
        self._store = WorkloadStore(_STATE, self.config.workloads)
        self._drift = drift.Drift(self._store)
        self._forests: dict[int, RoleForest] = {}
        self.late = 0

    def features(self) -> Sequence[Feature]:
        """None: the minute rows come from stage 1 as they are."""
        return ()

    @property
    def shed(self) -> int:
        """Workloads refused because no room was left, and windows that came after a later one."""
        return self._store.refused + self.late

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for the minutes that closed, ordered by (minute, subject)."""
        if view.workloads is None:
            return []
        return [f for minute in minutes(view.workloads, view.identities) for f in self._judge(view, minute)]

    def _judge(self, view: TickView, minute: Minute) -> list[Finding]:
        rows = self._store.rows(minute.names, minute.minute)
        last = self._store["last"]
        late = (rows >= 0) & (last[rows] >= minute.minute) & (last[rows] > 0)
        self.late += int(late.sum())
        places = np.flatnonzero((rows >= 0) & ~late)
        rows = rows[places]
        gaps = np.minimum(np.where(last[rows] > 0, (minute.minute - last[rows]) // SECONDS, _PERSISTENCE), 7)
        last[rows] = minute.minute
        for name in ("odd", "alarming"):
            self._store[name][rows] = (self._store[name][rows].astype(np.int64) << gaps) & (2**_PERSISTENCE - 1)
        named = np.array([not view.suspects.isdisjoint(minute.members[p]) for p in places], np.bool_)
        young = self._store["seen"][rows] < self.config.warm_up
        fresh = young & ~named
        self._learn(rows[fresh], minute, minute.x[places[fresh]])
        scored = self._score(rows[~young], places[~young], minute)
        return self._conclude(view, minute, scored, named[~young])

    def _score(self, rows: I64, places: I64, minute: Minute) -> _Scored:
        x = minute.x[places]
        center, spread = baseline.usual(self._store["ring"][rows], self._store["seen"][rows])
        expected = np.maximum(center, week.expected(self._store, rows, minute.minute))
        up = np.where(minute.weight[places] >= LEAST, np.maximum(x - expected, 0) / spread, 0.0)
        sample = np.clip((x - center) / spread, -_CLIP, _CLIP) / (2 * _CLIP) + 0.5
        limit = self.config.limit * (1 + 10 / self._store["seen"][rows])
        peak = up.max(axis=1, initial=0.0)
        trees, score = np.zeros(len(rows)), peak.copy()
        # The trees alone are no reason: they only lower the limit for what deviates in several ways at once.
        for place in np.flatnonzero((peak > _TREE_RELIEF * limit) & (peak <= limit)):
            forest = self._forests.get(int(self._store["role"][rows[place]]))
            if forest is not None:
                trees[place] = forest.score(sample[place])
                if trees[place] > forest.limit():
                    score[place] = peak[place] / _TREE_RELIEF
        tail = baseline.tail(self._store["histogram"][rows], 0.99)
        own = np.maximum(limit, np.minimum(self.config.tail_margin * tail, 3 * limit))
        return _Scored(rows, places, center, spread, up, sample, score, trees, limit, own)

    def _conclude(self, view: TickView, minute: Minute, scored: _Scored, named: Mask) -> list[Finding]:
        store, rows = self._store, scored.rows
        odd = scored.score > scored.limit
        store["odd"][rows] |= odd.astype(np.uint8)
        store["alarming"][rows] |= (scored.score > scored.own_limit).astype(np.uint8)
        limits = (float(np.log(self.config.first_week_rise)), float(np.log(self.config.rise)))
        excess, reference = week.ramp(store, rows, minute.minute, scored.center, limits)
        natural = np.where(LOGS, np.expm1(scored.center), 0.0)
        excess = np.where(LOGS & (natural >= LEAST), excess, -np.inf)
        creeping = excess.max(axis=1, initial=-np.inf) > 0
        fires = (store["alarming"][rows] & 1 > 0) & (_ones(store["alarming"][rows]) >= self.config.persistence)
        findings = []
        for place in np.flatnonzero(fires | creeping).tolist():
            at = int(scored.places[place])
            judged = Judgement(
                minute.minute, minute.names[at], minute.members[at], minute.x[at], scored.center[place],
                scored.spread[place], scored.up[place], float(scored.score[place]), float(scored.own_limit[place]),
                float(scored.tree_score[place]), int(_ones(store["alarming"][rows[place : place + 1]])[0]),
            )  # fmt: skip
            if fires[place]:
                findings.append(step_finding(self.meta, view, judged))
            else:
                findings.append(ramp_finding(self.meta, view, judged, excess[place], reference[place]))
        self._remember(minute, scored, odd | creeping, named)
        return findings

    def _remember(self, minute: Minute, scored: _Scored, odd: Mask, named: Mask) -> None:
        ordinary = ~odd & ~named
        self._note_scores(scored, odd, named)
        self._learn(scored.rows[ordinary], minute, minute.x[scored.places[ordinary]])
        self._learn_roles(scored, ordinary)
        week.keep_reference(self._store, scored.rows[ordinary], minute.minute, scored.center[ordinary])
        strength = np.sqrt(np.mean((2 * scored.sample - 1) ** 2, axis=1))
        for place in np.flatnonzero(~named).tolist():
            row = int(scored.rows[place])
            if odd[place]:
                self._hold(row, minute.x[scored.places[place]])
            if self._drift.update(row, float(strength[place])):
                self._store["drifted"][row] = 1
            self._settle(row, bool(odd[place]))

    def _note_scores(self, scored: _Scored, odd: Mask, named: Mask) -> None:
        store, rows = self._store, scored.rows
        quiet = ~odd & ~named
        baseline.note_scores(store["histogram"], rows[quiet], scored.score[quiet])
        for row, score in zip(rows[odd & ~named].tolist(), scored.score[odd & ~named].tolist(), strict=True):
            if store["run"][row] < _RUN_SCORES:
                store["run_scores"][row, store["run"][row]] = score
            store["run"][row] += 1
        over = rows[quiet & (store["run"][rows] > 0) & (store["odd"][rows] == 0)]
        for row in over.tolist():
            spell = store["run_scores"][row, : min(_RUN_SCORES, int(store["run"][row]))].astype(np.float64)
            baseline.note_scores(store["histogram"], np.full(len(spell), row), spell)
            self._store.clear(row, ("run", "held", "held_seen"))

    def _hold(self, row: int, x: F64) -> None:
        self._store["held"][row, self._store["held_seen"][row] % _HELD] = x
        self._store["held_seen"][row] += 1

    def _settle(self, row: int, odd: bool) -> None:
        """Take a changed level for the new baseline: at once where it is still ordinary, else after patience."""
        store, run = self._store, int(self._store["run"][row])
        changed = bool(store["drifted"][row])
        if changed and not odd and not run:
            kept = baseline.newest(store["ring"][row], int(store["seen"][row]), _HELD).copy()
        elif run >= self.config.patience * (1 if changed else 3):
            kept = baseline.newest(store["held"][row], int(store["held_seen"][row]), _HELD).copy()
            store.clear(row, (*week.REFERENCE, "histogram", "run", "held", "held_seen", "odd", "alarming", "role"))
        else:
            return
        store["ring"][row, : len(kept)] = kept
        store["seen"][row] = len(kept)
        store["drifted"][row] = 0

    def _learn(self, rows: I64, minute: Minute, x: F64) -> None:
        baseline.learn(self._store["ring"], self._store["seen"], rows, x)
        week.gather(self._store, rows, minute.minute, x)

    def _learn_roles(self, scored: _Scored, ordinary: Mask) -> None:
        store, rows = self._store, scored.rows
        unset = store["role"][rows] < 0
        store["role"][rows[unset]] = role_of(scored.center[unset])
        roles = store["role"][rows]
        for role in np.unique(roles[ordinary]).tolist():
            chosen = np.flatnonzero(ordinary & (roles == role))
            # Evenly over the names, so that the same few do not teach for all.
            step = -(-len(chosen) // _LEARN_PER_ROLE)
            forest = self._forests.get(role)
            if forest is None:
                forest = self._forests[role] = RoleForest(self.config.seed * len(ROLES) + role)
            for place in chosen[::step].tolist():
                forest.learn(scored.sample[place])

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return baselines by workload name, and the samples that the trees are grown from."""
        state = {f"store.{name}": values for name, values in self._store.snapshot().items()}
        state["late"] = np.array([self.late], np.int64)
        for role, forest in sorted(self._forests.items()):
            for name, values in forest.snapshot().items():
                state[f"forest.{role}.{name}"] = values
        return state

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self._store.restore({n.removeprefix("store."): v for n, v in state.items() if n.startswith("store.")})
        self._drift.forget()
        self.late = int(state["late"][0])
        self._forests = {}
        for role in sorted({int(n.split(".")[1]) for n in state if n.startswith("forest.")}):
            prefix = f"forest.{role}."
            self._forests[role] = RoleForest(self.config.seed * len(ROLES) + role)
            self._forests[role].restore({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})


def _ones(bits: npt.NDArray[Any]) -> I64:
    counts: I64 = np.unpackbits(bits.astype(np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int64)
    return counts
