"""What holds for every dialect that plans are written in, found by listing: what is written reads back, blocks the
attack, widens nothing, carries our labels, and goes away without a trace."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest

from response.objects import EXPIRES_ANNOTATION, MANAGED_LABEL, RESPONSE_LABEL
from response.plan import Attempt, PlanContext, climb, load_dialects, view_after
from response.responder import Responder
from response.settings import ResponseSettings
from schemas.finding import Endpoint
from schemas.policy.cluster import ClusterView, Unread
from schemas.policy.dialects import KINDS, NETWORKPOLICY, kind_of, read_object
from schemas.policy.evaluator import READINGS, Flow, evaluate
from schemas.policy.words import DIALECTS, Dialect
from schemas.response import ActionName
from tests.unit.response.cluster_cases import API, DB, NOW, OUTSIDE, VIEW, WEB, MemoryGateway, decision, end, policy

RESPONSE = decision("quarantine_pod").id
NAMES = sorted(load_dialects())
VERSIONS: dict[Dialect, str] = {
    "networkpolicy": "networking.k8s.io/v1",
    "cilium": "cilium.io/v2",
    "calico": "projectcalico.org/v3",
    "clusternetworkpolicy": "policy.networking.k8s.io/v1alpha2",
    "adminnetworkpolicy": "policy.networking.k8s.io/v1alpha1",
    "istio": "security.istio.io/v1",
}
TIER = {
    "apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "sluicegate"}, "spec": {"order": 1},
}  # fmt: skip
# The attacks, as attackers and victims.
ATTACKS: dict[str, tuple[ActionName, tuple[Endpoint, ...], tuple[Endpoint, ...]]] = {
    "egress to a host outside": ("block_egress_destination", (end(WEB),), (OUTSIDE,)),
    "egress to a pod": ("block_egress_destination", (end(WEB),), (end(API, 9090, "TCP"),)),
    "ingress from a host outside": ("block_ingress_source", (OUTSIDE,), (end(WEB, 8080, "TCP"),)),
    "ingress from a pod": ("block_ingress_source", (end(API),), (end(WEB, 8080, "TCP"),)),
    "quarantine": ("quarantine_pod", (end(WEB),), (end(API, 9090, "TCP"),)),
}
# What other policies of the cluster say, all allowing the attack.
OTHERS = {
    "none": (),
    "allow all": (
        policy("shop/all", {"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}),
        policy("bank/all", {"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}),
    ),
}
# Everything else is proven.
REFUSED: dict[tuple[str, str, str], str] = {
    **{("networkpolicy", attack, "allow all"): "not_blocked" for attack in ATTACKS},
    ("networkpolicy", "quarantine", "allow all"): "not_blocked",
    **{
        (name, "ingress from a host outside", others): "cidr_ingress"
        for name in ("clusternetworkpolicy", "adminnetworkpolicy")
        for others in OTHERS
    },
    # Hosts outside may come in by the NetworkPolicy of somebody else, and no rule of the tier can name them.
    **{(name, "quarantine", "allow all"): "not_isolated" for name in ("clusternetworkpolicy", "adminnetworkpolicy")},
    **{
        ("istio", attack, others): "not_in_dialect"
        for attack in ("egress to a host outside", "egress to a pod", "quarantine")
        for others in OTHERS
    },
}


def view_of(name: Dialect, others: str = "none") -> ClusterView:
    view = replace(
        VIEW, policies=OTHERS[others], served={name: VERSIONS[name], "networkpolicy": "networking.k8s.io/v1"}
    )
    if name == "calico":
        view = replace(view, objects=(read_object(TIER),))
    if name == "istio":
        pods = (replace(pod, labels={**pod.labels, "security.istio.io/tlsMode": "istio"}) for pod in view.pods)
        view = replace(view, pods=tuple(pods))
    return view


def settings_of(name: Dialect) -> ResponseSettings:
    """Only this dialect may be used; NetworkPolicies are enforced beside it, but no plan is made of them alone."""
    return ResponseSettings(dialects={**dict.fromkeys(DIALECTS, "off"), "networkpolicy": "enforce", name: "enforce"})


def context_of(name: Dialect, attack: str, others: str = "none") -> PlanContext:
    action, attackers, victims = ATTACKS[attack]
    view = view_of(name, others)
    by_ip = {pod.ips[0]: pod for pod in view.pods}
    ends = [
        tuple(end(by_ip[item.ip], item.port, item.protocol) if item.ip in by_ip else item for item in side)
        for side in (attackers, victims)
    ]
    asked = decision(action, attackers=ends[0], victims=ends[1], mode="enforce")
    return PlanContext(asked, view, settings_of(name), "2027-01-15T08:10:00Z", dialect=name)


def first(name: Dialect, attack: str, others: str = "none") -> Attempt:
    attempts = climb(context_of(name, attack, others))
    # The dialect itself comes before NetworkPolicy, and Istio after it.
    return attempts[0] if name != "istio" else attempts_in(name, attack, others)


def attempts_in(name: Dialect, attack: str, others: str) -> Attempt:
    context = context_of(name, attack, others)
    served = {item: version for item, version in context.view.served.items() if item == name}
    return climb(replace(context, view=replace(context.view, served=served)))[0]


def test_every_dialect_is_there_and_named_as_its_file() -> None:
    assert set(NAMES) == set(get_args(Dialect)) == set(DIALECTS)
    for name, module in load_dialects().items():
        assert getattr(module, "__name__", "").endswith(f".{name}")
        assert module.TITLE
        assert module.RBAC


@pytest.mark.parametrize(("name", "attack", "others"), list(product(NAMES, ATTACKS, OTHERS)))
def test_what_is_written_is_proven_or_refused_for_the_known_reason(name: Dialect, attack: str, others: str) -> None:
    attempt = first(name, attack, others)
    expected = REFUSED.get((name, attack, others))
    if expected is not None:
        assert attempt.refusal is not None
        assert attempt.refusal.reason == expected, attempt.refusal.message
        return
    assert attempt.refusal is None, attempt.refusal
    plan, proof = attempt.plan, attempt.proof
    assert plan is not None
    assert proof is not None
    assert (plan.dialect, proof.dialect, plan.enforced) == (name, name, True)
    assert proof.holds
    assert proof.narrower
    assert all(row.blocked for row in proof.attack)
    if attack != "quarantine":
        # Nobody but the attack's own ends loses anything: what is denied is denied exactly.
        ends = {"shop/web-a", "shop/web-b", "bank/api-a"}
        assert set(proof.peers_cut) <= ends


@pytest.mark.parametrize(("name", "attack"), list(product(NAMES, ATTACKS)))
def test_what_is_written_is_ours_reads_back_and_names_its_rights(name: Dialect, attack: str) -> None:
    attempt = first(name, attack)
    if attempt.plan is None:
        assert (name, attack, "none") in REFUSED
        return
    rights = {(item.group, item.resource) for item in load_dialects()[name].RBAC}
    for item in attempt.plan.manifests:
        if item["kind"] == "Pod":
            continue
        metadata = item["metadata"]
        assert metadata["labels"] == {MANAGED_LABEL: "sluicegate", RESPONSE_LABEL: RESPONSE}
        assert metadata["annotations"][EXPIRES_ANNOTATION] == "2027-01-15T08:10:00Z"
        known = kind_of(item)
        assert known is not None
        assert ("namespace" in metadata) == known.namespaced
        assert (known.group, known.plural) in rights
        assert item["apiVersion"] == VERSIONS[known.dialect]
        read_object(item)
    assert len(attempt.plan.undo) == len(attempt.plan.manifests)


@pytest.mark.parametrize(("name", "attack"), list(product(NAMES, ATTACKS)))
def test_applied_and_reverted_leaves_what_was_there(name: Dialect, attack: str) -> None:
    context = context_of(name, attack, "none")
    view = context.view
    if name == "istio":
        view = replace(view, served={name: VERSIONS[name]})
    gateway = MemoryGateway(base=view)
    responder = Responder(gateway, context.settings, "test")
    actions = responder.respond(context.decision, NOW)
    expected = REFUSED.get((name, attack, "none"))
    if expected is not None:
        assert actions[0].reason == expected
    if actions[-1].reason == "dns_approval":
        assert (name, attack) == ("cilium", "quarantine"), "the others can leave a pod its DNS"
        actions = responder.approve(actions[-1].response_id, "ana", NOW)
    if actions[-1].outcome != "applied":
        assert expected is not None
        return
    held = gateway.view()
    assert held != view
    assert responder.reconcile(NOW + 1) == (), "what was just applied neither drifted nor fails its proof"
    (reverted,) = responder.revert(actions[-1].response_id, "alice", NOW + 2)
    assert reverted.outcome == "reverted"
    assert gateway.view() == view
    assert not gateway.others
    assert gateway.managed() == ()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "networkpolicy"])
def test_a_dialect_that_is_not_set_to_be_enforced_is_proposed_and_not_applied(name: Dialect) -> None:
    attack = "ingress from a pod"
    context = context_of(name, attack, "allow all")
    view = replace(context.view, served={**context.view.served, name: VERSIONS[name]})
    gateway = MemoryGateway(base=view)
    actions = Responder(gateway, ResponseSettings(), "test").respond(context.decision, NOW)
    assert [item.outcome for item in actions] == ["refused", "proposed"]
    assert actions[1].reason == "not_enforced"
    assert actions[1].proof is not None
    assert actions[1].proof["dialect"] == name
    assert gateway.managed() == ()


def test_what_is_not_enforced_for_sure_is_proven_with_and_without() -> None:
    """A Cilium policy that nobody says is enforced must not be what closes the hole that ours would open."""
    blocking = read_object({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"namespace": "shop", "name": "c"},
        "spec": {"endpointSelector": {}, "egress": [{"toEntities": ["cluster"]}]},
    })  # fmt: skip
    context = context_of("networkpolicy", "egress to a host outside")
    view = replace(context.view, objects=(blocking,))
    unsure = climb(replace(context, view=view, settings=ResponseSettings()))[0]
    assert unsure.refusal is not None
    # With Cilium in force our policy would allow the world what Cilium's alone does not.
    assert unsure.refusal.reason == "widens"
    off = ResponseSettings(dialects={"cilium": "off"})
    assert climb(replace(context, view=view, settings=off))[0].refusal is None


def test_an_unread_policy_in_scope_refuses_by_name_and_one_elsewhere_does_not() -> None:
    context = context_of("cilium", "egress to a host outside")
    for space, reason in (("shop", "unread"), ("", "unread"), ("bank", None)):
        noted = Unread("cilium", space, "CiliumNetworkPolicy x/y: spec.egress.0.toFQDNs: this field is not evaluated")
        attempt = climb(replace(context, view=replace(context.view, unread=(noted,))))[0]
        assert (attempt.refusal.reason if attempt.refusal else None) == reason
        if attempt.refusal is not None:
            assert "CiliumNetworkPolicy x/y: spec.egress.0.toFQDNs" in attempt.refusal.message


def test_a_policy_of_ports_is_refused_for_pods_in_ambient_mode() -> None:
    context = context_of("cilium", "ingress from a pod")
    ports = policy("shop/ports", {"policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 8080}]}]})
    ambient = {**context.view.namespaces, "shop": {"istio.io/dataplane-mode": "ambient"}}
    for policies, reason in (((ports,), "unread"), ((), None)):
        view = replace(context.view, namespaces=ambient, policies=policies)
        attempt = climb(replace(context, view=view))[0]
        assert (attempt.refusal.reason if attempt.refusal else None) == reason
        if attempt.refusal is not None:
            assert "shop/ports names ports" in attempt.refusal.message


CALICO_TIERS: list[tuple[dict[str, Any], ...]] = [
    (),
    (TIER, {**TIER, "metadata": {"name": "security"}, "spec": {"order": 1}}),
    (TIER, {**TIER, "metadata": {"name": "security"}, "spec": {"order": 0}}),
    ({**TIER, "spec": {}},),
]


@pytest.mark.parametrize("tiers", CALICO_TIERS)
def test_calico_needs_its_tier_before_all_others(tiers: tuple[dict[str, Any], ...]) -> None:
    context = context_of("calico", "ingress from a pod")
    view = replace(context.view, objects=tuple(read_object(item) for item in tiers))
    refusal = climb(replace(context, view=view))[0].refusal
    assert refusal is not None
    assert refusal.reason == ("late_tier" if tiers else "no_tier")


def test_calico_is_written_by_its_own_api_only() -> None:
    context = context_of("calico", "ingress from a pod")
    stored = replace(context.view, served={**context.view.served, "calico": "crd.projectcalico.org/v1"})
    refusal = climb(replace(context, view=stored))[0].refusal
    assert refusal is not None
    assert refusal.reason == "not_served"


def _first_in_tier(action: str, chosen: dict[str, Any]) -> dict[str, Any]:
    rules = [{"action": action, "from": [{"namespaces": chosen}]}]
    return {
        "apiVersion": VERSIONS["clusternetworkpolicy"],
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "other"},
        "spec": {"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}, "ingress": rules},
    }


def test_admin_policies_take_a_priority_that_nobody_has() -> None:
    context = context_of("clusternetworkpolicy", "ingress from a pod")
    other = _first_in_tier("Pass", {"matchLabels": {"no": "body"}})
    view = replace(context.view, objects=(read_object(other),))
    attempt = climb(replace(context, view=view))[0]
    assert attempt.plan is not None
    assert attempt.plan.manifests[0]["spec"]["priority"] == 1
    full = context.settings.model_copy(update={"admin_priorities": (0, 0)})
    refusal = climb(replace(context, view=view, settings=full))[0].refusal
    assert refusal is not None
    assert refusal.reason == "no_priority"


def test_an_earlier_policy_that_accepts_the_attack_is_seen() -> None:
    context = context_of("clusternetworkpolicy", "ingress from a pod")
    other = _first_in_tier("Accept", {})
    attempt = climb(replace(context, view=replace(context.view, objects=(read_object(other),))))[0]
    assert attempt.refusal is not None
    assert attempt.refusal.reason == "not_blocked"
    assert "allowed by ClusterNetworkPolicy other" in attempt.refusal.message


def test_a_deny_policy_of_cilium_leaves_other_traffic_as_it_was() -> None:
    attempt = first("cilium", "egress to a host outside")
    assert attempt.plan is not None
    (manifest,) = attempt.plan.manifests
    assert manifest["spec"]["enableDefaultDeny"] == {"ingress": False, "egress": False}
    after = view_after(attempt.plan, view_of("cilium")).enforcing(frozenset(("cilium", "networkpolicy")))
    for reading in READINGS:
        assert evaluate(after, Flow(WEB.ips[0], "203.0.113.10", "TCP", 443), reading).allowed
        assert evaluate(after, Flow(WEB.ips[0], DB.ips[0], "TCP", 5432), reading).allowed
        assert not evaluate(after, Flow(WEB.ips[0], "203.0.113.9", "UDP", 53), reading).allowed


def test_all_kinds_have_a_dialect_that_can_be_set() -> None:
    assert {item.dialect for item in (*KINDS, NETWORKPOLICY)} == set(DIALECTS)
