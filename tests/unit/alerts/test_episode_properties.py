"""The same findings give the same bytes, however they are batched, ordered or interrupted."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.episodes import EpisodeBook
from alerts.settings import EpisodeSettings
from schemas.finding import DataQuality, Endpoint, Evidence, Finding
from tests.unit.alerts.builders import finding

SMALL = EpisodeSettings(max_open=4, reserved_percent=50, spacing=3, refresh=20)

_addresses = st.integers(1, 30).map(lambda n: Endpoint(ip=f"10.0.0.{n}"))
_endpoints = st.lists(_addresses, max_size=4).map(tuple)
_value = st.floats(0, 1e9) | st.integers(0, 10_000)


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    fields: dict[str, Any] = {
        "kind": draw(st.sampled_from(["a", "b"])), "rule": draw(st.sampled_from([None, None, "r"])),
        "severity": draw(st.sampled_from(["low", "medium", "high"])), "confidence": draw(st.floats(0, 1)),
        "node": draw(st.sampled_from(["n1", "n2"])), "spoofable": draw(st.booleans()),
        "quiet": draw(st.sampled_from([1, 5, 9])), "started": draw(st.integers(0, 100)),
        "attackers": draw(_endpoints), "victims": draw(_endpoints),
        "evidence": (Evidence(name="x", value=draw(_value), limit=draw(st.sampled_from([None, 0, 10]))),),
        "data_quality": DataQuality(lost_packets=draw(st.integers(0, 3))),
    }  # fmt: skip
    detector = draw(st.sampled_from(["syn_flood", "connection_flood", "port_scan"]))
    return finding(detector, draw(st.sampled_from(["s1", "s2", "s3"])), **fields)


_ticks = st.dictionaries(st.integers(0, 120), st.lists(findings(), min_size=1, max_size=5), max_size=12)


def run(ticks: dict[int, list[Finding]], told: list[int], end: int = 500) -> list[bytes]:
    book = EpisodeBook("c1", SMALL)
    alerts = [a for tick in sorted({*ticks, *told}) for a in book.observe(tick, ticks.get(tick, []))]
    return [a.encode() for a in (*alerts, *book.close_quiet(end))]


@settings(max_examples=50, deadline=None)
@given(ticks=_ticks, told=st.lists(st.integers(0, 300)), seed=st.integers(0, 1 << 30))
def test_neither_empty_ticks_nor_the_order_within_a_tick_matter(
    ticks: dict[int, list[Finding]], told: list[int], seed: int
) -> None:
    shuffled = {tick: random.Random(seed).sample(found, len(found)) for tick, found in ticks.items()}
    plain = run(ticks, [])
    assert run(shuffled, told) == plain
    assert run(ticks, list(range(300))) == plain


@settings(max_examples=50, deadline=None)
@given(ticks=_ticks, cuts=st.sets(st.integers(0, 200)))
def test_a_snapshot_at_any_tick_continues_identically(ticks: dict[int, list[Finding]], cuts: set[int]) -> None:
    book, out = EpisodeBook("c1", SMALL), []
    for tick in range(201):
        out += [a.encode() for a in book.observe(tick, ticks.get(tick, []))]
        if tick in cuts:
            value = book.snapshot()
            book = EpisodeBook("c1", SMALL)
            book.restore(value)
            assert book.snapshot() == value
    assert out + [a.encode() for a in book.close_quiet(500)] == run(ticks, [])


@settings(max_examples=50, deadline=None)
@given(ticks=_ticks)
def test_output_is_ordered_revisions_are_complete_and_every_episode_closes_once(
    ticks: dict[int, list[Finding]],
) -> None:
    book = EpisodeBook("c1", SMALL)
    alerts = [a for tick in sorted(ticks) for a in book.observe(tick, ticks[tick])] + book.close_quiet(500)
    assert [(a.tick, a.id) for a in alerts] == sorted((a.tick, a.id) for a in alerts)
    for identity in {a.id for a in alerts}:
        mine = [a for a in alerts if a.id == identity]
        assert [a.revision for a in mine] == list(range(1, len(mine) + 1))
        assert [a.status for a in mine] == ["open"] * (len(mine) - 1) + ["closed"]
        assert len(mine) >= 2
    assert book.open_count == 0
