from __future__ import annotations

from dataclasses import replace

import pytest

from response.enforcers import ENFORCERS, enforcement_of
from response.settings import ResponseSettings
from schemas.policy.cluster import ClusterView, Pod, Unread
from schemas.policy.words import Dialect
from sluicegate.cluster_checks import findings_of, rights_of_actions


def agent(number: int, labels: dict[str, str], space: str = "kube-system") -> Pod:
    return Pod(space, f"agent-{number}", labels, host_network=True, node_ips=(f"10.9.0.{number}",))


def view_with(labels: dict[str, str], nodes: int = 2, on: int = 2, **served: str) -> ClusterView:
    others = tuple(Pod("shop", f"web-{n}", {"app": "web"}, node_ips=(f"10.9.0.{n}",)) for n in range(nodes))
    agents = tuple(agent(number, labels) for number in range(on)) if labels else ()
    versions: dict[Dialect, str] = {"networkpolicy": "networking.k8s.io/v1"}
    for dialect in ("cilium", "calico", "adminnetworkpolicy", "istio"):
        if dialect in served:
            versions[dialect] = served[dialect]
    return ClusterView(pods=others + agents, served=versions)


def told(view: ClusterView, **dialects: str) -> dict[str, tuple[str, str, str]]:
    settings = ResponseSettings.model_validate({"dialects": dialects})
    return {item.name: (item.state, item.found, item.remedy) for item in findings_of(view, settings)}


@pytest.mark.parametrize("enforcer", ENFORCERS, ids=lambda item: item.name)
def test_every_enforcer_is_recognised_by_its_labels(enforcer: object) -> None:
    known = next(item for item in ENFORCERS if item is enforcer)
    found = enforcement_of(view_with(dict(known.labels)), ResponseSettings())
    assert [(item.enforcer.name, item.nodes) for item in found.running] == [(known.name, 2)]


def test_cilium_is_served_and_enforced_and_the_setting_is_named() -> None:
    lines = told(view_with({"k8s-app": "cilium"}, cilium="cilium.io/v2"))
    assert lines["enforcer"] == ("ok", "cilium on 2 of 2 nodes", "")
    assert lines["cilium"] == (
        "ok",
        "served as cilium.io/v2, enforced by cilium; set to dry-run",
        "response.dialects.cilium: enforce",
    )
    assert told(view_with({"k8s-app": "cilium"}, cilium="cilium.io/v2"), cilium="enforce")["cilium"][2] == ""


@pytest.mark.parametrize(("labels", "word"), [({"app": "flannel"}, "FLANNEL ALONE"), ({}, "NO ENFORCER")])
def test_a_cluster_in_which_nothing_enforces_is_said_loudly(labels: dict[str, str], word: str) -> None:
    lines = told(view_with(labels))
    assert lines["enforcer"][0] == "missing"
    assert lines["enforcer"][1].startswith(word)
    # NetworkPolicy is set to be enforced by default, which nobody does here.
    assert lines["networkpolicy"][0] == "missing"
    assert lines["networkpolicy"][2] == "response.dialects.networkpolicy: dry-run"


def test_flannel_beside_an_enforcer_is_no_alarm() -> None:
    view = view_with({"app": "flannel"})
    both = replace(view, pods=(*view.pods, *(agent(n, {"k8s-app": "canal"}) for n in range(2))))
    assert told(both)["enforcer"] == ("ok", "canal on 2 of 2 nodes", "")


def test_a_node_without_the_enforcer_is_found() -> None:
    state, found, remedy = told(view_with({"k8s-app": "kube-router"}, nodes=3, on=2))["enforcer"]
    assert (state, found) == ("missing", "kube-router on 2 of 3 nodes")
    assert "kube-router" in remedy


def test_what_is_served_and_enforced_by_nobody_and_set_to_enforce_is_missing() -> None:
    view = view_with({"k8s-app": "kube-router"}, cilium="cilium.io/v2")
    assert told(view, cilium="enforce")["cilium"] == (
        "missing",
        "served as cilium.io/v2, and nobody was seen to enforce it; set to enforce",
        "response.dialects.cilium: off",
    )


def test_what_depends_on_a_version_is_not_claimed() -> None:
    view = view_with({"app": "ovnkube-node"}, adminnetworkpolicy="policy.networking.k8s.io/v1alpha1")
    state, found, remedy = told(view)["adminnetworkpolicy"]
    assert (state, remedy) == ("off", "")
    assert "depends on its version" in found


def test_the_mesh_alone_enforces_no_policy_of_networks() -> None:
    view = view_with({"app": "istiod"}, istio="security.istio.io/v1")
    assert told(view)["enforcer"][0] == "missing"
    assert told(view)["istio"][1].startswith("served as security.istio.io/v1, enforced by istio")


def test_policies_that_could_not_be_read_are_listed() -> None:
    view = replace(view_with({"k8s-app": "cilium"}), unread=(Unread("cilium", "shop", "CiliumNetworkPolicy a/b: x"),))
    assert told(view)["unread"][1] == "CiliumNetworkPolicy a/b: x"


def test_doctor_says_of_each_action_whether_it_is_wanted_and_what_it_may_not_do() -> None:
    asked: list[tuple[str, str, str]] = []

    def may(verb: str, group: str, resource: str) -> bool:
        asked.append((verb, group, resource))
        return (verb, resource) != ("delete", "pods")

    found = {item.name: item for item in rights_of_actions(may, ResponseSettings())}
    assert (found["quarantine_pod"].state, found["detach_pod"].state) == ("ok", "off")
    assert found["detach_pod"].remedy == "response.opt_in: [detach_pod]"
    assert len(asked) == len(set(asked))
    wanted = {item.name: item for item in rights_of_actions(may, ResponseSettings(opt_in=("detach_pod",)))}
    assert (wanted["detach_pod"].state, wanted["detach_pod"].found) == ("off", "not allowed: delete pods")
