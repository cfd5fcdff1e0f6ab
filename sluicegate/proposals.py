"""What would be done about a decision, planned and proven without a cluster at hand."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from response.gateway import ClusterError, Managed
from response.prove import Proof
from response.render import manifests_yaml, proof_table
from response.responder import Responder
from response.settings import ResponseSettings
from schemas.action import Action
from schemas.inventory import InventoryObject
from schemas.policy.cluster import ClusterView, Controller, Node
from schemas.policy.inventory_view import view_of_inventory
from schemas.policy.networkpolicy import PolicyObject
from schemas.response import ResponseDecision
from sluicegate.terminal import cell, wrapped


class InventoryGateway:
    """A cluster as its inventory describes it; it can be read, and refuses every change."""

    def __init__(self, policies: Sequence[PolicyObject] = ()) -> None:
        self._objects: dict[str, InventoryObject] = {}
        self._policies = tuple(policies)
        self._ending: dict[str, int] = {}  # what has an end that has not come yet, by uid
        self._latest = 0

    def add(self, item: InventoryObject) -> None:
        """Take in one statement; the latest about an object holds, and what has ended is let go."""
        self._latest = max(self._latest, item.valid_from)
        before = self._objects.get(item.uid)
        if item.kind != "Watermark" and (before is None or item.valid_from >= before.valid_from):
            self._objects[item.uid] = item
            if item.valid_to is not None:
                self._ending[item.uid] = item.valid_to
        for uid in [uid for uid, end in self._ending.items() if end <= self._latest]:
            ended = self._objects[uid]
            if ended.valid_to is not None and ended.valid_to <= self._latest:
                del self._objects[uid]
            del self._ending[uid]

    def view(self) -> ClusterView:
        """The cluster as last described."""
        return view_of_inventory(self._objects.values(), self._policies, self._latest)

    def controllers(self, namespace: str) -> tuple[Controller, ...] | None:
        """Nothing says by which labels they find their pods."""
        return None

    def nodes(self) -> tuple[Node, ...] | None:
        """Nothing says which of them take pods."""
        return None

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Refuse: there is nothing to apply it to."""
        raise _nothing_to_change()

    def undo(self, step: Mapping[str, Any]) -> None:
        """Refuse likewise."""
        raise _nothing_to_change()

    def managed(self, response_id: str | None = None) -> tuple[Managed, ...]:
        """Nothing was ever applied."""
        return ()

    def kill_switch(self, name: str) -> str:
        """Nothing is applied here anyway."""
        return ""

    def note(self, event: Mapping[str, Any]) -> None:
        """Nobody could read it."""


def _nothing_to_change() -> ClusterError:
    message = "no cluster is configured, only its inventory: give --kubeconfig to apply policies"
    return ClusterError(message, "no_cluster")


class Proposals:
    """Plans and proves decisions against an inventory; nothing is applied, whatever their mode."""

    def __init__(self, settings: ResponseSettings, cluster: str, objects: Sequence[InventoryObject]) -> None:
        gateway = InventoryGateway()
        for item in objects:
            gateway.add(item)
        self._responder = Responder(gateway, settings, cluster)

    def about(self, decision: ResponseDecision) -> tuple[Action, ...]:
        """Return what was proposed or refused, in the order of the ladder."""
        harmless = decision if decision.mode == "observe" else decision.model_copy(update={"mode": "dry-run"})
        return self._responder.respond(harmless, time.time())  # noqa: TID251 - the time of the step, not of events


def print_proposals(out: Console, decision: ResponseDecision, actions: Sequence[Action]) -> None:
    """Print a decision and what came of it."""
    out.print(cell(f"Response to {decision.kind}: {decision.category}, {decision.mode}", "bold"))
    for action in actions:
        print_action(out, action)


def print_action(out: Console, action: Action) -> None:
    """Print one step: the policy with its proof, or the reason why there is none."""
    name = f"{action.action} " if action.action else ""
    worth_showing = action.outcome in ("proposed", "applied")
    for line in wrapped(f"{name}{action.outcome} for {action.target}: {action.reason}: {action.message}", "  "):
        out.print(Text(line, style="green" if worth_showing else "yellow"))
    if not worth_showing:
        return
    for line in manifests_yaml(action.manifests).splitlines():
        out.print(cell(f"    {line}"))
    if action.proof is not None:
        out.print(cell("    proof"))
        for row in proof_table(Proof.model_validate(action.proof)).splitlines():
            for line in wrapped(row, "    ", later=" " * 16):
                out.print(Text(line))
