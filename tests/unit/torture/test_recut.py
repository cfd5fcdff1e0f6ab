"""However the same rows are cut into messages and fed, the answer is the same to the byte."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.generate import Shape, ordinary
from schemas.event_codec import EventMessage
from tests.torture.answer import Replayed, differences, replayed
from tests.torture.attacks import injected, scan, sweep, syn_flood, tunnel
from tests.torture.inputs import closed
from tests.torture.recut import MOST_PARTS, by_rows, shuffled, split

pytestmark = pytest.mark.timeout(120)  # a log is run through the whole composition a dozen times

SHAPE = Shape(nodes=3, seconds=30, rows=50)
ATTACKS = [
    scan(0, 5), sweep(1, 8), syn_flood(2, 10, per_second=600, seconds=15), tunnel(1, 3),
]  # fmt: skip


@cache
def log() -> tuple[EventMessage, ...]:
    return tuple(closed(injected(ordinary(SHAPE, 7), ATTACKS, 7), SHAPE))


@cache
def wanted() -> Replayed:
    return replayed(log())


def test_the_log_raises_alerts_of_several_kinds() -> None:
    words = {value.split(b'"detector":"')[1].split(b'"')[0] for value in wanted().answer.alerts.values()}
    assert words >= {b"port_scan", b"host_sweep", b"syn_flood", b"dns_tunnel"}
    assert wanted().answer.incidents


@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.integers(1, 4000), feed=st.integers(1, 64))
def test_sizes_of_messages_and_feeds_change_nothing(rows: int, feed: int) -> None:
    assert differences(wanted().answer, replayed(by_rows(log(), rows), feed).answer) == []


@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32), most=st.integers(1, 5), feed=st.integers(1, 64))
def test_parts_in_any_order_within_their_second_change_nothing(seed: int, most: int, feed: int) -> None:
    assert differences(wanted().answer, replayed(shuffled(log(), seed, most), feed).answer) == []


@pytest.mark.parametrize("feed", [1, 2, 7, 64])
def test_how_many_messages_are_fed_at_once_changes_nothing(feed: int) -> None:
    assert differences(wanted().answer, replayed(log(), feed).answer) == []


@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.integers(1, 4000), feed=st.integers(1, 64), seed=st.integers(0, 1 << 32))
def test_lookups_may_be_cut_shuffled_and_fed_in_any_way(rows: int, feed: int, seed: int) -> None:
    lookups = [EventMessage(m.header, {k: b for k, b in m.batches.items() if k == "dns"}) for m in log()]
    answer = replayed(lookups).answer
    assert answer.alerts
    assert differences(answer, replayed(by_rows(lookups, rows), feed).answer) == []
    assert differences(answer, replayed(shuffled(lookups, seed), feed).answer) == []


@pytest.mark.parametrize("rows", [1, 13, 4000])
def test_cutting_keeps_every_row_in_order(rows: int) -> None:
    cut = list(by_rows(log(), rows))
    assert _rows(cut) == _rows(log())
    sequences = [m.header.sequence for m in cut if m.header.node == "node1"]
    assert sequences == list(range(len(sequences)))
    assert max(m.header.parts for m in cut) <= MOST_PARTS


def test_shuffling_keeps_every_row_and_every_second() -> None:
    mixed = list(shuffled(log(), 3))
    assert [m.header.cut for m in mixed] == sorted(m.header.cut for m in mixed)
    assert Counter(m.header.cut for m in mixed) != Counter(m.header.cut for m in log())
    assert _rows(sorted(mixed, key=lambda m: (m.header.cut, m.header.node, m.header.sequence))) == _rows(
        sorted(log(), key=lambda m: (m.header.cut, m.header.node, m.header.sequence))
    )


def test_a_split_second_says_losses_once_and_its_end_last() -> None:
    first = log()[0]
    message = EventMessage(first.header.model_copy(update={"lost_rows": 5, "final": True}), first.batches)
    parts = split(message, 4)
    assert [(p.header.part, p.header.parts) for p in parts] == [(n, 4) for n in range(4)]
    assert [p.header.lost_rows for p in parts] == [5, 0, 0, 0]
    assert [p.header.final for p in parts] == [False, False, False, True]


def _rows(messages: list[EventMessage] | tuple[EventMessage, ...]) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], list[int]] = {}
    for message in messages:
        batch: pa.RecordBatch | None = message.batches.get("flow")
        if batch is not None:
            ids = found.setdefault((message.header.node, message.header.cut), [])
            ids.extend(batch.column("flow_id").to_pylist())
    return found
