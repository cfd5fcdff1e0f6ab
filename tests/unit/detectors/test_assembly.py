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
    assert "1 messages are missing" in closed[1].quality.notes


def test_repeats_are_dropped() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    message = node.second(1, flows=ROW)
    assembler.offer(message)
    assert assembler.offer(message) == []
    assert assembler.repeats == 1


def test_a_new_boot_starts_its_own_sequence() -> None:
    assembler = Assembler(EngineSettings())
    assembler.offer(Node(boot="one").second(1, flows=ROW))
    closed = assembler.offer(Node(boot="two").second(2, flows=ROW))
    assert [(t.tick, t.quality.notes) for t in closed] == [(BEGIN + 2, ())]


def test_a_late_cut_counts_in_the_present_tick() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    assembler.offer(node.second(10, flows=ROW))
    closed = assembler.offer(node.second(4, flows=ROW))
    assert [(t.tick, t.quality.late) for t in closed] == [(BEGIN + 11, 1)]


def test_a_capture_played_again_is_another_node() -> None:
    assembler = Assembler(EngineSettings())
    assembler.offer(Node(boot="one").second(100, flows=ROW))
    closed = assembler.offer(Node(boot="two").second(1, flows=ROW))
    assert [(t.node, t.tick) for t in closed] == [(1, BEGIN + 1)]
    assert assembler.watermark() == BEGIN + 1


def test_the_watermark_is_the_slowest_node_still_going() -> None:
    fast, slow, assembler = Node("fast"), Node("slow"), Assembler(EngineSettings())
    assembler.offer(slow.second(1))
    assembler.offer(fast.second(9))
    assert assembler.watermark() == BEGIN + 1
    assembler.offer(slow.second(2, final=True))
    assert assembler.watermark() == BEGIN + 9
    assembler.offer(fast.second(10, final=True))
    assert assembler.idle
    assert assembler.watermark() == BEGIN + 10


def test_nodes_are_bounded_and_refusals_counted() -> None:
    assembler = Assembler(EngineSettings(max_nodes=1))
    assembler.offer(Node("a").second(1))
    assert assembler.offer(Node("b").second(1)) == []
    assert assembler.refused_nodes == 1


def test_a_snapshot_keeps_unfinished_seconds() -> None:
    node, assembler = Node(), Assembler(EngineSettings())
    parts = [node.second(1, flows=ROW, part=i, parts=2) for i in range(2)]
    assembler.offer(parts[0])
    restored = Assembler(EngineSettings())
    restored.restore(decode_state(encode_state(assembler.snapshot())))
    assert [(t.tick, rows(t)) for t in restored.offer(parts[1])] == [(BEGIN + 1, 2)]
    assert restored.offer(parts[0]) == []
