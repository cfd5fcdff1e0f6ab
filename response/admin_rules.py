"""What ClusterNetworkPolicy and AdminNetworkPolicy share: rules of the admin tier that deny.

Each policy takes a priority that no other has, from a range that is kept free for ours: the order of equals is open.
Sources of ingress are pods only. A quarantine therefore is a NetworkPolicy that isolates the pods, and a policy above
it that takes back whatever others allow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from response.blocked import Blocked
from response.guard import Refusal
from response.objects import QUARANTINE_LABEL, managed_object, policy_object
from response.plan import Kept, Manifests, PlanContext
from response.steps import chosen_pods, kept_rule, numbered, outside_cidrs, policy_annotations
from response.workload import Selection
from schemas.policy.adminpolicy import TieredPolicy
from schemas.policy.cluster import Pod
from schemas.policy.words import Dialect

# The API's own limits: peers of a rule, addresses of a peer, rules of a policy.
_AT_ONCE = 25
_EVERYWHERE = ("0.0.0.0/0", "::/0")
Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TierWriter:
    """Writes policies of one kind; `fixed` is what every spec of the kind needs besides."""

    dialect: Dialect
    kind: str
    fixed: tuple[tuple[str, str], ...] = ()

    def block_ingress(
        self, subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
    ) -> Manifests | Refusal:
        """Deny rules for the blocked workloads; hosts outside are refused."""
        outside = outside_cidrs(blocked, context.view)
        if outside:
            message = f"{', '.join(outside[:5])}: a {self.kind} cannot name hosts outside as sources"
            return Refusal("cidr_ingress", message)
        return self._policies(subjects, "ingress", "from", _pods(blocked), context, summary)

    def block_egress(
        self, subjects: Sequence[Selection], blocked: Blocked, context: PlanContext, summary: str
    ) -> Manifests | Refusal:
        """Deny rules for the blocked workloads and addresses."""
        networks = [{"networks": part} for part in _parts(list(outside_cidrs(blocked, context.view)))]
        return self._policies(subjects, "egress", "to", [*_pods(blocked), *networks], context, summary)

    def quarantine(self, pods: Sequence[Pod], context: PlanContext, summary: str) -> Manifests | Refusal:
        """Isolation by a NetworkPolicy a namespace, and one policy above them for all.

        What is kept passes that one, and the others say on which ports.
        """
        priorities = _free_priorities(context, 1)
        if isinstance(priorities, Refusal):
            return priorities
        label = {"matchLabels": {QUARANTINE_LABEL: context.decision.id}}
        isolation: Rule = {"podSelector": label, "policyTypes": ["Ingress", "Egress"]}
        passing: list[Rule] = []
        if context.kept_egress:
            isolation["egress"] = [kept_rule(item) for item in context.kept_egress]
            passing = [{"action": "Pass", "to": [_kept(item) for item in context.kept_egress]}]
        notes = policy_annotations(context, summary)
        everybody: Rule = {"namespaces": {}}
        above = {
            "subject": {"pods": {"namespaceSelector": {}, "podSelector": label}},
            "ingress": [{"action": "Deny", "from": [everybody]}],
            "egress": [*passing, {"action": "Deny", "to": [everybody, {"networks": list(_EVERYWHERE)}]}],
        }
        spaces = sorted({pod.namespace for pod in pods})
        return (
            *(policy_object(space, context.object_name, context.decision.id, notes, isolation) for space in spaces),
            self._object(context.object_name, priorities[0], above, context, summary),
        )

    def _policies(
        self,
        subjects: Sequence[Selection],
        field: str,
        way: str,
        peers: list[Rule],
        context: PlanContext,
        summary: str,
    ) -> Manifests | Refusal:
        priorities = _free_priorities(context, len(subjects))
        if isinstance(priorities, Refusal):
            return priorities
        rules = [{"action": "Deny", way: part} for part in _parts(peers)]
        if len(rules) > _AT_ONCE:
            return Refusal("too_many", f"{len(peers)} peers do not fit one {self.kind}")
        return tuple(
            self._object(
                numbered(context, number),
                priorities[number],
                {"subject": {"pods": chosen_pods(subject.namespace, subject.labels)}, field: rules},
                context,
                summary,
            )
            for number, subject in enumerate(subjects)
        )

    def _object(self, name: str, priority: int, spec: Rule, context: PlanContext, summary: str) -> dict[str, Any]:
        notes = policy_annotations(context, summary)
        body = {**dict(self.fixed), "priority": priority, **spec}
        version = context.view.served[self.dialect]
        return managed_object(version, self.kind, "", name, context.decision.id, notes, body)


def _free_priorities(context: PlanContext, wanted: int) -> tuple[int, ...] | Refusal:
    """The lowest priorities of our range that no policy has, be it of our own making."""
    taken = {item.spec.priority for item in context.view.objects if isinstance(item, TieredPolicy)}
    first, last = context.settings.admin_priorities
    free = tuple(number for number in range(first, last + 1) if number not in taken)[:wanted]
    if len(free) < wanted:
        return Refusal("no_priority", f"every priority from {first} to {last} is taken: see response.admin_priorities")
    return free


def _kept(kept: Kept) -> Rule:
    if kept.cidrs:
        return {"networks": list(kept.cidrs)}
    return {"pods": chosen_pods(kept.namespace, kept.labels)}


def _pods(blocked: Blocked) -> list[Rule]:
    return [{"pods": chosen_pods(space, labels)} for space, labels in blocked.workloads]


def _parts(items: list[Any]) -> list[list[Any]]:
    return [items[at : at + _AT_ONCE] for at in range(0, len(items), _AT_ONCE)]
