"""From messages to closed ticks."""

from __future__ import annotations

from detectors.assembly import Assembler, ClosedTick
from detectors.settings import EngineSettings
from detectors.snapshot import decode_state, encode_state
from tests.event_rows import BEGIN, Node, flow

ROW = [flow("10.0.0.1", "10.0.0.2")]


def rows(tick: ClosedTick) -> int:
    return sum(b.num_rows for b in tick.batches.get("flow", ()))


def test_one_message_is_one_tick() -> None:
    assembler = Assembler(EngineSettings())
    closed = assembler.offer(Node().second(1, flows=ROW))
    assert [(t.tick, rows(t)) for t in closed] == [(BEGIN + 1, 1)]


def test_parts_close_together_in_any_order() -> None:
    node = Node()
    parts = [node.second(1, flows=ROW, part=i, parts=3) for i in range(3)]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        assembler = Assembler(EngineSettings())
        closed = [t for i in order for t in assembler.offer(parts[i])]
        assert [(t.tick, rows(t)) for t in closed] == [(BEGIN + 1, 3)]


def test_a_later_cut_closes_what_misses_a_part_and_says_so() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    first = node.second(1, flows=ROW, part=0, parts=2)
    node.second(1, flows=ROW, part=1, parts=2)  # lost on its way
    assert assembler.offer(first) == []
    closed = assembler.offer(node.second(2, flows=ROW))
    assert [t.tick for t in closed] == [BEGIN + 1, BEGIN + 2]
    assert "1 of 2 parts of a second are missing" in closed[0].quality.notes
    assert [t.quality.lost_messages for t in closed] == [0, 1]


def test_repeats_are_dropped() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    message = node.second(1, flows=ROW)
    assembler.offer(message)
    assert assembler.offer(message) == []
    assert assembler.counts["repeats"] == 1


def test_a_new_boot_starts_its_own_sequence() -> None:
    assembler = Assembler(EngineSettings())
    assembler.offer(Node(boot="one").second(1, flows=ROW))
    closed = assembler.offer(Node(boot="two").second(2, flows=ROW))
    assert [(t.tick, t.quality.notes) for t in closed] == [(BEGIN + 2, ())]


def test_a_late_cut_counts_in_the_present_tick_and_does_not_drive_it_on() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    assembler.offer(node.second(10, flows=ROW))
    assert assembler.offer(node.second(4, flows=ROW)) == []
    assert assembler.offer(node.second(5, flows=ROW)) == []
    closed = assembler.offer(node.second(11, flows=ROW))
    assert [(t.tick, t.quality.late, rows(t)) for t in closed] == [(BEGIN + 11, 2, 3)]


def test_a_capture_played_again_is_another_node() -> None:
    assembler = Assembler(EngineSettings())
    assembler.offer(Node(boot="one").second(100, flows=ROW))
    closed = assembler.offer(Node(boot="two").second(1, flows=ROW))
    assert [(t.node, t.tick) for t in closed] == [(1, BEGIN + 1)]


def test_the_watermark_is_the_slowest_node_still_going() -> None:
    fast, slow, assembler = Node("fast"), Node("slow"), Assembler(EngineSettings())
    assembler.offer(fast.second(8))
    assembler.offer(slow.second(1))
    assert assembler.watermark() is None, "hellos say who will speak; nothing is passed yet"
    (closed,) = assembler.offer(fast.second(9))
    assert closed.passed is not None
    assert (closed.passed.tick, assembler.watermark()) == (BEGIN + 1, BEGIN + 1)
    assembler.offer(slow.second(2, final=True))
    assert assembler.watermark() == BEGIN + 9
    (closed,) = assembler.offer(fast.second(10, final=True))
    assert closed.passed is not None
    assert closed.passed.idle
    assert assembler.idle
    assert assembler.watermark() == BEGIN + 10


def test_a_node_that_is_behind_is_not_waited_for_until_it_has_caught_up() -> None:
    fast, back, assembler = Node("fast"), Node("back"), Assembler(EngineSettings())
    assembler.offer(fast.second(100, flows=ROW))
    (late,) = assembler.offer(back.second(50, flows=ROW))
    assert (late.tick, late.joins, late.quality.late) == (BEGIN + 50, BEGIN + 101, 1)
    assembler.offer(fast.second(101))
    assert assembler.watermark() == BEGIN + 101
    assembler.offer(back.second(101))
    assembler.offer(fast.second(102))
    assert assembler.watermark() == BEGIN + 101


def test_the_final_part_may_come_before_others_of_its_second() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    parts = [node.second(1, flows=ROW, part=i, parts=3, final=i == 2) for i in range(3)]
    assert assembler.offer(parts[2]) == []
    assert assembler.offer(parts[0]) == []
    assert not assembler.idle
    assert [(t.tick, rows(t)) for t in assembler.offer(parts[1])] == [(BEGIN + 1, 3)]
    assert assembler.idle


def test_a_restarted_exporter_goes_on_with_its_nodes_time_and_loses_nothing() -> None:
    assembler = Assembler(EngineSettings())
    old, new = Node(boot="one", clock="live"), Node(boot="two", clock="live")
    assembler.offer(old.second(10, flows=ROW))
    assembler.offer(old.second(11, flows=ROW, part=0, parts=2))  # and then it was killed
    closed = assembler.offer(new.second(12, flows=ROW)) + assembler.offer(new.second(13, flows=ROW))
    assert [(t.node, t.tick, t.quality.lost_messages) for t in closed] == [
        (0, BEGIN + 11, 0), (0, BEGIN + 12, 0), (0, BEGIN + 13, 0),
    ]  # fmt: skip
    assert assembler.offer(old.second(11, flows=ROW, part=1, parts=2)) == []
    (closed_late,) = assembler.offer(new.second(14))
    assert closed_late.quality.late == 1


def test_two_exporters_of_one_node_share_its_seconds() -> None:
    first, second = Node(exporter="packets"), Node(exporter="policy")
    assembler = Assembler(EngineSettings())
    closed = [t for at in range(1, 5) for n in (first, second) for t in assembler.offer(n.second(at, flows=ROW))]
    # Of the first second nobody knows yet that there are two.
    assert [(t.tick - BEGIN, rows(t), t.quality.late) for t in closed] == [(1, 1, 0), (2, 3, 1), (3, 2, 0), (4, 2, 0)]
    closed = [t for at in range(5, 8) for t in assembler.offer(first.second(at, flows=ROW))]
    assert [(t.tick - BEGIN, rows(t)) for t in closed] == [(5, 1), (6, 1), (7, 1)], "one second's wait for the other"


def test_unfinished_seconds_of_a_node_are_bounded() -> None:
    assembler = Assembler(EngineSettings(max_cuts_pending=2, max_parts_pending=3))
    node = Node()
    assembler.offer(node.second(0))
    closed = [t.tick for at in (90, 80, 70, 60) for t in assembler.offer(node.second(at, part=0, parts=2))]
    assert closed == [BEGIN + 70, BEGIN + 71], "the oldest is closed; what comes for a closed one is late"
    for at in range(200):
        assembler.offer(node.second(100, part=at % 7, parts=9))
        assert sum(len(s.messages) for s in assembler.nodes[0].pending.values()) <= 2 * 3
    assert assembler.counts["forced"] > 0


def test_nodes_are_bounded_and_refusals_counted() -> None:
    assembler = Assembler(EngineSettings(max_nodes=1))
    assembler.offer(Node("a").second(1))
    assert assembler.offer(Node("b").second(1)) == []
    assert assembler.counts["refused"] == 1


def test_a_snapshot_keeps_unfinished_seconds() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    parts = [node.second(1, flows=ROW, part=i, parts=2) for i in range(2)]
    assembler.offer(parts[0])
    restored = Assembler(EngineSettings())
    restored.restore(decode_state(encode_state(assembler.snapshot())))
    assert [(t.tick, rows(t)) for t in restored.offer(parts[1])] == [(BEGIN + 1, 2)]
    assert restored.offer(parts[0]) == []
