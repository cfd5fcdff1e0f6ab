"""What all parts of a responder share: the cluster, the settings, the ledger, and how a step is told and taken back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from response.audit import NOBODY, Cause, action_id
from response.edges import EdgeMemory
from response.gateway import ClusterError, Gateway, Managed
from response.guard import Refusal
from response.ledger import Containment, Ledger
from response.settings import ResponseSettings
from schemas.action import Action, Outcome
from schemas.word import iso_time

# Told actions are only remembered to not repeat them; at a few hundred bytes each this is a few megabytes.
MAX_REMEMBERED = 10_000


class Site:
    """One cluster as its responder sees it. Not for use by several threads at once."""

    def __init__(
        self, gateway: Gateway, settings: ResponseSettings, cluster: str, ledger: Ledger,
        edges: EdgeMemory | None = None,
    ) -> None:  # fmt: skip
        self.gateway = gateway
        self.settings = settings
        self.cluster = cluster
        self.ledger = ledger
        self.edges = edges if edges is not None else EdgeMemory(cluster)
        self._told: OrderedDict[str, str] = OrderedDict()

    def tell(self, actions: Iterable[Action]) -> tuple[Action, ...]:
        """Take steps into the ledger; those that were not told since their containment last changed."""
        fresh: list[Action] = []
        batch: set[str] = set()
        for action in actions:
            batch.add(action.id)
            if action.id not in self._told:
                before = self.ledger.get(action.response_id)
                after = self.ledger.fold(action)
                if after is not None and (before is None or before.phase != after.phase):
                    self._forget(action.response_id, batch)
                fresh.append(action)
            self._remember(action)
        return tuple(fresh)

    def kill_switch(self) -> str:
        """Why nothing may be applied, by the ConfigMap of the settings; empty where it does not exist.

        Raises:
            ClusterError: it cannot be looked for, so nobody knows.
        """
        name = self.settings.upkeep.kill_switch
        return self.gateway.kill_switch(name) if name else ""

    def undo(self, steps: Iterable[Mapping[str, Any]]) -> list[str]:
        """Take steps back; what could not be, in words.

        A pod that is ending still runs: what isolates it is left until it has ended.
        """
        problems: list[str] = []
        for step in steps:
            try:
                self.gateway.undo(step)
            except ClusterError as error:
                problems.append(str(error))
                if error.reason == "still_there":
                    break
        return problems

    def take_back(self, item: Managed, outcome: Outcome, why: Refusal, now: float, by: Cause = NOBODY) -> Action:
        """Take everything of one response out of the cluster."""
        problems = self.undo(item.undo)
        if problems:
            outcome, why = "failed", Refusal("not_reverted", "; ".join(problems))
        return self.step(item.response_id, outcome, why, now, by, item)

    def step(
        self,
        response_id: str,
        outcome: Outcome,
        why: Refusal,
        now: float,
        by: Cause = NOBODY,
        item: Managed | None = None,
        **more: Any,
    ) -> Action:
        """The audit of something that befell a response; what is not given is as the ledger has it."""
        known = self.ledger.get(response_id) or Containment(response_id, "applied", now)
        target = item.target if item is not None else known.target
        values: dict[str, Any] = {
            "id": action_id(response_id, "", target, outcome, iso_time(now), by.command_id or ""),
            "response_id": response_id,
            "alert_id": item.alert_id if item is not None else known.alert_id,
            "cluster": self.cluster,
            "action": known.action,
            "outcome": outcome,
            "mode": known.decision.mode if known.decision is not None else "enforce",
            "target": target,
            "reason": why.reason,
            "message": why.message,
            "undo": item.undo if item is not None else (),
            "decided_tick": item.decided_tick if item is not None else known.decided_tick,
            "at": iso_time(now),
            "operator": by.operator,
            "command_id": by.command_id,
            "level": known.level,
        }
        return Action(**{**values, **more})

    def _forget(self, response_id: str, batch: set[str]) -> None:
        for key in [key for key, owner in self._told.items() if owner == response_id and key not in batch]:
            del self._told[key]

    def _remember(self, action: Action) -> None:
        self._told[action.id] = action.response_id
        self._told.move_to_end(action.id)
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
