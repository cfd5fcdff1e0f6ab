from __future__ import annotations

import ipaddress
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import pack
from schemas.exceptions import RoleRule, Selector
from schemas.identity import HORIZON_SECONDS, MOST_OF_ONE, IdentityTable
from schemas.inventory import InventoryObject, watermark


def pod(name: str, *ips: str, begin: int = 0, end: int | None = None, **fields: Any) -> InventoryObject:
    plain: dict[str, Any] = {"kind": "Pod", "uid": f"uid-{name}", "name": name, "namespace": "shop"}
    return InventoryObject(ips=ips, valid_from=begin, valid_to=end, **{**plain, **fields})


def names(table: IdentityTable, ip: str, *times: int) -> list[str | None]:
    return [found.name if (found := table.find(ip, at)) else None for at in times]


def test_an_address_has_the_object_that_had_it_at_the_time() -> None:
    table = IdentityTable([pod("a", "10.0.0.1", begin=10, end=20), pod("b", "10.0.0.1", begin=30)])
    assert names(table, "10.0.0.1", 9, 10, 19, 20, 29, 30, 1 << 40) == [None, "a", "a", None, None, "b", "b"]
    assert names(table, "10.0.0.2", 15) == [None]


def test_the_latest_to_begin_wins_where_two_claim_an_address() -> None:
    table = IdentityTable([pod("old", "10.0.0.1", begin=10), pod("new", "10.0.0.1", begin=20, end=30)])
    assert names(table, "10.0.0.1", 15, 25, 35) == ["old", "new", "old"]


def test_a_later_statement_ends_the_earlier_one_of_the_same_object() -> None:
    moved = [pod("a", "10.0.0.1", begin=10), pod("a", "10.0.0.2", begin=20), pod("a", begin=30)]
    for order in itertools.permutations(moved):
        table = IdentityTable(order)
        assert names(table, "10.0.0.1", 15, 25, 35) == ["a", None, None]
        assert names(table, "10.0.0.2", 15, 25, 35) == [None, "a", None]


def test_an_address_used_again_ten_seconds_later_is_another_pod() -> None:
    table = IdentityTable([pod("a", "10.0.0.1", begin=100, end=160), pod("b", "10.0.0.1", begin=170, end=171)])
    assert names(table, "10.0.0.1", 159, 160, 169, 170, 171) == ["a", None, None, "b", None]
    assert table.endpoint("10.0.0.1", 165).identity == "unknown"


def test_who_has_not_heard_of_the_end_does_not_take_it_back() -> None:
    for order in itertools.permutations([pod("a", "10.0.0.1", begin=10, end=20), pod("a", "10.0.0.1", begin=10)]):
        assert names(IdentityTable(order), "10.0.0.1", 15, 25) == ["a", None]


def test_what_ended_is_forgotten_a_horizon_before_the_watermark_and_what_holds_never() -> None:
    old = [pod("gone", "10.0.0.1", begin=10, end=20), pod("here", "10.0.0.2", begin=10)]
    moved = [pod("moved", "2001:db8::1", begin=10, labels={"a": "1"}), pod("moved", "2001:db8::2", begin=20)]
    table = IdentityTable([*old, *moved])
    assert table.labelled("a") == {pack("2001:db8::1")}
    table.add(watermark("east", 19 + HORIZON_SECONDS))
    assert names(table, "10.0.0.1", 15) == ["gone"]
    table.add(watermark("west", 5))
    assert table.watermark == 19 + HORIZON_SECONDS
    assert table.watermarks == {"east": 19 + HORIZON_SECONDS, "west": 5}
    table.add(watermark("east", 20 + HORIZON_SECONDS))
    assert names(table, "10.0.0.1", 15) == names(table, "2001:db8::1", 15) == [None]
    assert names(table, "10.0.0.2", 15) == ["here"]
    assert names(table, "2001:db8::2", 1 << 40) == ["moved"]
    assert table.public_addresses == set()  # the range for documentation is no public one
    assert table.labelled("a") == set()
    assert table.counts() == {
        "objects": 2, "statements": 2, "addresses": 2, "forgotten": 0, "refused": 0, "watermark": 20 + HORIZON_SECONDS,
    }  # fmt: skip


def test_what_is_noted_of_addresses_follows_them() -> None:
    api = pod("kubernetes", "10.96.0.1", kind="Service", namespace="default", begin=5)
    table = IdentityTable([pod("a", "8.8.8.8", begin=10, labels={"l": ""}), api])
    assert table.labelled("l") == {pack("8.8.8.8")}
    table.add(pod("a", "8.8.4.4", begin=20, labels={"l": ""}))
    assert table.labelled("l") == table.public_addresses == {pack("8.8.8.8"), pack("8.8.4.4")}
    before = table.public_changes
    table.add(pod("a", "10.0.0.1", begin=20, labels={"l": ""}))
    assert table.public_addresses == {pack("8.8.8.8")}
    assert table.labelled("l") == {pack("8.8.8.8"), pack("10.0.0.1")}
    assert table.public_changes > before
    table.add(api.model_copy(update={"labels": {"x": "y"}}))
    assert table.api_addresses == {pack("10.96.0.1")}
    table.add(pod("b", "8.8.8.8", begin=30))
    assert table.labelled("l") == {pack("8.8.8.8"), pack("10.0.0.1")}


def test_a_full_table_forgets_what_ended_first_and_refuses_rather_than_forget_what_holds() -> None:
    table = IdentityTable(most=3)
    for number in range(5):
        table.add(pod(str(number), "8.8.8.8", begin=number * 10, end=number * 10 + 5))
    assert names(table, "8.8.8.8", 2, 12, 22, 32, 42) == [None, None, "2", "3", "4"]
    for number in range(3):
        table.add(pod(f"live{number}", f"8.8.4.{number}", begin=50))
    assert table.public_addresses == {pack(f"8.8.4.{number}") for number in range(3)}
    table.add(pod("more", "8.8.4.9", begin=60))
    assert names(table, "8.8.4.9", 60) == [None]
    assert table.counts() == {
        "objects": 3, "statements": 3, "addresses": 3, "forgotten": 5, "refused": 1, "watermark": -1,
    }  # fmt: skip
    table.add(pod("live1", "8.8.4.1", begin=50, end=70))
    table.add(pod("more", "8.8.4.9", begin=80))
    assert names(table, "8.8.4.9", 80) == ["more"]


def test_one_object_that_changes_all_the_time_keeps_its_last_changes() -> None:
    table = IdentityTable(pod("a", "10.0.0.1", begin=n, labels={"n": str(n)}) for n in range(200))
    assert table.counts()["statements"] == MOST_OF_ONE
    assert table.endpoint("10.0.0.1", 199).labels == {"n": "199"}
    assert names(table, "10.0.0.1", 199 - MOST_OF_ONE, 200 - MOST_OF_ONE) == [None, "a"]


def test_a_pod_is_behind_the_service_that_selects_it_at_the_time() -> None:
    def service(name: str, selector: dict[str, str], begin: int = 0, end: int | None = None) -> InventoryObject:
        return pod(name, f"10.96.0.{len(name)}", begin=begin, end=end, kind="Service", selector=selector)

    table = IdentityTable([
        pod("a", "10.0.0.1", labels={"app": "web", "tier": "1"}), pod("plain", "10.0.0.2"),
        service("everything", {}), service("web", {"app": "web"}, begin=10, end=20), service("x", {"app": "other"}),
    ])  # fmt: skip
    assert [table.endpoint("10.0.0.1", at).service for at in (5, 10, 20)] == [None, "shop/web", None]
    assert table.endpoint("10.0.0.2", 15).service is None
    table.declare([RoleRule("load_balancer", Selector(services=("shop/web",)))])
    assert [table.roles("10.0.0.1", at) for at in (5, 15)] == [(), ("load_balancer",)]


@given(
    statements=st.lists(
        st.builds(
            pod, st.sampled_from("abcd"), st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            begin=st.integers(0, 20), end=st.none() | st.integers(0, 25),
        ),
        max_size=20,
    ),
    most=st.integers(1, 6),
)  # fmt: skip
def test_a_small_table_never_says_more_than_a_large_one(statements: list[InventoryObject], most: int) -> None:
    small, large = IdentityTable(most=most), IdentityTable()
    # Each object's in the order of time, as they are told: what was forgotten cannot end what comes from before it.
    # And each once: who tells again of what has ended is not believed only as long as the end is remembered.
    once = {(item.uid, item.valid_from): item for item in statements}
    for item in sorted(once.values(), key=lambda item: item.valid_from):
        small.add(item)
        large.add(item)
        assert small.counts()["statements"] <= most
    if small.refused == 0:
        for ip, at in itertools.product(("10.0.0.1", "10.0.0.2"), range(30)):
            said = small.find(ip, at)
            assert said is None or large.find(ip, at) is not None


def test_a_repeated_statement_replaces_the_first() -> None:
    table = IdentityTable([pod("a", "10.0.0.1", begin=10), pod("a", "10.0.0.2", begin=10, end=20)])
    assert names(table, "10.0.0.1", 15) == [None]
    assert names(table, "10.0.0.2", 15, 25) == ["a", None]


@given(
    statements=st.lists(
        st.builds(
            pod,
            st.sampled_from("ab"),
            st.sampled_from(["10.0.0.1", "10.0.0.2"]),
            begin=st.integers(0, 20),
            end=st.none() | st.integers(0, 25),
        ),
        max_size=6,
        unique_by=lambda p: (p.uid, p.valid_from),
    ),
    at=st.integers(0, 30),
    ip=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
)
def test_lookups_agree_with_the_plain_reading_in_any_order(statements: list[InventoryObject], at: int, ip: str) -> None:
    current = [
        max((s for s in statements if s.uid == uid and s.valid_from <= at), key=lambda s: s.valid_from, default=None)
        for uid in ("uid-a", "uid-b")
    ]
    valid = [s for s in current if s and ip in s.ips and (s.valid_to is None or at < s.valid_to)]
    wanted = max(valid, key=lambda s: (s.valid_from, s.uid), default=None)
    assert IdentityTable(statements).find(ip, at) == wanted
    assert IdentityTable(reversed(statements)).find(ip, at) == wanted


def test_addresses_are_known_in_any_spelling() -> None:
    table = IdentityTable([pod("a", "2001:DB8::0:1")])
    assert names(table, "2001:db8::1", 0) == ["a"]


def test_a_pod_on_the_host_network_is_its_node() -> None:
    node = InventoryObject(kind="Node", uid="n", name="node-1", ips=("192.0.2.1",))
    table = IdentityTable([node, pod("agent", "192.0.2.1", begin=5, host_network=True)])
    assert names(table, "192.0.2.1", 10) == ["node-1"]
    assert table.role("192.0.2.1", 10) == "shared"
    assert table.endpoint("192.0.2.1", 10).node == "node-1"
    assert table.endpoint("192.0.2.1", 10).pod is None


def test_roles_come_from_the_object_or_the_narrowest_valid_range() -> None:
    wide = InventoryObject(kind="Range", uid="w", name="inside", ips=("10.0.0.0/8",), role="internal")
    nat = InventoryObject(kind="Range", uid="s", name="nat", ips=("10.9.0.0/16",), role="shared", valid_to=50)
    plain = InventoryObject(kind="Range", uid="p", name="plain", ips=("fd00::/8",))
    table = IdentityTable([nat, wide, plain, pod("a", "10.9.0.1")])
    assert [table.role(ip, 10) for ip in ("10.9.0.1", "10.9.0.2", "10.8.0.1", "192.0.2.1", "fd00::1", "::1")] == [
        "internal", "shared", "internal", "unknown", "unknown", "unknown",
    ]  # fmt: skip
    assert table.role("10.9.0.2", 60) == "internal"


def test_endpoints_carry_what_is_known() -> None:
    service = InventoryObject(kind="Service", uid="s", name="dns", namespace="kube-system", ips=("10.96.0.10",))
    table = IdentityTable([service, pod("a", "10.0.0.1", labels={"app": "a"}, workload="Deployment/a", node="n1")])
    known = table.endpoint("10.0.0.1", 5, port=80, protocol="TCP", mac="m", interface="veth0")
    assert known.model_dump(exclude_none=True) == {
        "ip": "10.0.0.1", "port": 80, "protocol": "TCP", "mac": "m", "interface": "veth0", "pod": "a",
        "namespace": "shop", "workload": "Deployment/a", "node": "n1", "labels": {"app": "a"}, "identity": "known",
            "roles": (), "forged": (),
    }  # fmt: skip
    assert table.endpoint("10.96.0.10", 5).service == "kube-system/dns"
    assert table.endpoint("192.0.2.9", 5).identity == "unknown"


def test_a_namespace_has_no_address_and_a_wrong_one_changes_nothing() -> None:
    table = IdentityTable([InventoryObject(kind="Namespace", uid="n", name="shop", ips=("10.0.0.9",))])
    assert len(table) == 0
    for item in (pod("a", "10.0.0.1", "10.0.0.256"), pod("a", "10.0.0.1/8", kind="Range")):
        with pytest.raises(ValueError, match=r"10\.0\.0"):
            table.add(item)
    assert (len(table), table.find("10.0.0.1", 0), table.role("10.0.0.1", 0)) == (0, None, "unknown")


def test_roles_are_declared_by_identity_and_follow_the_object() -> None:
    table = IdentityTable([pod("a", "10.0.0.1", begin=10, end=20, labels={"app": "a"}, workload="Deployment/a")])
    table.declare([RoleRule("resolver", Selector(workloads=("Deployment/a",)))])
    table.declare([RoleRule("ingress", Selector(cidrs=(ipaddress.ip_network("10.0.0.0/24"),)))])
    assert table.roles("10.0.0.1", 15) == ("ingress", "resolver")
    assert table.endpoint("10.0.0.1", 15).roles == ("ingress", "resolver")
    assert (table.roles("10.0.0.1", 25), table.roles("10.0.1.1", 15)) == (("ingress",), ())


def test_the_inventory_gives_roles_too() -> None:
    node = InventoryObject(kind="Node", uid="n", name="n1", ips=("192.0.2.1",))
    ranges = [
        InventoryObject(kind="Range", uid=role, name=role, ips=(net,), role=role)
        for role, net in (("shared", "192.0.2.64/26"), ("scanner", "192.0.2.128/26"), ("external", "0.0.0.0/0"))
    ]
    table = IdentityTable([node, *ranges])
    assert table.roles("192.0.2.1", 0) == table.roles("192.0.2.65", 0) == ("shared",)
    assert table.roles("192.0.2.129", 0) == ("vulnerability_scanner",)
    assert table.roles("198.51.100.1", 0) == table.roles("", 0) == ()


def test_pods_are_found_by_interface_in_time_and_workloads_know_since_when() -> None:
    def on(name: str, begin: int, end: int | None = None, node: str = "n1") -> InventoryObject:
        return pod(name, f"10.1.0.{begin}", begin=begin, end=end, node=node, interface="veth1", workload="Deployment/w")

    table = IdentityTable([on("a", 10, 20), on("b", 30), on("c", 5, node="n2")], most=4)
    at = [table.pods.behind("n1", "veth1", time) for time in (9, 10, 19, 20, 30)]
    assert [item.name if item else None for item in at] == [None, "a", "a", None, "b"]
    assert list(table.pods.interfaces("n1")) == ["veth1"]
    since = table.pods.workload_since
    assert (since("shop", "Deployment/w"), since("shop", "Deployment/w", "n1")) == (5, 10)
    table.add(on("b", 40, node="n3"))
    assert table.pods.behind("n1", "veth1", 45) is None
    for number in range(50, 60, 2):
        table.add(on(f"x{number}", number, number + 1))
    assert table.pods.behind("n1", "veth1", 10) is None, "forgotten to make room"
    assert since("shop", "Deployment/w", "n1") != 10
