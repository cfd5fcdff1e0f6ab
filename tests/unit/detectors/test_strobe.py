"""Connections without a pause, at and above the limit; and busy clients of mirrors and of popular services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from detectors.day_counts import BUCKETS, SPAN, TICK_COUNT, DayCounts
from schemas.finding import Finding
from schemas.inventory import InventoryObject
from tests.event_rows import BEGIN, CONVERSATION, OPENED, REFUSED, UDP, UNANSWERED, Node, Row, flow
from tests.unit.detectors.one_detector import pod, run

POD, FAR = "10.0.0.5", "203.0.113.9"
DAY, HOUR = 86_400, 3600
MIDNIGHT = DAY - BEGIN % DAY
LIMIT, HISTORY = 100, 500
Calls = Sequence[tuple[int, int]]


def rows(count: int, src: str = POD, dst: str = FAR, port: int = 443, **more: Any) -> list[Row]:
    return [flow(src, dst, port, **({"marks": CONVERSATION, "dst_packets": 3} | more)) for _ in range(count)]


def told(messages: Mapping[int, Sequence[Row]], inventory: Sequence[InventoryObject] = ()) -> list[Finding]:
    """Findings for rows by second. A node's other traffic goes on, so that minutes end."""
    node, other = Node(), rows(1, "10.0.0.99", "203.0.113.99")
    ends = {at + 60 for at in messages} | {1}
    return run(
        "strobe", [node.second(at, flows=messages.get(at, other)) for at in sorted({*messages, *ends})],
        inventory, connections=LIMIT, history=HISTORY,
    )  # fmt: skip


def found(calls: Calls, inventory: Sequence[InventoryObject] = (), **more: Any) -> list[Finding]:
    """Findings for (second, connections); the node is watched for long before."""
    return told({at: rows(number, **more) for at, number in calls}, inventory)


def severities(calls: Calls, inventory: Sequence[InventoryObject] = (), **more: Any) -> list[str]:
    return [f.severity for f in found(calls, inventory, **more)]


@pytest.mark.parametrize(("number", "expected"), [(LIMIT, []), (LIMIT + 1, ["medium"])])
def test_at_and_above_the_limit(number: int, expected: list[str]) -> None:
    assert severities([(HOUR, number)]) == expected
    assert severities([(HOUR + n, 1) for n in range(number)]) == expected


def test_says_what_it_counted() -> None:
    (one,) = found([(HOUR, LIMIT), (2 * HOUR, 1)])
    assert one.summary == (
        "10.0.0.5 opened 101 connections to 203.0.113.9:443 within 3660 s, limit 100; 0% failed, at most 0 on earlier "
        "days"
    )
    assert not one.spoofable


def test_nobody_knows_yet_what_a_new_node_does() -> None:
    assert severities([(HISTORY - 59, LIMIT + 1)]) == ["low"]
    assert severities([(HISTORY - 58, LIMIT + 1)]) == ["medium"]


@pytest.mark.parametrize("marks", [OPENED | REFUSED, OPENED | UNANSWERED])
def test_calls_in_vain_are_medium_at_once_and_no_habit(marks: int) -> None:
    days = [(MIDNIGHT + n * DAY + HOUR, LIMIT + 1) for n in range(3)]
    assert severities([(2, LIMIT + 1)], marks=marks) == ["medium"]
    assert severities(days, marks=marks) == ["medium"] * 3
    assert found([(2, LIMIT + 1)], marks=marks)[0].spoofable


def test_what_is_older_than_a_day_is_forgotten_to_a_bucket() -> None:
    assert severities([(HOUR, LIMIT), (HOUR + 22 * HOUR, 1)]) == ["medium"]
    assert severities([(HOUR, LIMIT), (HOUR + DAY, LIMIT)]) == []


def test_a_habit_is_told_of_on_its_first_day() -> None:
    days = [(MIDNIGHT + n * DAY + HOUR, 3 * LIMIT) for n in range(6)]
    assert [f.tick - BEGIN for f in found(days)] == [MIDNIGHT + HOUR + 60]
    (first, second) = found([*days[:2], (MIDNIGHT + 3 * DAY, 12 * LIMIT + 1)])
    assert (first.evidence[0].limit, second.evidence[0].limit) == (LIMIT, 12 * LIMIT)


def test_replicas_share_the_habit_and_a_restart_changes_nothing() -> None:
    replicas = [pod(f"p{n}", f"10.0.0.{n}", "Deployment/hooks") for n in (5, 6)]
    found_at = told({MIDNIGHT + HOUR: rows(3 * LIMIT), MIDNIGHT + DAY + HOUR: rows(3 * LIMIT, "10.0.0.6")}, replicas)
    assert [f.attackers[0].ip for f in found_at] == [POD]


@pytest.mark.parametrize(
    "more",
    [
        {"dst": "10.0.0.9"}, {"dst": "192.168.1.4"}, {"dst": "224.0.0.9", "proto": UDP},
        {"src": "198.51.100.4"}, {"copy": True}, {"marks": 0}, {"proto": 1, "port": 0},
        {"proto": UDP, "port": 53}, {"proto": UDP, "port": 123}, {"port": 853},
    ],
    ids=["service inside", "site", "group", "visitor", "copy", "going on", "ping", "resolver", "time", "DoT"],
)  # fmt: skip
def test_what_is_no_strobe(more: dict[str, Any]) -> None:
    assert severities([(HOUR, 3 * LIMIT)], **more) == []


def test_many_mirrors_are_no_one_service() -> None:
    assert told({HOUR: [row for n in range(40) for row in rows(LIMIT, dst=f"198.51.100.{n}")]}) == []


@pytest.mark.parametrize(("sources", "expected"), [(3, {"medium"}), (4, {"low"})])
def test_a_popular_service_is_low(sources: int, expected: set[str]) -> None:
    found_at = told({HOUR: [row for n in range(sources) for row in rows(LIMIT + 1, f"10.0.0.{n}")]})
    assert len(found_at) == sources
    assert {f.severity for f in found_at} == expected


@pytest.mark.parametrize(
    "item",
    [
        InventoryObject(kind="Node", uid="n", name="n", ips=(POD,)),
        InventoryObject(kind="Range", uid="r", name="r", ips=("203.0.113.0/24",), role="internal"),
    ],
)
def test_nodes_are_many_and_own_ranges_are_inside(item: InventoryObject) -> None:
    assert severities([(HOUR, 3 * LIMIT)], [item]) == []


def counted(counts: DayCounts, tick: int, keys: Sequence[int], opened: int = 1) -> None:
    """What the tick says is counted when its minute has ended, with the next call."""
    pairs = np.zeros(len(keys), TICK_COUNT)
    pairs["key"], pairs["opened"] = keys, opened
    counts.gather(tick, pairs)


def test_pairs_that_come_and_go_do_not_push_out_a_strobe() -> None:
    counts = DayCounts(64)
    for minute in range(1, 101):
        counted(counts, 60 * minute, [7] * 20)
        counted(counts, 60 * minute + 1, range(1000 * minute, 1000 * minute + 9))
    assert len(counts) <= 64
    assert counts.shed == 0
    (slot,) = np.flatnonzero(counts.rows["key"] == 7)
    assert counts.rows["opened"][slot].sum() == 99 * 20


def test_busy_pairs_stay_and_what_finds_no_room_is_counted() -> None:
    counts = DayCounts(64)
    counted(counts, 1, range(1, 65), 50)
    counted(counts, 61, range(100, 110))
    counted(counts, 121, [3])
    assert counts.shed == 10
    other = DayCounts(64)
    other.restore(*counts.snapshot())
    assert [part.tobytes() for part in other.snapshot()[:2]] == [part.tobytes() for part in counts.snapshot()[:2]]
    for either in (counts, other):
        counted(either, 181, [4])
    assert other.rows["opened"].sum() == counts.rows["opened"].sum() == 64 * 50 + 1


def test_so_much_in_one_minute_that_it_is_counted_at_once() -> None:
    counts = DayCounts(1 << 18)
    counted(counts, 1, range(1 << 16))
    counted(counts, 2, [7])
    assert len(counts) == 1 << 16


def test_buckets_are_emptied_as_they_come_round() -> None:
    counts = DayCounts(64)
    for bucket in range(3 * BUCKETS):
        counted(counts, bucket * SPAN + 1, [7])
    counted(counts, 3 * BUCKETS * SPAN - SPAN + 61, [8])
    assert counts.rows["opened"][0].sum() == BUCKETS
    counted(counts, (3 * BUCKETS + BUCKETS // 2) * SPAN, [7])
    counted(counts, (3 * BUCKETS + BUCKETS // 2) * SPAN + 60, [8])
    assert counts.rows["opened"][0].sum() == BUCKETS // 2
