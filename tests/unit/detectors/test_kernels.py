"""Compiled loops against plain Python, and where their code is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import mixing
from detectors.features import Feature, Sum
from detectors.grouping import Grouping
from detectors.hashing import combine, mix
from detectors.kernels import cells, compiled
from detectors.kernels.grouping import best_by, number_small, number_words, rank_by, sum_by, top_by
from detectors.spaces import KeySpace
from detectors.table import SpaceTable

WORDS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-(1 << 62), 1 << 62) | st.integers(0, 2)), max_size=60)
SUM = Feature("sum", "test", 60, Sum("amount"))


@given(WORDS)
def test_numbers_are_given_in_order_of_first_appearance(pairs: list[tuple[int, int]]) -> None:
    one, two = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    number, first = number_words(one, two)
    known = list(dict.fromkeys(pairs))
    assert number.tolist() == [known.index(p) for p in pairs]
    assert first.tolist() == [pairs.index(p) for p in known]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9), st.integers(0, 3)), max_size=40))
def test_sums_bests_and_ranks(entries: list[tuple[int, int, int]]) -> None:
    number, values, ties = (np.array([e[i] for e in entries], np.int64) for i in range(3))
    own = {n: [i for i, e in enumerate(entries) if e[0] == n] for n in range(5)}
    assert sum_by(number.astype(np.int32), values, 5).tolist() == [sum(entries[i][1] for i in own[n]) for n in range(5)]
    expected = [min(own[n], key=lambda i: (-entries[i][1], entries[i][2], i), default=-1) for n in range(5)]
    assert best_by(number, values, ties, 5).tolist() == expected
    most = 3
    tops = [i for n in range(5) for i in sorted(own[n], key=lambda i: (-values[i], ties[i], i))[:most]]
    assert top_by(number, values, ties, 5, most).tolist() == tops
    small, first = number_small(number.astype(np.int64), 5)
    hashed, first_hashed = number_words(number.astype(np.int64), np.zeros(len(number), np.int64))
    assert (small.tolist(), first.tolist()) == (hashed.tolist(), first_hashed.tolist())
    assert rank_by(number, 5).tolist() == [own[e[0]].index(i) for i, e in enumerate(entries)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=30))
def test_columns_are_grouped_whatever_their_width(rows: list[tuple[int, int, int]]) -> None:
    columns = [np.array([r[i] for r in rows], np.int64) for i in range(3)]
    grouping = Grouping(np.arange(len(rows)), columns)
    known = list(dict.fromkeys(rows))
    assert grouping.number.tolist() == [known.index(r) for r in rows]
    assert grouping.sizes().tolist() == [rows.count(k) for k in known]


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_hashes_are_those_of_the_columns(left: int, right: int) -> None:
    one, two = np.array([left], np.uint64), np.array([right], np.uint64)
    assert cells.mix(np.uint64(left)) == mix(one)[0]
    assert cells.combine(np.uint64(left), np.uint64(right)) == combine(one, two)[0]
    assert (mixing.mix(one), mixing.combine(one, two)) == (mix(one), combine(one, two))


def test_a_flood_of_keys_that_do_one_thing_leaves_room_for_one_that_does_several() -> None:
    table = SpaceTable(KeySpace("small", 1, ("name",), "keys", capacity=2000, reserved=1000), [SUM])
    scanner = mix(np.array([7], np.uint64))
    for second in range(50):
        flood = mix(np.arange(1000 + 500 * second, 1500 + 500 * second, dtype=np.uint64))
        keys = np.concatenate([flood, scanner]) if second >= 40 else flood
        ticks = np.full(len(keys), 1000 + second)
        slots = table.touch(keys, ticks, lambda rows: {"name": rows})
    assert slots[-1] >= 0, "it did one thing a second, and the fourth got it a slot"
    assert table.since(slots[-1:]).tolist() == [1043]
    assert len(table) < 1100
    assert table.shed == 0
    assert table.deferred > 20_000


def test_where_code_cannot_be_kept_a_private_copy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_KERNELS", str(tmp_path / "kept"))
    assert compiled._code_folder().parent == tmp_path / "kept"
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("SLUICEGATE_KERNELS", str(blocked))
    private = compiled._code_folder()
    assert private.is_dir()
    assert "sluicegate-kernels-" in private.name
