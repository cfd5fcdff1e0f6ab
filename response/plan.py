"""From a decision to the narrowest proven plan: the ladder of actions, tried in order.

An action is a module in `response/actions/` with `NAME`, `TITLE`, `RBAC` and `plan(context)`; the directory listing
is the registry. One that aims at nobody says `NAMES_ATTACKERS = False`: evidence under a false address is no reason
against it. One that does not stop the attack says `CONTAINS = False`, one that takes nothing from anybody `HARMLESS =
True`. `plan` says what to write or why this action does not apply; it neither talks to a cluster nor proves
anything itself. An action with `IN_DIALECTS` leaves the writing to the dialect of the context, a module in
`response/dialects/`, and is tried in each that the cluster serves: first in those that are set to be enforced, the one
that denies exactly before the one that can only allow all the rest. Only where nothing of the ladder can be had in them
is a plan made in the others, and then it is proposed and not applied.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from response import actions, dialects
from response.drops import drops_of
from response.edges import EdgeMemory, recent_peers
from response.guard import Refusal, refuse_decision
from response.prove import AttackPair, Claim, Proof, nothing_to_prove, prove
from response.resolver import resolver_addresses
from response.settings import ResponseSettings
from response.watching import watch_pairs
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.dialects import kind_of, read_object
from schemas.policy.words import DIALECTS, Dialect
from schemas.response import ResponseDecision
from schemas.watch import WatchPair

if TYPE_CHECKING:
    from response.blocked import Blocked
    from response.workload import Selection

Manifests = tuple[dict[str, Any], ...]
# What a view has only where an action asks for it, by a function `details` of the settings.
Detail = Literal["controllers", "nodes"]


@dataclass(frozen=True, slots=True)
class Permission:
    """One line of the RBAC role that an action needs."""

    group: str
    resource: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """Ports that a quarantine leaves open, each a protocol and a number: of pods with some labels, or of blocks."""

    ports: tuple[tuple[str, int], ...]
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanContext:
    """What an action plans from, and in which dialect.

    `expires_at` is ISO 8601 UTC text; `edges` whom workloads talked to lately; `kept_egress` what a quarantine leaves
    open, in dialects that say `KEEPS_EGRESS`.
    """

    decision: ResponseDecision
    view: ClusterView
    settings: ResponseSettings
    expires_at: str
    edges: EdgeMemory = field(default_factory=EdgeMemory)
    dialect: Dialect = "networkpolicy"
    kept_egress: tuple[Kept, ...] = ()

    @property
    def object_name(self) -> str:
        """The deterministic name of the response's policy: repeats meet their own object."""
        return f"sluicegate-{self.decision.id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are applied; `undo` is in the order in which they are taken back.

    `pods` are keys of the pods that the plan means to change. With `isolates` the pods end with nothing allowed, but
    for what they were allowed of DNS with `spares_dns`. `pod_labels` are the labels that pods get by it, None for one
    that is taken off. A plan in a `dialect` that is not `enforced` here is for people to look at, and is not applied.
    `unproven` is why there is nothing to prove of it, empty where there is.
    """

    action: str
    target: str
    summary: str
    pods: tuple[str, ...]
    manifests: tuple[dict[str, Any], ...]
    undo: tuple[dict[str, Any], ...]
    isolates: bool = False
    pod_labels: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    dialect: Dialect = "networkpolicy"
    enforced: bool = True
    spares_dns: bool = False
    unproven: str = ""


# Refusals of a decision that are no reason against an action which names no attacker.
_ABOUT_ATTACKERS = frozenset({"spoofable", "no_attacker"})


class ActionModule(Protocol):
    """The shape of a module in `response/actions/`."""

    NAME: str
    TITLE: str
    RBAC: tuple[Permission, ...]
    plan: Callable[[PlanContext], Plan | Refusal]


class DialectModule(Protocol):
    """The shape of a module in `response/dialects/`.

    Each of the three says what to write, or why this dialect cannot say it. `subjects` are the workloads that a policy
    selects, `blocked` those that it keeps away from them; `quarantine` is about pods that will carry a label of ours.
    """

    NAME: Dialect
    TITLE: str
    RBAC: tuple[Permission, ...]
    block_ingress: Callable[[Sequence[Selection], Blocked, PlanContext, str], Manifests | Refusal]
    block_egress: Callable[[Sequence[Selection], Blocked, PlanContext, str], Manifests | Refusal]
    quarantine: Callable[[Sequence[Pod], PlanContext, str], Manifests | Refusal]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung of the ladder: the plan or the refusal to make one, the proof of the plan, and what it means to cut."""

    action: str
    plan: Plan | None
    proof: Proof | None
    refusal: Refusal | None
    watch: tuple[WatchPair, ...] = ()


@cache
def load_actions() -> dict[str, ActionModule]:
    """Every action by name, from the listing of `response/actions/`."""
    return {module.NAME: module for module in _listed(actions)}


@cache
def load_dialects() -> dict[Dialect, DialectModule]:
    """Every dialect by name, from the listing of `response/dialects/`."""
    return {module.NAME: module for module in _listed(dialects)}


def _listed(package: ModuleType) -> Iterator[Any]:
    for module in pkgutil.iter_modules(package.__path__):
        yield importlib.import_module(f"{package.__name__}.{module.name}")


def details_of(actions: Sequence[str], settings: ResponseSettings) -> frozenset[Detail]:
    """What some actions must know besides policies, pods, namespaces and services."""
    known = load_actions()
    asking = (getattr(known.get(name), "details", None) for name in actions)
    return frozenset(detail for ask in asking if ask is not None for detail in ask(settings))


def attack_pairs(decision: ResponseDecision) -> tuple[AttackPair, ...]:
    """Every attacker and victim of a decision as a pair of addresses, in the alert's order, without repeats."""
    pairs = {
        AttackPair(attacker.ip, victim.ip, victim.protocol.upper() if victim.protocol else None, victim.port): None
        for attacker in decision.attackers
        for victim in decision.victims
        if attacker.ip and victim.ip and attacker.ip != victim.ip
    }
    return tuple(pairs)


def climb(context: PlanContext) -> tuple[Attempt, ...]:
    """Try the decision's actions in order and stop at the first whose proof holds; that one is the last returned."""
    refusal = refuse_decision(context.decision)
    attempts: list[Attempt] = [Attempt("", None, None, refusal)] if refusal is not None else []
    for name, dialect in _rungs(context):
        if refusal is not None and (refusal.reason not in _ABOUT_ATTACKERS or _names_attackers(name)):
            continue
        attempts.append(_attempt(name, replace(context, dialect=dialect)))
        if attempts[-1].refusal is None:
            break
    if attempts:
        return tuple(attempts)
    if not context.decision.actions:
        return (Attempt("", None, None, Refusal("no_action", "the policy file names no action")),)
    message = "no dialect of policy that the cluster serves is set to be used: see response.dialects"
    return (Attempt("", None, None, Refusal("no_dialect", message)),)


def _rungs(context: PlanContext) -> Iterator[tuple[str, Dialect]]:
    """Each action in each dialect that it may be tried in: all that could be applied before all that could not."""
    served = [item for item in DIALECTS if item in context.view.served]
    modes = context.settings.dialects
    for mode in ("enforce", "dry-run"):
        spoken = [item for item in served if modes[item] == mode]
        for name in context.decision.actions:
            if getattr(load_actions().get(name), "IN_DIALECTS", False):
                yield from ((name, dialect) for dialect in spoken)
            elif mode == "enforce":
                yield name, "networkpolicy"


def _names_attackers(name: str) -> bool:
    return bool(getattr(load_actions().get(name), "NAMES_ATTACKERS", True))


def _attempt(name: str, context: PlanContext) -> Attempt:
    try:
        planned = load_actions()[name].plan(context)
        if isinstance(planned, Refusal):
            return Attempt(name, None, None, planned)
        # What writes no policy needs nobody to enforce one.
        spoken = any(kind_of(item) is not None for item in planned.manifests)
        enforced = not spoken or context.settings.dialects[context.dialect] == "enforce"
        planned = replace(planned, dialect=context.dialect, enforced=enforced)
        proof = prove_plan(planned, context)
        attack = attack_pairs(context.decision) if cuts_attackers(name) else ()
        spared = resolver_addresses(context.view, context.settings) if planned.spares_dns else ()
        watch = watch_pairs(planned.pods, attack, context.view, planned.isolates, spared)
    except ValueError as error:
        return Attempt(name, None, None, Refusal("unplannable", str(error)))
    refusal = None if proof.holds else Refusal(proof.reason, proof.message)
    return Attempt(name, planned, proof, refusal, watch)


def cuts_attackers(action: str) -> bool:
    """Tell whether an action means to stop the attack's own flows, so that packets can show whether it does."""
    return contains(action) and _names_attackers(action)


def may_spare_dns(action: str) -> bool:
    """Whether an action leaves pods their DNS where it can, so that people must approve where it does not."""
    return bool(getattr(load_actions().get(action), "SPARES_DNS", False))


def contains(action: str) -> bool:
    """Whether an action means to stop the attack: one that only notes it meets no deadline."""
    return bool(getattr(load_actions().get(action), "CONTAINS", True))


def harmless(action: str) -> bool:
    """Whether an action takes nothing from anybody, so that no budget has to bound it."""
    return bool(getattr(load_actions().get(action), "HARMLESS", False))


def view_after(plan: Plan, view: ClusterView) -> ClusterView:
    """The cluster as it will be once a plan is applied. Raises PolicyError if what we rendered does not read back."""
    policies = [read_object(item) for item in plan.manifests if kind_of(item) is not None]
    after = view.with_policies(*policies)
    for key, labels in plan.pod_labels.items():
        after = after.with_pod_labels(key, labels)
    return after


def prove_plan(plan: Plan, context: PlanContext) -> Proof:
    """The proof of a plan against the context's view; for a plan that claims nothing, why."""
    if plan.unproven:
        return nothing_to_prove(plan.pods, plan.unproven)
    attack = attack_pairs(context.decision)
    after = view_after(plan, context.view)
    drops = drops_of(plan.manifests)
    claim = Claim(context.view, after, plan.pods, attack, plan.isolates, plan.dialect, drops, plan.spares_dns)
    proof = prove(claim, context.settings)
    recent = recent_peers(context.edges, plan.pods, context.view, after)
    return proof.model_copy(update={"recent": recent}) if recent else proof
