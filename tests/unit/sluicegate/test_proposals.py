from __future__ import annotations

import pytest

from response.gateway import ClusterError
from response.settings import ResponseSettings
from schemas.finding import Endpoint
from schemas.inventory import InventoryObject, watermark
from schemas.response import ResponseDecision
from sluicegate.proposals import InventoryGateway, Proposals

POD = InventoryObject(kind="Pod", uid="p", namespace="shop", name="web", ips=("10.0.0.1",), labels={"app": "web"})
OTHER = InventoryObject(kind="Pod", uid="q", namespace="shop", name="db", ips=("10.0.0.2",), labels={"app": "db"})


def decision(mode: str = "enforce") -> ResponseDecision:
    return ResponseDecision.model_validate(
        {
            "id": "r" * 32, "alert_id": "a", "alert_revision": 1, "cluster": "c", "detector": "port_scan",
            "kind": "port_scan_vertical", "severity": "high", "confidence": 0.9, "category": "intrusion", "mode": mode,
            "actions": ["quarantine_pod"], "spoofable": False, "decided_tick": 1, "deadline_s": 60, "ttl_s": 600,
            "reason": "test",
            "attackers": [Endpoint(ip="10.0.0.1", pod="web", namespace="shop", identity="known").model_dump()],
            "victims": [Endpoint(ip="10.0.0.2", pod="db", namespace="shop", identity="known").model_dump()],
        }
    )  # fmt: skip


def test_a_decision_to_enforce_is_only_proposed() -> None:
    (action,) = Proposals(ResponseSettings(), "c", [POD, OTHER]).about(decision())
    assert (action.outcome, action.mode) == ("proposed", "dry-run")
    assert action.proof is not None
    assert action.proof["holds"]


def test_a_decision_to_observe_stays_one() -> None:
    (action,) = Proposals(ResponseSettings(), "c", [POD, OTHER]).about(decision("observe"))
    assert (action.outcome, action.manifests) == ("observed", ())


def test_an_inventory_can_be_read_and_not_changed() -> None:
    gateway = InventoryGateway()
    gateway.add(POD)
    gateway.add(POD.model_copy(update={"labels": {"app": "new"}}))
    assert [dict(pod.labels) for pod in gateway.view().pods] == [{"app": "new"}]
    assert gateway.managed() == ()
    for change in (gateway.apply, gateway.undo):
        with pytest.raises(ClusterError, match="no cluster is configured"):
            change({})


def test_the_view_without_a_cluster_keeps_what_holds_and_lets_go_of_what_ended() -> None:
    def pod(name: str, begin: int, end: int | None = None, **labels: str) -> InventoryObject:
        return InventoryObject(
            kind="Pod", uid=name, namespace="shop", name=name, ips=("10.0.0.1",), labels=labels, valid_from=begin,
            valid_to=end,
        )  # fmt: skip

    gateway = InventoryGateway()
    for item in (pod("a", 10), pod("b", 20, x="new"), pod("b", 15, x="old"), pod("c", 25, 40), pod("a", 10, 30)):
        gateway.add(item)
    gateway.add(watermark("east", 35))
    gateway.add(pod("a", 10, 30))
    assert [(p.name, p.labels) for p in gateway.view().pods] == [("b", {"x": "new"}), ("c", {})]
    for second in range(1000):
        gateway.add(watermark("east", 40 + second))
        gateway.add(pod(f"short-{second}", 41 + second))
        gateway.add(pod(f"short-{second}", 41 + second, 43 + second))
    assert len(gateway._objects) <= 4
    assert [p.name for p in gateway.view().pods] == ["b", "short-998", "short-999"]
    gateway.add(watermark("east", 2000))
    assert list(gateway._objects) == ["b"]
