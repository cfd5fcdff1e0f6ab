"""Silent nodes, wrong clocks, and that the log alone decides what comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.assembly import Assembler, ClosedTick
from detectors.settings import EngineSettings
from detectors.snapshot import decode_state, encode_state
from schemas.event_codec import EventMessage, encode
from tests.event_rows import BEGIN, LiveNode, Node, flow

ROW = [flow("10.0.0.1", "10.0.0.2")]
HOUR = 3600


def offered(assembler: Assembler, messages: Iterable[EventMessage]) -> list[ClosedTick]:
    return [tick for message in messages for tick in assembler.offer(message)]


def ticks(closed: Sequence[ClosedTick], node: int = 0) -> list[int]:
    return [t.tick - BEGIN for t in closed if t.node == node]


def test_a_silent_node_is_said_once_and_not_waited_for() -> None:
    steady, killed, assembler = LiveNode("steady"), LiveNode("killed"), Assembler(EngineSettings(silence_s=10))
    offered(assembler, [m for at in range(1, 6) for m in (steady.at(at), killed.at(at))])
    closed = offered(assembler, [steady.at(at) for at in range(6, 40)])
    (silence,) = [t for t in closed if t.silent]
    assert (silence.node, silence.tick) == (1, BEGIN + 6)
    assert silence.quality.notes == ("node killed fell silent",)
    assert assembler.counts["silences"] == assembler.silent == 1
    assert assembler.watermark() == BEGIN + 39
    moved = [(t.passed.tick - BEGIN, t.passed.silent) for t in closed if t.passed]
    # Unheard since 5.05: more than 10 s later is the message of second 16, which closes that second too.
    assert moved[:2] == [(16, 1), (17, 1)]


def test_what_a_node_says_after_its_silence_is_late_where_the_partition_has_passed_it() -> None:
    steady, back, assembler = LiveNode("steady"), LiveNode("back"), Assembler(EngineSettings())
    offered(assembler, [m for at in range(1, 6) for m in (steady.at(at), back.at(at))])
    offered(assembler, [steady.at(at) for at in range(6, 40)])
    spooled = [back.at(40 + cut / 1000, cut=cut) for cut in range(6, 40)]
    closed = offered(assembler, spooled)
    # Second 6 was closed by its silence; the others keep their time.
    assert ticks(closed, 1) == list(range(7, 40))
    assert [t.joins - BEGIN for t in closed] == [40] * 33
    assert [t.quality.late for t in closed] == [2] + [1] * 32
    assert assembler.silent == 0
    closed = offered(assembler, [m for at in range(40, 43) for m in (steady.at(at), back.at(at))])
    assert sum(t.quality.late for t in closed) <= 1
    assert assembler.watermark() == BEGIN + 42


def test_an_outage_of_the_broker_makes_nobody_silent() -> None:
    nodes, assembler = [LiveNode("a"), LiveNode("b")], Assembler(EngineSettings())
    offered(assembler, [node.at(at) for at in range(1, 6) for node in nodes])
    spooled = [node.at(66 + number, cut=cut) for number, node in enumerate(nodes) for cut in range(6, 66)]
    closed = offered(assembler, spooled)
    assert assembler.counts["silences"] == assembler.counts["restamped"] == 0
    assert ticks(closed, 0) == ticks(closed, 1) == list(range(6, 66))
    assert all(t.quality.late == 0 for t in closed)


def test_captures_and_logs_without_append_times_know_no_silence() -> None:
    for clock, appended in (("capture", True), ("live", False)):
        steady, quiet = Node("steady", clock=clock), Node("quiet", clock=clock)
        messages = [quiet.second(1, flows=ROW), *(steady.second(at, flows=ROW) for at in range(1, 100))]
        stamped = [replace(m, appended_ms=1000 * at if appended else None) for at, m in enumerate(messages)]
        assembler = Assembler(EngineSettings())
        offered(assembler, stamped)
        assert (assembler.counts["silences"], assembler.watermark()) == (0, BEGIN + 1)


def test_a_capture_may_skip_hours() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    closed = offered(assembler, [node.second(1, flows=ROW), node.second(5 * HOUR, flows=ROW)])
    assert [(t.tick - BEGIN, t.quality.late, t.quality.lost_messages) for t in closed] == [(1, 0, 0), (5 * HOUR, 0, 0)]


def test_a_clock_that_is_ahead_is_put_right_at_once_and_flagged() -> None:
    node, assembler = LiveNode(ahead=HOUR), Assembler(EngineSettings())
    closed = offered(assembler, [node.at(at) for at in range(1, 20)])
    assert ticks(closed) == list(range(1, 20))
    assert all(t.quality.restamped == 1 for t in closed)
    times = closed[-1].batches["flow"][0].column("end").to_pylist()
    assert times == [(BEGIN + 19) * 1_000_000_000 - 1]


def test_a_clock_that_steps_ahead_and_back_leaves_others_alone() -> None:
    node, other, assembler = LiveNode("steps"), LiveNode("other"), Assembler(EngineSettings())
    closed: list[ClosedTick] = []
    for at in range(1, 60):
        node.ahead = HOUR if 20 <= at < 40 else 0
        closed += offered(assembler, [node.at(at), other.at(at)])
    assert ticks(closed, 0) == ticks(closed, 1) == list(range(1, 60))
    assert [t.tick - BEGIN for t in closed if t.quality.restamped] == list(range(20, 40))
    assert assembler.watermark() == BEGIN + 59


def test_a_clock_that_steps_back_is_believed_to_be_wrong_when_it_lasts() -> None:
    node, other, assembler = LiveNode("steps"), LiveNode("other"), Assembler(EngineSettings(skew_s=5))
    closed: list[ClosedTick] = []
    for at in range(1, 60):
        node.ahead = -2 * HOUR if at >= 20 else 0
        closed += offered(assembler, [node.at(at), other.at(at)])
    # Five seconds could have been retries. They count in the first second after.
    assert ticks(closed, 0) == [*range(1, 21), *range(25, 60)]
    assert [(t.tick - BEGIN, t.quality.late) for t in closed[2:] if t.quality.late] == [(20, 5)]
    assert ticks(closed, 1) == list(range(1, 60))
    assert assembler.watermark() == BEGIN + 59
    assert assembler.counts["silences"] == 0


def test_what_a_client_had_to_send_again_keeps_its_time() -> None:
    node, assembler = LiveNode(), Assembler(EngineSettings())
    stuck = [replace(node.at(at), appended_ms=(BEGIN + 40) * 1000 + at) for at in range(1, 40)]
    closed = offered(assembler, [*stuck, *(node.at(at) for at in range(40, 50))])
    assert ticks(closed) == list(range(1, 50))
    assert assembler.counts["restamped"] == 0


def test_a_second_cannot_end_after_it_was_appended() -> None:
    node, assembler = LiveNode(), Assembler(EngineSettings())
    ahead = [node.at(1), node.at(2, cut=2 * HOUR), node.at(3)]
    unsaid = replace(node.second(HOUR, flows=ROW), appended_ms=(BEGIN + 4) * 1000)
    closed = offered(assembler, [*ahead, unsaid])
    assert ticks(closed) == [1, 2, 3, 4]
    assert [t.quality.restamped for t in closed] == [0, 1, 0, 1]


def test_a_clock_near_any_limit_harms_nothing() -> None:
    assembler = Assembler(EngineSettings())
    limit = (1 << 63) - 1
    for number, (sent, cut) in enumerate([(limit, 0), (1, 0), (limit, 1 << 33), (1, 1 << 33), (0, 1 << 33)]):
        node = LiveNode(f"n{number}")
        for at in range(1, 80):
            message = node.at(at)
            header = message.header.model_copy(update={"sent_at": sent, "cut": cut})
            for tick in assembler.offer(replace(message, header=header)):
                assert 0 <= tick.tick <= tick.joins <= 1 << 34
        assert sum(len(s.messages) for s in assembler.nodes[number].pending.values()) <= 4 * 64
    capture = Node("capture")
    for _ in range(200):
        for tick in assembler.offer(capture.second((1 << 33) - BEGIN)):
            assert tick.tick <= tick.joins <= 1 << 34


def test_the_number_of_a_node_long_gone_goes_to_a_new_one() -> None:
    assembler = Assembler(EngineSettings(max_nodes=2))
    steady, gone = LiveNode("steady"), LiveNode("gone")
    offered(assembler, [steady.at(1), gone.at(1)])
    offered(assembler, [steady.at(at, flows=()) for at in range(2, HOUR)])
    assert offered(assembler, [LiveNode("new").at(HOUR)]) == []
    assert assembler.counts["refused"] == 1
    offered(assembler, [steady.at(at) for at in range(HOUR, HOUR + 10)])
    (first,) = offered(assembler, [LiveNode("new").at(HOUR + 9)])
    assert (first.node, first.first, first.tick) == (1, True, BEGIN + HOUR + 9)
    assert [n.name for n in assembler.nodes] == ["steady", "new"]
    back = LiveNode("gone")
    assert offered(assembler, [back.at(HOUR + 10)]) == []


# --- the log alone decides ---


def said(tick: ClosedTick) -> Any:
    """Everything a tick says, rows as bytes."""
    rows = {k: [b.serialize().to_pybytes() for b in batches] for k, batches in tick.batches.items()}
    return tick.node, tick.tick, tick.capabilities, rows, tick.quality, tick.joins, tick.first, tick.silent, tick.passed


@st.composite
def logs(draw: st.DrawFn) -> list[EventMessage]:
    """A partition's log: nodes that pause, restart and have odd clocks; parts, repeats, losses, in any order."""
    nodes = [LiveNode(name) for name in ("a", "b", "c")]
    steps = draw(st.lists(st.tuples(
        st.integers(0, 2), st.sampled_from([1, 1, 1, 2, 3]), st.sampled_from([0, 0, 0, 7, HOUR, -HOUR]),
        st.sampled_from(["", "", "", "lose", "repeat", "swap", "final", "restart", "pause"]),
        st.sampled_from([0, 1, 1, 1, 4, 30])), min_size=5, max_size=40))  # fmt: skip
    log: list[EventMessage] = []
    now = 0.0
    for place, parts, ahead, what, later in steps:
        now += later
        if what == "restart":
            nodes[place] = LiveNode(nodes[place].name, f"boot{len(log)}")
        node = nodes[place]
        node.ahead = ahead
        rows = ROW if place == 0 else ()
        sent = [
            node.at(now, part=i, parts=parts, final=what == "final" and i == parts - 1, flows=rows)
            for i in range(parts)
        ]
        if what == "lose":
            sent.pop()
        if what == "repeat":
            sent += sent
        if what == "swap":
            sent.reverse()
        if what != "pause":
            log += sent
    return log


@settings(deadline=None)
@given(logs(), st.data())
def test_a_restart_anywhere_changes_nothing(log: list[EventMessage], data: st.DataObject) -> None:
    whole = Assembler(EngineSettings(silence_s=5))
    expected = [said(t) for t in offered(whole, log)]
    stop = data.draw(st.integers(0, len(log)))
    before, after = Assembler(EngineSettings(silence_s=5)), Assembler(EngineSettings(silence_s=5))
    found = [said(t) for t in offered(before, log[:stop])]
    after.restore(decode_state(encode_state(before.snapshot())))
    assert encode_state(after.snapshot()) == encode_state(before.snapshot())
    assert found + [said(t) for t in offered(after, log[stop:])] == expected
    assert encode_state(after.snapshot()) == encode_state(whole.snapshot())


@settings(deadline=None)
@given(logs(), st.data())
def test_repeats_change_nothing(log: list[EventMessage], data: st.DataObject) -> None:
    plain, repeated = Assembler(EngineSettings()), Assembler(EngineSettings())
    expected = [said(t) for t in offered(plain, log)]
    doubled: list[EventMessage] = []
    for message in log:
        doubled.append(message)
        if data.draw(st.booleans()):
            again = data.draw(st.sampled_from(doubled[-8:]))
            doubled.append(replace(again, appended_ms=message.appended_ms))
    assert [said(t) for t in offered(repeated, doubled)] == expected


@settings(deadline=None)
@given(logs())
def test_ticks_of_a_node_grow_and_the_watermark_never_goes_back(log: list[EventMessage]) -> None:
    assembler = Assembler(EngineSettings(silence_s=5))
    last: dict[int, int] = {}
    mark = 0
    for message in log:
        for tick in assembler.offer(message):
            assert tick.tick > last.get(tick.node, -1)
            last[tick.node] = tick.tick
            assert tick.joins > mark
            if tick.passed:
                assert tick.passed.tick > mark
                mark = tick.passed.tick
        assert (assembler.watermark() or 0) == mark


@settings(deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_parts_within_a_second_does_not_show(nodes: int, seconds: list[int], random: Any) -> None:
    senders = [LiveNode(f"n{i}") for i in range(nodes)]
    log = [[n.at(at, part=i, parts=parts) for n in senders for i in range(parts)] for at, parts in enumerate(seconds)]
    shuffled = [random.sample(messages, len(messages)) for messages in log]
    outcomes = []
    for order in (log, shuffled):
        assembler = Assembler(EngineSettings())
        closed = offered(assembler, (m for messages in order for m in messages))
        by_node = sorted((assembler.nodes[t.node].name, t.tick, said(t)[2:5]) for t in closed if t.tick > BEGIN)
        outcomes.append((by_node, assembler.watermark()))
    assert outcomes[0] == outcomes[1]


def test_a_log_is_what_is_written_of_it() -> None:
    """Append times are not part of a message: they are the broker's word, not the sender's."""
    message = LiveNode().at(1)
    assert b"appended" not in encode(message)
