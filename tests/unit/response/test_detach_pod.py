"""detach_pod: what it takes off, whom it refuses, that a repeat does nothing new, and that undo ends just that pod."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from response.api_objects import read_controller, read_pod
from response.gateway import ClusterError
from response.pod_steps import goes_back, may_end
from response.settings import ResponseSettings
from schemas.policy.cluster import ClusterView, Controller, Pod, Service
from schemas.policy.labels import LabelSelector
from tests.unit.response.cluster_cases import DB, NODE, NOW, VIEW, WEB, decision, end, policy
from tests.unit.response.test_orders import RESPONSE, Desk

ON = ResponseSettings(opt_in=("detach_pod",))
SUSPECT = replace(
    WEB, labels={**WEB.labels, "tier": "front", "team": "a"}, uid="uid-1", controller="ReplicaSet/web-aa"
)  # fmt: skip
SET = Controller(
    "shop", "ReplicaSet", "web-aa",
    LabelSelector.model_validate({"matchLabels": {"app": "web", "pod-template-hash": "aa"}}), 2,
)  # fmt: skip
FRONT = Service("shop", "front", ("10.96.0.20",), {"tier": "front"})
WORLD = replace(
    VIEW, pods=(SUSPECT, *(pod for pod in VIEW.pods if pod.key != SUSPECT.key)), services=(*VIEW.services, FRONT)
)  # fmt: skip


def desk(view: ClusterView = WORLD, *owners: Controller, settings: ResponseSettings = ON) -> Desk:
    made = Desk(settings)
    made.gateway.base = view
    made.gateway.owners = (SET, *owners)
    return made


def refused(made: Desk, **more: Any) -> str:
    (action,) = made.decided(decision("detach_pod", mode="enforce", **more))
    assert action.outcome == "refused", action.message
    assert (made.gateway.policies, made.gateway.pod_metadata) == ({}, {})
    return action.reason


def test_it_takes_off_what_replica_set_and_services_select_on_and_leaves_the_rest() -> None:
    made = desk()
    (action,) = made.decided(decision("detach_pod", mode="enforce"))
    assert action.outcome == "applied", action.message
    written = made.gateway.pod_metadata["shop/web-a"]
    off = {"app": None, "pod-template-hash": None, "tier": None}
    assert written["labels"] == {**off, "sluicegate.io/quarantine": RESPONSE}
    assert written["uid"] == "uid-1"
    assert written["annotations"]["sluicegate.io/detached-from"] == "ReplicaSet/web-aa"
    kept = '{"app":"web","pod-template-hash":"aa","tier":"front"}'
    assert written["annotations"]["sluicegate.io/taken-labels"] == kept
    pod = made.gateway.view().pod("shop/web-a")
    assert pod is not None
    assert pod.labels == {"team": "a", "sluicegate.io/quarantine": RESPONSE}
    assert action.proof is not None
    assert action.proof["isolates"]


def test_a_repeat_changes_and_tells_nothing_even_if_the_replica_set_is_gone() -> None:
    made = desk()
    made.decided(decision("detach_pod", mode="enforce"))
    before = dict(made.gateway.pod_metadata)
    made.gateway.owners = ()
    assert made.decided(decision("detach_pod", mode="enforce", alert_revision=2)) == ()
    assert made.gateway.pod_metadata == before


def test_undo_and_expiry_end_exactly_that_pod() -> None:
    made = desk()
    made.decided(decision("detach_pod", mode="enforce"))
    assert made.looked(NOW + 601) == ["expired expired"]
    assert made.gateway.deleted == ["shop/web-a uid-1"]
    assert (made.gateway.policies, made.gateway.pod_metadata) == ({}, {})


def test_labels_that_come_back_are_taken_off_again() -> None:
    made = desk()
    made.decided(decision("detach_pod", mode="enforce"))
    written = made.gateway.pod_metadata["shop/web-a"]
    made.gateway.pod_metadata["shop/web-a"] = {**written, "labels": {**written["labels"], "app": "web"}}
    assert made.looked(NOW + 60) == ["repaired drift"]
    assert made.gateway.pod_metadata["shop/web-a"]["labels"]["app"] is None


def test_it_must_be_asked_for() -> None:
    assert refused(desk(settings=ResponseSettings())) == "not_opted_in"


@pytest.mark.parametrize("owner", ["StatefulSet/web", "DaemonSet/web", "Job/web", ""])
def test_only_a_replica_set_replaces_a_pod(owner: str) -> None:
    pods = (replace(SUSPECT, controller=owner, workload=owner), *WORLD.pods[1:])
    assert refused(desk(replace(WORLD, pods=pods))) == "not_replaceable"


def test_one_that_wants_no_replicas_replaces_none() -> None:
    made = desk()
    made.gateway.owners = (replace(SET, replicas=0),)
    assert refused(made) == "not_replaceable"


@pytest.mark.parametrize("owners", [None, ()])
def test_without_knowing_its_selector_nothing_is_taken_off(owners: tuple[Controller, ...] | None) -> None:
    made = desk()
    made.gateway.owners = owners
    assert refused(made) == "no_details"


def test_a_second_pod_of_the_workload_is_refused_while_one_is_detached() -> None:
    second = replace(SUSPECT, name="web-c", uid="uid-3", ips=("10.0.0.12",))
    made = desk(replace(WORLD, pods=(*WORLD.pods, second)))
    made.decided(decision("detach_pod", mode="enforce"))
    other = decision("detach_pod", mode="enforce", id="fedcba9876543210", attackers=(end(second),))
    (action,) = made.decided(other)
    assert (action.outcome, action.reason) == ("refused", "one_at_a_time")


def test_two_pods_of_one_workload_at_once_are_refused() -> None:
    second = replace(SUSPECT, name="web-c", uid="uid-3", ips=("10.0.0.12",))
    made = desk(replace(WORLD, pods=(*WORLD.pods, second)))
    assert refused(made, attackers=(end(SUSPECT), end(second))) == "one_at_a_time"


def test_a_pod_that_another_controller_would_own_is_refused() -> None:
    greedy = Controller("shop", "Job", "all", LabelSelector.model_validate({"matchLabels": {"team": "a"}}))
    assert refused(desk(WORLD, greedy)) == "would_be_adopted"


def test_what_only_its_labels_allowed_is_no_reason_to_call_it_blocked_already() -> None:
    """The victim lets in `app: web` alone: without that label the pod is closed out, by us."""
    only_web = {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}  # fmt: skip
    made = desk(WORLD.with_policies(policy("shop/db", only_web)))
    asked = decision("detach_pod", mode="enforce", victims=(end(DB, 5432, "TCP"),))
    (action,) = made.decided(asked)
    assert action.outcome == "applied", action.message
    assert made.looked(NOW + 60) == []


def api_pod(**metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": "web-a", "uid": "uid-1", **metadata},
        "status": {"phase": "Running", "podIP": "10.0.0.10"},
    }


LEFT = {
    "labels": {"sluicegate.io/quarantine": RESPONSE},
    "annotations": {
        "sluicegate.io/detached-from": "ReplicaSet/web-aa",
        "sluicegate.io/taken-labels": '{"app":"web","pod-template-hash":"aa"}',
    },
}


def test_a_detached_pod_is_read_as_one_of_its_workload() -> None:
    pod = read_pod(api_pod(**LEFT))
    assert pod is not None
    assert (pod.workload, pod.controller, pod.detached) == ("Deployment/web", "ReplicaSet/web-aa", True)
    assert pod.taken == {"app": "web", "pod-template-hash": "aa"}


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"app": 1}'])
def test_an_annotation_that_somebody_spoiled_is_nothing_taken(text: str) -> None:
    notes = {"sluicegate.io/taken-labels": text}
    pod = read_pod(api_pod(labels=LEFT["labels"], annotations=notes))
    assert pod is not None
    assert pod.taken == {}


def test_annotations_without_the_label_say_nothing() -> None:
    pod = read_pod(api_pod(labels={"app": "web"}, annotations=LEFT["annotations"]))
    assert pod is not None
    assert (pod.taken, pod.detached, pod.controller) == ({}, False, "")


STEP = {"kind": "Pod", "metadata": {"name": "web-a", "namespace": "shop", "uid": "uid-1",
                                    "labels": {"sluicegate.io/quarantine": RESPONSE}}}  # fmt: skip


def test_only_the_pod_that_was_taken_away_may_be_ended() -> None:
    assert may_end(STEP, api_pod(**LEFT))
    assert not may_end(STEP, api_pod(labels={"app": "web"}))
    assert not may_end(STEP, api_pod(labels={"sluicegate.io/quarantine": "another"}))
    assert not may_end(STEP, {"metadata": {**api_pod(**LEFT)["metadata"], "uid": "uid-2"}})


def test_a_pod_that_somebody_owns_is_his_to_end() -> None:
    owned = api_pod(**LEFT, ownerReferences=[{"kind": "StatefulSet", "name": "db", "controller": True}])
    with pytest.raises(ClusterError, match="StatefulSet/db"):
        may_end(STEP, owned)


def test_labels_go_back_but_over_what_somebody_wrote_meanwhile() -> None:
    back = {**STEP, "metadata": {**STEP["metadata"], "labels": {"app": "web", "tier": "x", "ours": None}}}  # type: ignore[dict-item]
    change = goes_back(back, api_pod(labels={"tier": "new", "ours": "1"}))
    assert change is not None
    assert change["metadata"]["labels"] == {"app": "web", "ours": None}
    assert goes_back(back, {"metadata": {**api_pod()["metadata"], "uid": "uid-2"}}) is None


def test_controllers_are_read_with_their_selectors() -> None:
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}
    found = read_controller({"metadata": {"namespace": "shop", "name": "web-aa"}, "spec": spec}, "ReplicaSet")
    assert (found.word, found.replicas) == ("ReplicaSet/web-aa", 3)
    assert found.selector.matches({"app": "web", "more": "x"})
    old = read_controller(
        {"metadata": {"namespace": "shop", "name": "old"}, "spec": {"selector": {"app": "old"}}},
        "ReplicationController",
    )
    assert (old.replicas, old.selector.matches({"app": "old"}), old.selector.matches({"app": "web"})) == (
        1,
        True,
        False,
    )


def test_the_host_and_the_protected_are_refused_as_ever() -> None:
    host = replace(SUSPECT, host_network=True, ips=NODE)
    assert refused(desk(replace(WORLD, pods=(host, *WORLD.pods[1:])))) == "host_network"
    assert Pod("a", "b").controller == ""
