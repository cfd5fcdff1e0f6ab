"""How a log is fed changes nothing: not how many messages at once, not which nodes' seconds share a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.settings import EngineSettings
from detectors.snapshot import encode_state
from detectors.spaces import SPACES
from schemas.event_codec import EventMessage
from schemas.rollups import RollupMessage
from stream.stages import Parts, PipelineSettings
from tests.event_rows import CONVERSATION, REFUSED, Node, Row, flow, query


def _rows(dice: np.random.Generator, count: int) -> list[Row]:
    rows = []
    for _ in range(count):
        src, dst = f"10.0.{dice.integers(2)}.{dice.integers(6)}", f"10.0.9.{dice.integers(4)}"
        marks = int(dice.choice([1, CONVERSATION, 1 | REFUSED]))
        rows.append(flow(src, dst, int(dice.integers(1, 40)), marks=marks))
    return rows


def _log(seed: int, nodes: int, seconds: int) -> list[EventMessage]:
    """Nodes whose clocks differ, some seconds left out, one node that begins late."""
    dice = np.random.default_rng(seed)
    senders = [Node(f"n{n}") for n in range(nodes)]
    skew = dice.integers(0, 3, nodes)
    out = []
    for second in range(1, seconds):
        for number, node in enumerate(senders):
            if (number == 0 and second < 4) or dice.random() < 0.1:
                continue
            names = [query(f"10.0.0.{dice.integers(5)}", f"x{dice.integers(9)}.example.com") for _ in range(2)]
            at = second + 50 * (second > 9) + int(skew[number])
            out.append(node.second(at, flows=_rows(dice, int(dice.integers(0, 25))), dns=names))
    return out


def _feed(messages: Sequence[EventMessage], cuts: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
    """Alerts and rollups of a detect stage fed in pieces that end at the cuts."""
    stage = Parts(PipelineSettings(engine=EngineSettings(event_partitions=1))).detect(0)
    alerts, rollups = [], []
    bounds = sorted({0, *(c % len(messages) for c in cuts), len(messages)})
    for first, last in pairwise(bounds):
        output = stage.feed(messages[first:last])
        alerts += [a.encode() for a in output.alerts]
        rollups += [r.encode() for r in output.rollups]
    return alerts, rollups


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 50), nodes=st.integers(1, 5), cuts=st.lists(st.integers(0, 80), max_size=20))
def test_any_feeding_gives_the_same_alerts_and_rollups(seed: int, nodes: int, cuts: list[int]) -> None:
    messages = _log(seed, nodes, 16)
    assert _feed(messages, cuts) == _feed(messages, ())


def test_also_where_tables_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is admitted, turned away or refused depends on the log alone."""
    for name in ("pair", "sweep"):
        monkeypatch.setitem(SPACES, name, replace(SPACES[name], capacity=24, reserved=12))
    messages = _log(7, 4, 40)
    whole = _feed(messages, ())
    assert any(b'"state_shed"' in alert for alert in whole[0])
    assert _feed(messages, range(len(messages))) == whole
    assert _feed(messages, range(0, len(messages), 7)) == whole


def _correlated(rollups: Sequence[RollupMessage], one_by_one: bool) -> tuple[list[bytes], bytes]:
    stage = Parts(PipelineSettings(engine=EngineSettings(event_partitions=2, rollup_partitions=1))).correlate(0)
    alerts = []
    for piece in [[r] for r in rollups] if one_by_one else [list(rollups)]:
        alerts += [a.encode() for a in stage.feed(piece).alerts]
    return alerts, b"".join(encode_state(section.state) for section in stage.snapshot().values())


@pytest.mark.parametrize("seed", range(5))
def test_stage_two_does_not_see_which_sender_came_first(seed: int) -> None:
    """Two senders' rollups, interleaved in any way that keeps each sender's order."""
    parts = Parts(PipelineSettings(engine=EngineSettings(event_partitions=2, rollup_partitions=1)))
    stages = [parts.detect(p) for p in range(2)]
    flood = [flow(f"10.7.{i >> 8}.{i & 255}", "10.0.9.1", 80) for i in range(600)]
    logs = [Node(f"n{p}") for p in range(2)]
    sent = [
        [r for second in range(1, 20) for r in stages[p].feed([logs[p].second(second, flows=flood)]).rollups]
        for p in range(2)
    ]
    dice = np.random.default_rng(seed)
    mixed = [sent[0][0], sent[1][0]]
    places = [1, 1]
    while places[0] < len(sent[0]) or places[1] < len(sent[1]):
        which = int(dice.integers(2))
        if places[which] < len(sent[which]):
            mixed.append(sent[which][places[which]])
            places[which] += 1
    ordered = [r for pair in zip(*sent, strict=True) for r in pair]
    alerts, state = _correlated(mixed, one_by_one=bool(seed % 2))
    assert alerts
    assert (alerts, state) == _correlated(ordered, one_by_one=False)
