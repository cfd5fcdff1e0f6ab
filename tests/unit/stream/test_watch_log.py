"""Which containments stage 1 looks for, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from detectors.settings import EngineSettings
from schemas.action import Action
from schemas.event_codec import EventMessage
from schemas.events import CAPTURE_CAPABILITIES, Capability
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from schemas.watch import WatchPair, WatchRow
from schemas.word import iso_time
from stream.stages import Parts, PipelineSettings
from stream.watch_log import WatchLog
from tests.event_rows import BEGIN, CONVERSATION, UDP, Node, flow

SETTINGS = PipelineSettings(engine=EngineSettings(event_partitions=1, rollup_partitions=1))
POD, VICTIM, NODE_IP = "10.0.0.5", "10.0.0.9", "10.0.9.1"
OUT = WatchPair(source="10.0.0.5/32", destination="10.0.0.9/32", protocol="TCP", port=80)


def applied(response: str = "r1", at: int = 0, outcome: str = "applied", **more: Any) -> Action:
    """An action at a number of seconds after BEGIN."""
    fields: dict[str, Any] = {
        "id": f"{response}{outcome}{at}", "response_id": response, "alert_id": "a", "cluster": "test",
        "action": "quarantine_pod", "outcome": outcome, "mode": "enforce", "target": "shop/web", "reason": "proven",
        "message": "", "decided_tick": BEGIN, "at": iso_time(BEGIN + at), "expires_at": iso_time(BEGIN + at + 600),
        "watch": (OUT,),
    }  # fmt: skip
    return Action(**{**fields, **more})


def log_of(*records: tuple[int, Action | None]) -> WatchLog:
    """A log of actions by when they were appended, s after BEGIN."""
    log = WatchLog()
    for offset, (at, action) in enumerate(records):
        log.take(offset, (BEGIN + at) * 1000, action)
    return log


def second(node: Node, at: int, *flows: dict[str, Any], **header: Any) -> EventMessage:
    message = node.second(at, flows=flows, **header)
    return replace(message, appended_ms=message.header.cut * 1000 + 40)


def packets(at: float, asked: int, replied: int, *, since: float | None = None, **more: Any) -> dict[str, Any]:
    """A row of POD towards VICTIM whose packets came from ``since`` to ``at``, s after BEGIN."""
    begin = at if since is None else since
    times: dict[str, Any] = {"start": round((BEGIN + begin) * 10**9), "end": round((BEGIN + at) * 10**9)}
    ends: dict[str, Any] = {"src": more.pop("src", POD), "dst": more.pop("dst", VICTIM), "port": more.pop("port", 80)}
    return flow(**{**ends, **times, "marks": CONVERSATION, "src_packets": asked, "dst_packets": replied, **more})


def seen(log: WatchLog, messages: Sequence[EventMessage], batch: int = 1, identities: IdentityTable | None = None,
         ) -> list[WatchRow]:  # fmt: skip
    stage = Parts(SETTINGS, identities, watches=log).detect(0)
    return [r for n in range(0, len(messages), batch) for r in stage.feed(messages[n : n + batch]).watched]


def test_what_is_active_is_a_question_to_append_times() -> None:
    log = log_of((0, applied()), (5, applied("r2")), (9, applied(outcome="reverted")), (12, applied("r2", 12)))
    ids = [[w.response_id for w in log.at((BEGIN + at) * 1000)] for at in (0, 1, 5, 6, 9, 10, 13)]
    assert ids == [[], ["r1"], ["r1"], ["r1", "r2"], ["r1", "r2"], ["r2"], ["r2"]]
    assert log.at((BEGIN + 13) * 1000)[0].since == (BEGIN + 12) * 10**9


def test_other_words_change_nothing() -> None:
    log = log_of((0, None), (1, applied(outcome="proposed")), (2, applied(watch=())), (3, applied(outcome="expired")))
    assert log.at((BEGIN + 9) * 1000) == ()
    with pytest.raises(ValueError, match="not_a_net"):
        log.take(4, BEGIN * 1000, applied(watch=(WatchPair(source="not_a_net", destination="10.0.0.0/8"),)))
    assert log.counts() == {"active": 0, "refused": 0}


def test_too_many_are_refused_and_counted_and_what_is_over_makes_room() -> None:
    log = WatchLog(most=2)
    for number in range(3):
        log.take(number, BEGIN * 1000, applied(f"r{number}"))
    assert log.counts() == {"active": 2, "refused": 1}
    log.take(3, (BEGIN + 601) * 1000, applied("later", 601))
    assert log.counts() == {"active": 1, "refused": 1}


def test_attempts_answers_and_packets_of_before_are_told_apart() -> None:
    node = Node()
    messages = [
        second(node, 1, packets(0.5, 3, 2)),  # nothing is watched yet
        second(node, 11, packets(10.5, 1, 0), packets(10.6, 2, 3), packets(10.7, 1, 1, dst="10.0.0.8")),
        second(node, 12, packets(11.5, 9, 9, since=2.0), packets(9.5, 1, 1, since=9.0)),
        second(node, 13, packets(12.5, 1, 1, port=81), packets(12.5, 1, 1, proto=UDP), packets(12.5, 0, 0)),
        second(node, 14, final=True),
    ]
    rows = seen(log_of((10, applied(at=10))), messages)
    assert [(r.tick - BEGIN, r.attempts, r.answered, r.unsure) for r in rows] == [(11, 2, 1, 0), (12, 1, 0, 1)]
    assert rows[0].last_packet == rows[0].last_answered == round((BEGIN + 10.6) * 10**9)
    assert (rows[1].last_packet, rows[1].last_answered) == (round((BEGIN + 11.5) * 10**9), 0)
    assert {(r.cluster, r.node, r.response_id) for r in rows} == {("test", "node1", "r1")}


def test_one_side_alone_is_no_answer_and_copies_do_not_count() -> None:
    node = Node()
    rows = seen(log_of((0, applied())), [
        second(node, 2, packets(1.5, 0, 4), packets(1.5, 4, 0), packets(1.6, 4, 4, copy=True)), second(node, 3),
    ])  # fmt: skip
    assert [(r.attempts, r.answered) for r in rows] == [(2, 0)]


def test_blocks_of_addresses_and_what_is_spared() -> None:
    pairs = (
        WatchPair(source="10.0.0.5/32", destination="0.0.0.0/0", spared=("10.0.9.0/24",)),
        WatchPair(source="0.0.0.0/0", destination="10.0.0.5/32", spared=("10.0.9.0/24",)),
        WatchPair(source="fd00::5/128", destination="::/0"),
    )
    node = Node()
    flows = [
        packets(1.5, 1, 0, dst="192.0.2.1"), packets(1.5, 1, 1, dst=NODE_IP), packets(1.5, 1, 1, src=NODE_IP, dst=POD),
        packets(1.5, 1, 1, src="10.0.3.3", dst=POD), packets(1.5, 1, 0, src="fd00::5", dst="fd00::9"),
        packets(1.5, 1, 0, src="fd00::6", dst="fd00::9"),
    ]  # fmt: skip
    rows = seen(log_of((0, applied(watch=pairs))), [second(node, 2, *flows), second(node, 3)])
    assert [(r.attempts, r.answered) for r in rows] == [(3, 1)]


def test_a_node_with_the_address_says_zero_and_others_say_nothing() -> None:
    pod = InventoryObject(
        kind="Pod", uid="p", namespace="shop", name="web", ips=(POD,), node="node1", valid_to=BEGIN + 4
    )
    messages = [second(n, at) for at in range(1, 8) for n in (NODES[0], NODES[1])]
    rows = seen(log_of((0, applied(at=1))), messages, identities=IdentityTable([pod]))
    assert [(r.node, r.tick - BEGIN, r.attempts) for r in rows] == [("node1", at, 0) for at in (1, 2, 3)]


NODES = (Node("node1"), Node("node2", "two"))


def test_a_source_that_sees_one_direction_says_nothing() -> None:
    node = Node(capabilities=int(CAPTURE_CAPABILITIES & ~Capability.REVERSE))
    assert seen(log_of((0, applied())), [second(node, 2, packets(1.5, 1, 0)), second(node, 3)]) == []


def test_nothing_is_said_after_the_end() -> None:
    node = Node()
    log = log_of((0, applied(expires_at=iso_time(BEGIN + 5))))
    messages = [second(node, at, packets(at - 0.5, 1, 0)) for at in (60, 65, 66, 67)]
    assert [r.tick - BEGIN for r in seen(log, messages)] == [60, 65]


@pytest.mark.parametrize("batch", [2, 7, 100])
def test_batches_change_nothing(batch: int) -> None:
    node = Node()
    messages = [second(node, at, packets(at - 0.5, 1, at % 2)) for at in range(1, 40)]
    log = log_of((3, applied()), (10, applied("r2")), (20, applied(outcome="expired")))
    rows = seen(log, messages, batch)
    assert rows == seen(log, messages)
    assert {r.response_id for r in rows} == {"r1", "r2"}


def test_pairs_are_bounded_too_and_one_that_changes_its_own_finds_room() -> None:
    log = WatchLog(pairs=5)
    for number, pairs in ((1, 3), (2, 3), (1, 5)):
        log.take(number, BEGIN * 1000, applied(f"r{number}", watch=(OUT,) * pairs))
    assert log.counts() == {"active": 1, "refused": 1}
    assert len(log.at(BEGIN * 1000 + 1)[0].pairs) == 5
