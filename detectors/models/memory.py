"""What the traffic anomaly model remembers of workloads and roles, and how it learns from a judged minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.models import baseline, drift, week
from detectors.models.forest import RoleForest
from detectors.models.roles import ROLES, role_of
from detectors.models.scoring import Scored
from detectors.models.store import Quantity, WorkloadStore
from detectors.models.windows import COUNT, SECONDS, Minute

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

PERSISTENCE = 5  # windows looked back on
HELD = 16  # windows kept aside while a workload is odd; a new baseline starts from them
_RUN_SCORES = 8  # scores of one odd spell that enter the tail: under 1 % of a day, so one spell never lifts it
_LEARN_PER_ROLE = 32  # samples per role and minute: the trees cost 50 µs each and need no more

STATE = (
    *baseline.QUANTITIES, *week.QUANTITIES, *drift.QUANTITIES,
    Quantity("held", (HELD, COUNT), "f4"),
    Quantity("held_seen", (), "i4"),
    Quantity("run", (), "i4"),  # odd windows since the last five ordinary ones
    Quantity("run_scores", (_RUN_SCORES,), "f4"),
    Quantity("odd", (), "u1"),  # one bit per window of the last five, the newest lowest: odd for itself
    Quantity("alarming", (), "u1"),  # likewise: above the workload's own tail too
    Quantity("drifted", (), "u1"),
    Quantity("role", (), "i1", -1),
)  # fmt: skip


class Memory:
    """Baselines by workload, ADWIN by workload, trees by role.

    Nothing is learned from a window that is odd or whose workload a rule named. ``late`` counts windows that
    came after a later one of their workload and were dropped.
    """

    def __init__(self, workloads: int, patience: int, seed: int) -> None:
        self.store = WorkloadStore(STATE, workloads)
        self.forests: dict[int, RoleForest] = {}
        self.late = 0
        self._patience = patience
        self._seed = seed
        self._drift = drift.Drift(self.store)

    def admit(self, minute: Minute) -> tuple[I64, I64]:
        """Return rows and places in the minute of the workloads that can be taken, their windows moved on."""
        rows = self.store.rows(minute.names, minute.minute)
        last = self.store["last"]
        late = (rows >= 0) & (last[rows] >= minute.minute) & (last[rows] > 0)
        self.late += int(late.sum())
        places = np.flatnonzero((rows >= 0) & ~late)
        rows = rows[places]
        gaps = np.minimum(np.where(last[rows] > 0, (minute.minute - last[rows]) // SECONDS, PERSISTENCE), PERSISTENCE)
        last[rows] = minute.minute
        for name in ("odd", "alarming"):
            self.store[name][rows] = (self.store[name][rows].astype(np.int64) << gaps) & (2**PERSISTENCE - 1)
        return rows, places

    def forest_of(self, row: int) -> RoleForest | None:
        """Return the trees of a workload's role, if it has one that has learned."""
        return self.forests.get(int(self.store["role"][row]))

    def remember(self, minute: Minute, scored: Scored, odd: Mask, named: Mask) -> None:
        """Learn from a judged minute what may be learned; set aside what may not.

        Args:
            minute: the windows.
            scored: how they were judged.
            odd: which of the judged are odd.
            named: which of them a rule named.
        """
        ordinary = ~odd & ~named
        self._note_scores(scored, odd, named)
        self.learn(scored.rows[ordinary], minute, minute.x[scored.places[ordinary]])
        self._learn_roles(scored, ordinary)
        week.keep_reference(self.store, scored.rows[ordinary], minute.minute, scored.center[ordinary])
        strength = np.abs(2 * scored.sample - 1).max(axis=1)
        for place in np.flatnonzero(~named).tolist():
            row = int(scored.rows[place])
            if odd[place]:
                self._hold(row, minute.x[scored.places[place]])
            if self._drift.update(row, float(strength[place])):
                self.store["drifted"][row] = 1
            self._settle(row, bool(odd[place]))

    def _note_scores(self, scored: Scored, odd: Mask, named: Mask) -> None:
        store, rows = self.store, scored.rows
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
            self.store.clear(row, ("run", "held", "held_seen"))

    def _hold(self, row: int, x: F64) -> None:
        self.store["held"][row, self.store["held_seen"][row] % HELD] = x
        self.store["held_seen"][row] += 1

    def _settle(self, row: int, odd: bool) -> None:
        """Take a changed level for the new baseline: at once where it is still ordinary, else after patience."""
        store, run = self.store, int(self.store["run"][row])
        changed = bool(store["drifted"][row])
        if changed and not odd and not run:
            kept = baseline.newest(store["ring"][row], int(store["seen"][row]), HELD).copy()
        elif run >= self._patience * (1 if changed else 3):
            kept = baseline.newest(store["held"][row], int(store["held_seen"][row]), HELD).copy()
            store.clear(row, (*week.REFERENCE, "histogram", "run", "held", "held_seen", "odd", "alarming", "role"))
        else:
            return
        store["ring"][row, : len(kept)] = kept
        store["seen"][row] = len(kept)
        store["drifted"][row] = 0

    def learn(self, rows: I64, minute: Minute, x: F64) -> None:
        """Take windows into the baselines."""
        baseline.learn(self.store["ring"], self.store["seen"], rows, x)
        week.gather(self.store, rows, minute.minute, x)

    def _learn_roles(self, scored: Scored, ordinary: Mask) -> None:
        store, rows = self.store, scored.rows
        unset = store["role"][rows] < 0
        store["role"][rows[unset]] = role_of(scored.center[unset])
        roles = store["role"][rows]
        for role in np.unique(roles[ordinary]).tolist():
            chosen = np.flatnonzero(ordinary & (roles == role))
            # Evenly over the names, so that the same few do not teach for all.
            step = -(-len(chosen) // _LEARN_PER_ROLE)
            forest = self.forests.get(role)
            if forest is None:
                forest = self.forests[role] = RoleForest(self._seed * len(ROLES) + role)
            for place in chosen[::step].tolist():
                forest.learn(scored.sample[place])

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return baselines by workload name, and the samples that the trees are grown from."""
        state = {f"store.{name}": values for name, values in self.store.snapshot().items()}
        state["late"] = np.array([self.late], np.int64)
        for role, forest in sorted(self.forests.items()):
            for name, values in forest.snapshot().items():
                state[f"forest.{role}.{name}"] = values
        return state

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self.store.restore({n.removeprefix("store."): v for n, v in state.items() if n.startswith("store.")})
        self._drift.forget()
        self.late = int(state["late"][0])
        self.forests = {}
        for role in sorted({int(n.split(".")[1]) for n in state if n.startswith("forest.")}):
            prefix = f"forest.{role}."
            self.forests[role] = RoleForest(self._seed * len(ROLES) + role)
            self.forests[role].restore({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
