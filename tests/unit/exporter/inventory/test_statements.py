from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exporter.inventory.statements import SETTINGS, Statements, cut_of, owner_uid, part_uid
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject


def pod(uid: str, ip: str = "10.0.0.1", begin: int = 0, **fields: Any) -> InventoryObject:
    return InventoryObject(kind="Pod", uid=uid, name=uid, ips=(ip,), valid_from=begin, **fields)


def said(statements: Statements) -> list[tuple[str, int, int | None]]:
    items = statements.take(1000)
    statements.sent(items)
    return [(item.uid, item.valid_from, item.valid_to) for item in items]


def test_a_moment_counts_in_the_cut_that_closes_its_second() -> None:
    assert [cut_of(t) for t in (100.0, 100.999, 101.0)] == [101, 101, 102]


def test_what_is_so_is_said_once_and_its_end_keeps_its_last_second() -> None:
    statements = Statements()
    for at in (100.2, 103.0, 107.5):
        statements.tell("Pod", "a", [pod("a", begin=90)], at)
    statements.tell("Pod", "a", (), 107.9)
    statements.tell("Pod", "a", (), 108.9)
    # Both are pending under one key; the later word is what is sent.
    assert said(statements) == [("a", 90, 109)]
    assert len(statements) == 0


def test_what_changes_does_so_when_it_is_seen() -> None:
    statements = Statements()
    statements.tell("Pod", "a", [pod("a", begin=90)], 100.0)
    statements.tell("Pod", "a", [pod("a", begin=90, labels={"x": "1"})], 104.5)
    statements.tell("Pod", "a", [pod("a", "10.0.0.2", begin=103, labels={"x": "1"})], 104.6)
    statements.tell("Pod", "a", [pod("a", "10.0.0.3", begin=110, labels={"x": "1"})], 111.0)
    assert said(statements) == [("a", 90, None), ("a", 105, None), ("a", 110, None)]


def test_a_clock_that_is_ahead_does_not_hide_a_pod() -> None:
    statements = Statements()
    statements.tell("Pod", "a", [pod("a", begin=5000)], 100.0)
    statements.tell("Pod", "b", [pod("b")], 100.0)
    assert said(statements) == [("a", 101, None), ("b", 101, None)]


def test_what_a_full_list_lacks_has_ended_also_what_was_said_before_this_process_began() -> None:
    range_of_node = InventoryObject(kind="Range", uid=part_uid("n", "10.0.0.0/24"), name="r", ips=("10.0.0.0/24",))
    foreign = InventoryObject(kind="Range", uid="office", name="office", ips=("192.0.2.0/24",))
    known = [
        pod("a", begin=10), pod("b", begin=10), pod("gone", begin=10), pod("gone", begin=20).model_copy(
            update={"valid_to": 30}), InventoryObject(kind="Node", uid="n", name="n"), range_of_node, foreign,
    ]  # fmt: skip
    statements = Statements(known)
    assert len(statements) == 4
    statements.tell("Pod", "a", [pod("a", begin=10)], 100.0)
    statements.only("Pod", ["a"], 100.0)
    statements.only("Range", [], 100.0)
    assert said(statements) == [("b", 10, 102)]
    statements.only("Node", [], 101.0)
    assert sorted(said(statements)) == [("n", 0, 103), ("n/10.0.0.0/24", 0, 103)]
    assert owner_uid("n/10.0.0.0/24") == "n"


def test_a_part_that_is_no_longer_told_has_ended_alone() -> None:
    node = InventoryObject(kind="Node", uid="n", name="n", valid_from=5)
    parts = [InventoryObject(kind="Range", uid=part_uid("n", str(i)), name="r", valid_from=5) for i in range(2)]
    statements = Statements()
    statements.tell("Node", "n", [node, *parts], 10.0)
    said(statements)
    statements.tell("Node", "n", [node, parts[1]], 20.0)
    assert said(statements) == [("n/0", 5, 22)]


def test_all_that_holds_is_said_again_and_what_changes_while_it_is_sent_stays_pending() -> None:
    statements = Statements()
    statements.tell("Pod", "a", [pod("a", begin=5)], 10.0)
    items = statements.take(10)
    statements.tell("Pod", "a", (), 12.0)
    statements.sent(items)
    assert said(statements) == [("a", 5, 14)]
    statements.tell("Pod", "b", [pod("b", begin=5)], 10.0)
    assert (said(statements), said(statements)) == ([("b", 5, None)], [])
    statements.restate()
    assert said(statements) == [("b", 5, None)]
    assert statements.said == 4
    assert statements.take(0) == []


def test_declared_ranges_are_a_scope_of_their_own() -> None:
    mine = InventoryObject(kind="Range", uid=f"{SETTINGS}:east:x", name="x", ips=("10.0.0.0/8",))
    statements = Statements([mine])
    statements.only("Range", [], 10.0)
    assert said(statements) == []
    statements.only(SETTINGS, [], 10.0)
    assert said(statements) == [(mine.uid, 0, 12)]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["", "10.0.0.1", "10.0.0.2"]), st.integers(0, 3)), max_size=25
    ),
    restart=st.integers(0, 25),
)
def test_a_table_fed_with_what_is_said_knows_what_was_so(steps: list[tuple[str, str, int]], restart: int) -> None:
    statements, table = Statements(), IdentityTable()
    told: list[InventoryObject] = []
    at, now = 100.0, dict[str, tuple[str, float]]()
    for number, (uid, ip, passed) in enumerate(steps):
        at += 3 + passed
        if number == restart:
            statements = Statements(told)
        if ip:
            if now.get(uid, ("", 0.0))[0] != ip:
                now[uid] = (ip, at)
            statements.tell("Pod", uid, [pod(uid, ip, cut_of(now[uid][1]))], at)
        else:
            now.pop(uid, None)
            statements.tell("Pod", uid, (), at)
        for item in statements.take(100):
            told.append(item)
            table.add(item)
        statements.sent(statements.take(100))
        for address in ("10.0.0.1", "10.0.0.2"):
            holders = sorted((since, uid) for uid, (ip, since) in now.items() if ip == address)
            found = table.find(address, cut_of(at) + 2)
            assert (found.uid if found else None) == (holders[-1][1] if holders else None)
