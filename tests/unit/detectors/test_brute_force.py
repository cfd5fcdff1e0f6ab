"""Password guessing: what counts as a guess, at and above the limits, and what only looks alike."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest

from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.events import PayloadSide
from schemas.exceptions import RoleRule, Selector
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CLOSED, CONVERSATION, Node, Row, flow

CLIENT, SERVER = "10.0.0.9", "10.0.0.7"


def run(messages: Sequence[EventMessage], identities: IdentityTable | None = None) -> list[Alert]:
    pipeline = Pipeline(Parts(PipelineSettings(), identities))
    found = [a for output in pipeline.run(messages) for a in output.alerts]
    return [a for a in found if a.detector == "brute_force"]


def login(
    at: int, port: int = 22, *, lasted: float = 3.0, sent: int = 2500, answered: int = 2400, **more: object
) -> Row:
    end = (BEGIN + at) * 10**9
    row = flow(CLIENT, SERVER, port, marks=CONVERSATION | CLOSED, end=end, conn_start=end - int(lasted * 1e9))
    row |= {"total_src_payload": sent, "total_dst_payload": answered, "first_payload": PayloadSide.RESPONDER}
    return row | more


def each_second(rows: Sequence[Row]) -> list[EventMessage]:
    node = Node()
    return [node.second(at, flows=[row | {"end": (BEGIN + at) * 10**9,
                                          "conn_start": row["conn_start"] + at * 10**9}])
            for at, row in enumerate(rows, 1)]  # fmt: skip


def kinds(rows: Sequence[Row]) -> list[str]:
    return sorted({f"{a.kind} {a.severity}" for a in run(each_second(rows))})


@pytest.mark.parametrize(
    ("port", "more", "limit", "expected"),
    [
        (22, {}, 8, "brute_force_ssh medium"),
        (22, {"lasted": 0.4}, 40, "brute_force_ssh medium"),
        (8022, {"app": "ssh"}, 8, "brute_force_ssh medium"),
        (21, {"sent": 98, "answered": 188}, 8, "brute_force_ftp medium"),
        (3389, {}, 8, "brute_force_rdp medium"),
        (445, {}, 40, "brute_force_smb medium"),
        (7777, {}, 60, "brute_force low"),
    ],
)
def test_at_and_above_the_limit(port: int, more: dict[str, object], limit: int, expected: str) -> None:
    row = login(0, port, **more)  # type: ignore[arg-type]
    assert kinds([row] * limit) == []
    assert kinds([row] * (limit + 1)) == [expected]


@pytest.mark.parametrize(
    "row",
    [
        login(0, answered=20_000),  # carried a file
        login(0, sent=9_000),
        login(0, sent=0),  # a health check that waits for the banner
        login(0, 25, answered=300, sent=300),  # mail is delivered
        login(0, 80, app="http"),
        login(0, 5432, first_payload=PayloadSide.INITIATOR),  # a database's client speaks first
        login(0, copy=True),
    ],
    ids=["download", "upload", "check", "mail", "http", "database", "copy"],
)
def test_what_is_no_guess(row: Row) -> None:
    assert kinds([row] * 100) == []


def test_conversations_that_differ_are_sessions() -> None:
    assert kinds([login(0, answered=500 + 5_400 * (at % 2)) for at in range(30)]) == []


def test_an_ftp_client_that_gets_files_is_let_in() -> None:
    node = Node()
    fetched = [login(0, 21, sent=57, answered=267), login(0, 40_001, sent=0, answered=20_000)]
    assert run([node.second(at, flows=fetched) for at in range(1, 60)]) == []


def test_old_guesses_are_forgotten() -> None:
    node = Node()
    assert run([node.second(at, flows=[login(at)]) for at in range(1, 3000, 60)]) == []


@pytest.mark.parametrize(("status", "credentials", "count", "expected"), [
    (401, True, 20, []), (401, True, 21, ["brute_force_http"]), (403, True, 21, ["brute_force_http"]),
    (401, False, 90, []), (200, True, 90, []),
])  # fmt: skip
def test_requests(status: int, credentials: bool, count: int, expected: list[str]) -> None:
    asked = {"src": CLIENT, "dst": SERVER, "dst_port": 80, "method": "GET", "status": status}
    node = Node()
    messages = [node.second(at, http=[asked | {"credentials": credentials}]) for at in range(1, count + 1)]
    assert sorted({a.kind for a in run(messages)}) == expected


def test_who_guesses_whom_is_said_and_ties_to_the_sender() -> None:
    (alert,) = run(each_second([login(0)] * 9))
    assert [e.ip for e in alert.attackers] == [CLIENT]
    assert [(e.ip, e.port) for e in alert.victims] == [(SERVER, 22)]
    assert not alert.spoofable
    assert "9 short, alike conversations" in alert.explanation


@pytest.mark.parametrize(("count", "expected"), [(40, 0), (41, 1)])
def test_addresses_that_many_share_have_higher_limits(count: int, expected: int) -> None:
    node = InventoryObject(kind="Node", uid="n", name="node1", ips=(CLIENT,))
    assert len({a.id for a in run(each_second([login(0)] * count), IdentityTable([node]))}) == expected


def test_roles_that_say_so_count_as_shared() -> None:
    identities = IdentityTable()
    identities.declare([RoleRule("nat_gateway", Selector(cidrs=(ipaddress.ip_network(CLIENT),)))])
    assert run(each_second([login(0)] * 30), identities) == []
