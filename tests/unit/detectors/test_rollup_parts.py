"""What would be a large message leaves in parts: entities stay whole, nothing is lost, and the answer is the same."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import partials
from detectors.rollup_batches import PART_BYTES, Sections, cut, to_batches
from detectors.victim_rows import flood_rows, with_floods
from schemas.framing import MAX_ROWS
from schemas.rollups import SECTIONS, RollupMessage, decode_rollup
from stream.stages import CorrelateStage, Parts, PipelineSettings
from tests.event_rows import CONVERSATION, UDP, Node, flow
from tests.unit.schemas.messages import rollup_header


def addresses(count: int) -> Any:
    return np.arange(count, dtype=">u8").repeat(2).view(np.uint8).reshape(count, 16)


def plain(name: str, rows: int, **columns: Any) -> dict[str, Any]:
    values = {c.name: np.arange(rows) for c in SECTIONS[name]}
    texts = {c.name: np.array(["x" * (1 + i % 7) for i in range(rows)]) for c in SECTIONS[name] if c.dtype == "string"}
    packed = {c.name: addresses(rows) for c in SECTIONS[name] if c.unit.startswith("16 bytes")}
    return values | texts | packed | columns


@st.composite
def dealt(draw: st.DrawFn) -> Sections:
    """What one rollup partition has: some victims, with sources in any order, tallies, workloads."""
    victims, tallies, workloads = (draw(st.integers(0, 40)) for _ in range(3))
    made: Sections = {}
    if victims:
        made["victim"] = plain("victim", victims)
        owners = np.array(draw(st.lists(st.integers(0, victims - 1), max_size=200)), np.int64)
        if len(owners):
            made["new_source"] = {"victim": owners, "src_hash": np.arange(len(owners), dtype=np.uint64)}
    if tallies:
        made["tally"] = plain("tally", tallies)
    if workloads:
        made["workload"] = plain("workload", workloads)
    return made


def told(sections: Sections) -> tuple[set[bytes], set[tuple[bytes, int]], list[Any]]:
    """Victims, sources of each by its address, and everything else."""
    victims = sections.get("victim", {"dst": np.zeros((0, 16), np.uint8)})["dst"]
    new = sections.get("new_source", {"victim": np.zeros(0, np.int64), "src_hash": np.zeros(0, np.uint64)})
    pairs = {(bytes(victims[v]), h) for v, h in zip(new["victim"].tolist(), new["src_hash"].tolist(), strict=True)}
    rest = [sections[name][key].tolist() for name in ("tally", "workload") if name in sections
            for key in ("port", "minute") if key in sections[name]]  # fmt: skip
    return {bytes(v) for v in victims}, pairs, rest


@given(dealt(), st.integers(1, 6000))
def test_parts_hold_everything_once_and_entities_whole(sections: Sections, most: int) -> None:
    parts = list(cut(sections, most))
    victims, pairs, rest = told(sections)
    found = [told(part) for part in parts]
    assert sum(len(v) for v, _, _ in found) == len(victims)
    assert set().union(*(v for v, _, _ in found)) == victims
    assert sum(len(p) for _, p, _ in found) == len(pairs)
    assert set().union(*(p for _, p, _ in found)) == pairs
    assert sum(len(values) for _, _, r in found for values in r) == sum(map(len, rest))
    header = rollup_header()
    for part in parts:
        decode_rollup(RollupMessage(header, to_batches(part)).encode())  # refuses rows that point outside


@given(dealt())
def test_what_is_small_is_one_part_as_it_is(sections: Sections) -> None:
    assert list(cut(sections)) == [sections]


def test_the_largest_part_is_one_that_topic_and_decoder_take() -> None:
    count, each = 40, 16_384  # the most sources that a victim may have
    sections: Sections = {
        "victim": plain("victim", count),
        "new_source": {"victim": np.arange(count).repeat(each), "src_hash": np.arange(count * each, dtype=np.uint64)},
    }
    parts = list(cut(sections))
    assert sum(len(part["new_source"]["victim"]) for part in parts) == count * each
    assert max(len(part["new_source"]["victim"]) for part in parts) <= MAX_ROWS
    assert max(len(RollupMessage(rollup_header(), to_batches(p)).encode()) for p in parts) < 2 * PART_BYTES


def test_floods_of_few_victims_are_told_of_these_only() -> None:
    names = [c.name for c in SECTIONS["victim_flood"] if c.name != "victim"]
    victims = {"dst": addresses(5), **{name: np.zeros(5, np.int64) for name in names}}
    victims["udp_packets"][3], victims["reflector_port"][1] = 7, 53
    rows = flood_rows(victims)
    assert rows["victim"].tolist() == [1, 3]
    again = with_floods({"dst": victims["dst"]}, rows)
    assert all(again[name].tolist() == victims[name].tolist() for name in names)
    assert not any(with_floods({"dst": victims["dst"]}, None)[name].any() for name in names)


def _answer() -> tuple[list[bytes], int]:
    """What stage 2 says of floods summed over two nodes amid other traffic, and how many rollups told it."""
    settings = PipelineSettings.model_validate({"engine": {"event_partitions": 1, "rollup_partitions": 1}})
    parts = Parts(settings)
    first, second = parts.detect(0), CorrelateStage(0, parts)
    nodes, said, rollups = (Node("a"), Node("b")), [], 0
    for at in range(6):
        rows = [flow(f"198.18.{i >> 8}.{i & 255}", "10.9.9.9", 9999, proto=UDP, src_port=at) for i in range(9000)]
        rows += [flow("10.1.0.1", f"10.2.{i >> 8}.{i & 255}", 80, src_port=at, marks=CONVERSATION) for i in range(300)]
        messages = [node.second(at, flows=rows) for node in nodes]
        for rollup in first.feed(messages).rollups:
            rollups += 1
            said += second.feed([decode_rollup(rollup.encode())]).alerts
    return [alert.encode() for alert in said], rollups


def test_the_answer_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, few = _answer()
    monkeypatch.setattr(partials, "cut", partial(cut, most=3000))
    in_parts, many = _answer()
    assert whole, "the flood is found"
    assert in_parts == whole
    assert many > 3 * few
