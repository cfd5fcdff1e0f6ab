"""What was stated of objects without addresses, in time; and the policies among it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject, ServiceEndpoint, ServicePort
from schemas.statements import Statements

GROUP = ("shop", "web")


def told(uid: str, begin: int, end: int | None = None, **more: Any) -> InventoryObject:
    kind: dict[str, Any] = {"kind": "EndpointSlice", "namespace": "shop", "service": "web", "name": f"{uid}-{begin}"}
    return InventoryObject(uid=uid, valid_from=begin, valid_to=end, **(kind | more))


def names(items: Any) -> list[str]:
    return sorted(item.name for item in items)


def test_a_later_statement_ends_an_earlier_one() -> None:
    table = Statements()
    for item in (told("a", 30, 40), told("a", 10), told("b", 20, 25)):
        table.add(GROUP, item)
    assert [names(table.valid(GROUP, at)) for at in (9, 10, 20, 25, 30, 40)] == [
        [], ["a-10"], ["a-10", "b-20"], ["a-10"], ["a-30"], [],
    ]  # fmt: skip
    assert names(table.since(GROUP, 24, 30)) == ["a-10", "a-30", "b-20"]
    assert names(table.since(GROUP, 30, 35)) == ["a-30"]
    assert [table.changed(GROUP, at) for at in (5, 10, 24, 25, 39, 40)] == [0, 10, 20, 25, 30, 40]
    assert table.has(GROUP)
    assert not table.has(("shop", "api"))


def test_an_equal_begin_replaces() -> None:
    table = Statements()
    table.add(GROUP, told("a", 10))
    table.add(GROUP, told("a", 10, name="new"))
    assert names(table.valid(GROUP, 11)) == ["new"]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=100))
def test_the_last_32_are_kept_in_any_order(begins: list[int]) -> None:
    table = Statements()
    for begin in begins:
        table.add(GROUP, told("a", begin))
    assert len(list(table.since(GROUP, -1, 2000))) == min(32, len(set(begins)))
    assert names(table.valid(GROUP, 2000)) == [f"a-{max(begins)}"]


def test_what_was_stated_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.statements._OBJECTS", 2)
    table = Statements()
    for uid, begin in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        table.add(GROUP, told(uid, begin))
    assert (names(table.valid(GROUP, 9)), len(table)) == (["a-3", "c-4"], 2)
    table.add(("shop", "api"), told("d", 5))
    table.add(("shop", "api"), told("e", 6))
    assert not table.has(GROUP)


def test_policies_namespaces_and_slices_of_an_inventory() -> None:
    policy = InventoryObject(kind="NetworkPolicy", uid="p", namespace="shop", name="deny", valid_from=5)
    space = InventoryObject(kind="Namespace", uid="n", name="shop", labels={"team": "a"}, valid_from=3)
    one = told("e", 7, endpoints=(ServiceEndpoint(address="FD00::1"),))
    table = IdentityTable([policy, space, one])
    assert len(table) == 0  # none of them has an address
    policies = table.cluster.policies
    assert [item.key for item in policies.policies("shop", 5)] == ["shop/deny"]
    assert policies.policies("shop", 4) == ()
    assert (policies.labels("shop", 3), policies.labels("shop", 2)) == ({"team": "a"}, {})
    assert (policies.changed("shop", 9), policies.told, policies.policies_told) == (5, 2, 1)
    assert list(table.cluster.services_of("fd00::1")) == [("shop", "web")]


def test_a_service_with_a_false_address_leaves_nothing() -> None:
    table = IdentityTable()
    ports = (ServicePort(port=80, target_port=80, node_port=30080),)
    for wrong in ({"ips": ("10.96.0.300",)}, {"external_ips": ("nowhere",)}):
        service = InventoryObject(kind="Service", uid="s", namespace="shop", name="web", service_ports=ports, **wrong)
        with pytest.raises(ValueError, match="does not appear to be"):
            table.add(service)
    assert (len(table), table.cluster.services, table.cluster.offered_ports) == (0, {}, set())
