"""Connections that last: recorded ones whose clock is turned on, the limits, and the pools that every cluster has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from detectors.daily_most import DAYS, DailyMost
from exporter.sources.capture import read_messages
from schemas.finding import Finding
from schemas.inventory import InventoryObject
from tests.event_rows import BEGIN, UDP, Node, Row, flow
from tests.unit.detectors.one_detector import pod, run

CASES = Path(__file__).parents[2] / "cases"
POD, FAR = "10.0.0.5", "203.0.113.9"
HOUR, DAY = 3600, 86_400
LIMIT = 4 * HOUR
# Whole days since the epoch begin at these seconds after BEGIN.
MIDNIGHT = DAY - BEGIN % DAY


def held(seconds: int, at: int, dst: str = FAR, port: int = 443, src: str = POD, **more: Any) -> Row:
    """The row of a second of a connection that has lasted for so long."""
    end = (BEGIN + at) * 10**9
    values: Row = {"conn_start": end - seconds * 10**9, "start": end - 10**9, "end": end}
    values |= {"dst_packets": 1, "app": "tls", "direction_known": True}
    return flow(src, dst, port, marks=0, **(values | more))


def found(*told: tuple[int, int], inventory: Sequence[InventoryObject] = (), **more: Any) -> list[Finding]:
    """Findings for (second, duration)."""
    node = Node()
    return run("long_connection", [node.second(at, flows=[held(s, at, **more)]) for at, s in told], inventory)


def test_above_the_limit_and_not_at_it() -> None:
    assert found((20_000, LIMIT)) == []
    (one,) = found((20_000, LIMIT + 1))
    assert (one.severity, one.evidence[0].value, one.evidence[0].limit) == ("low", LIMIT + 1, LIMIT)
    assert one.started == BEGIN + 20_000 - LIMIT - 1
    assert (one.attackers[0].ip, one.victims[0].ip, one.victims[0].port) == (POD, FAR, 443)
    assert not one.spoofable


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"app": "ssh"}, "medium"), ({"app": "ssh", "port": 8443}, "medium"), ({"app": "", "port": 22}, "medium"),
        ({"app": "", "port": 1194, "proto": UDP}, "medium"), ({"app": "tls", "port": 22}, "low"),
        ({"app": "", "port": 5222}, "low"), ({"app": "quic", "proto": UDP}, "low"),
    ],
)  # fmt: skip
def test_remote_control_is_graver(more: dict[str, Any], expected: str) -> None:
    assert [f.severity for f in found((30_000, LIMIT + 60), **more)] == [expected]


@pytest.mark.parametrize(
    "more",
    [
        {"dst": "10.0.0.9", "port": 5432}, {"dst": "192.168.7.7", "port": 2379}, {"dst": "fd00::7", "port": 3306},
        {"dst": "224.0.0.251", "port": 5353, "proto": UDP}, {"src": "203.0.113.3", "dst": POD},
        {"src": "203.0.113.3"}, {"dst_packets": 0}, {"src_packets": 0}, {"copy": True}, {"port": 179},
        {"port": 853}, {"proto": UDP, "port": 123}, {"proto": 50}, {"direction_known": False, "port": 40001},
        {"direction_known": False, "src_port": 443, "port": 8443},
    ],
    ids=[
        "database pool", "etcd watch", "pool by IPv6", "group", "visitor", "passing through", "deaf", "mute",
        "copy", "BGP", "resolver over TLS", "NTP", "ESP", "answers of a server", "guessed",
    ],
)  # fmt: skip
def test_what_lasts_by_design_or_is_not_ours(more: dict[str, Any]) -> None:
    assert found((90_000, 80_000), **more) == []


def test_a_guessed_direction_is_believed_where_ports_are_plain() -> None:
    assert len(found((90_000, 80_000), direction_known=False)) == 1


def test_keep_alives_of_a_minute_tell_and_revise_one_subject() -> None:
    told = found(*((at, at) for at in range(LIMIT - 120, LIMIT + 240, 60)))
    assert [f.evidence[0].value for f in told] == [LIMIT + 60, LIMIT + 120, LIMIT + 180]
    assert len({f.subject for f in told}) == 1


def test_of_several_connections_of_a_pair_the_longest_tells() -> None:
    rows = [held(LIMIT + 5, 90_000), held(LIMIT + 9, 90_000, src_port=40001), held(LIMIT + 7, 90_000, src_port=40002)]
    (one,) = run("long_connection", [Node().second(90_000, flows=rows)])
    assert one.evidence[0].value == LIMIT + 9


def test_a_popular_service_is_nobodys_secret() -> None:
    node = Node()
    rows = [held(LIMIT + 9, 90_000 + n, src=f"10.0.0.{n}") for n in range(1, 7)]
    messages = [node.second(90_000 + n, flows=[row]) for n, row in enumerate(rows, start=1)]
    assert [f.attackers[0].ip for f in run("long_connection", messages)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_replicas_count_once_and_share_their_habit() -> None:
    replicas = [pod(f"p{n}", f"10.0.0.{n}", "Deployment/chat") for n in range(1, 9)]
    node = Node()
    first = [node.second(MIDNIGHT + n, flows=[held(6 * HOUR, MIDNIGHT + n, src=f"10.0.0.{n}")]) for n in range(1, 8)]
    assert len(run("long_connection", first, replicas)) == 7
    node = Node()
    day = MIDNIGHT + DAY
    far = "198.51.100.3"
    rows = {
        MIDNIGHT + 1: held(6 * HOUR, MIDNIGHT + 1, src="10.0.0.1"),
        day + 1: held(12 * HOUR, day + 1, far, src="10.0.0.8"),
        day + 2: held(12 * HOUR + 1, day + 2, far, src="10.0.0.8"),
    }
    restarted = [node.second(at, flows=[row]) for at, row in rows.items()]
    assert [f.evidence[0].limit for f in run("long_connection", restarted, replicas)] == [LIMIT, 12 * HOUR]


def test_who_holds_one_every_day_is_told_of_on_the_first_day() -> None:
    days = [(MIDNIGHT + n * DAY + HOUR, 10 * HOUR) for n in range(10)]
    assert [f.tick - BEGIN for f in found(*days)] == [MIDNIGHT + HOUR]


def test_one_port_is_no_habit_on_another() -> None:
    node = Node()
    second = MIDNIGHT + DAY
    messages = [node.second(MIDNIGHT + 1, flows=[held(10 * HOUR, MIDNIGHT + 1)]),
                node.second(second, flows=[held(10 * HOUR, second, port=4443)])]  # fmt: skip
    assert len(run("long_connection", messages)) == 2


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (InventoryObject(kind="Node", uid="n", name="n", ips=(POD,)), ["low"]),
        (InventoryObject(kind="Range", uid="r", name="r", ips=("203.0.113.0/24",), role="internal"), []),
        (pod("p", POD, "Deployment/agent"), ["medium"]),
    ],
)
def test_inventory(item: InventoryObject, expected: list[str]) -> None:
    assert [f.severity for f in found((90_000, 80_000), inventory=[item], app="ssh")] == expected


def test_a_recorded_shell_whose_clock_is_turned_on() -> None:
    """What the exporter told of a recorded SSH session, some seconds of it, five hours later."""
    session = [
        row
        for message in read_messages(CASES / "lateral_movement" / "ssh_operator" / "capture.pcapng.gz", "node1", "lab")
        if "flow" in message.batches
        for row in message.batches["flow"].to_pylist()
        if row["app"] == "ssh" and row["src_packets"] and row["dst_packets"]
    ][-1]
    later = {"end": session["conn_start"] + 5 * HOUR * 10**9, "start": session["conn_start"] + 4 * HOUR * 10**9}
    inside = Node().second(20_000, flows=[session | later])
    assert run("long_connection", [inside]) == []
    (one,) = run("long_connection", [Node().second(20_000, flows=[session | later | {"dst": FAR}])])
    assert (one.severity, one.evidence[0].value) == ("medium", 5 * HOUR)


def test_the_most_of_a_day_counts_from_the_next_day_on() -> None:
    most = DailyMost()
    for day, value in ((1, 5), (1, 9), (1, 7), (2, 3)):
        most.learn(day, value)
    assert [most.usual(day) for day in (1, 2, 3)] == [0, 9, 9]
    for day in range(3, 3 + DAYS):
        most.learn(day, 1)
    assert most.usual(99) == 1
