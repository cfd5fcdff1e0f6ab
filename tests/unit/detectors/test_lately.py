"""What was looked at lately: once a span, of equal keys the first, and never forgotten where there is room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.lately import Lately


def fresh(lately: Lately, keys: Sequence[int], tick: int) -> list[bool]:
    found: list[bool] = lately.fresh(np.array(keys, np.uint64), np.full(len(keys), tick, np.int64)).tolist()
    return found


def test_once_a_span_and_of_equal_keys_the_first() -> None:
    lately = Lately(64, 60)
    assert fresh(lately, [7, 8, 7], 60) == [True, True, False]
    assert fresh(lately, [7, 9], 119) == [False, True]
    assert fresh(lately, [7, 9], 120) == [True, True]


def test_keys_of_several_ticks_at_once() -> None:
    lately = Lately(64, 60)
    both = lately.fresh(np.array([7, 7, 8], np.uint64), np.array([59, 60, 60], np.int64))
    assert both.tolist() == [True, True, True]


def test_without_room_all_is_fresh_until_the_span_is_over() -> None:
    lately = Lately(4, 60)
    assert fresh(lately, [1, 2, 3, 4], 1) == [True] * 4
    assert fresh(lately, [5, 5, 1], 2) == [True, True, False]
    assert fresh(lately, [5, 5], 200) == [True, False]


def test_a_snapshot_holds_it() -> None:
    first, second = Lately(64, 60), Lately(64, 60)
    fresh(first, range(1, 20), 1)
    second.restore({name: np.array(values) for name, values in first.snapshot().items()})
    assert fresh(second, [3, 30], 2) == [False, True]
