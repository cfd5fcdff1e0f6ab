"""The generated traffic is what the benchmarks say it is: ordinary, seeded, and valid on the wire."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import engine
from benchmarks.generate import FLOWS_PER_DNS_ROW, Shape, ordinary
from schemas.event_codec import decode, encode
from schemas.events import FlowMark

SHAPE = Shape(nodes=3, seconds=4, rows=400)


def test_has_the_shape_asked_for_in_log_order() -> None:
    messages = list(ordinary(SHAPE, 1))
    assert SHAPE.flows == sum(m.rows("flow") for m in messages) == 4800
    assert {m.rows("dns") for m in messages} == {400 // FLOWS_PER_DNS_ROW}
    headers = [m.header for m in messages]
    assert [(h.cut - headers[0].cut, h.node) for h in headers[:4]] == [
        (0, "node0"), (0, "node1"), (0, "node2"), (1, "node0"),
    ]  # fmt: skip
    assert [h.sequence for h in headers if h.node == "node2"] == [0, 1, 2, 3]


def test_a_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = ([encode(m) for m in ordinary(SHAPE, seed)] for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_every_message_passes_the_decoder() -> None:
    for message in ordinary(SHAPE, 2):
        assert decode(encode(message)).batches == message.batches


def test_mixes_marks_as_documented() -> None:
    (message,) = ordinary(Shape(1, 1, 50_000), 3)
    marks = message.batches["flow"].column("marks").to_numpy()
    opened = (marks & FlowMark.OPENED) != 0
    assert np.mean(opened) == pytest.approx(0.70, abs=0.02)
    assert np.mean(marks[opened] == int(FlowMark.OPENED)) == pytest.approx(0.02, abs=0.005)
    assert np.mean((marks[opened] & FlowMark.REFUSED) != 0) == pytest.approx(0.01, abs=0.005)
    assert np.mean((marks[opened] & FlowMark.EXCHANGED) != 0) == pytest.approx(0.93, abs=0.01)


def test_no_detector_finds_anything_in_it() -> None:
    """Else the benchmarks would measure alerting."""
    messages = list(ordinary(Shape(nodes=4, seconds=20, rows=500), 1))
    every = engine.detector_sets()["all"]
    assert engine.feed(messages, every, 4) == 0
