"""Which addresses lie outside: of many at once and of one, the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.outside import is_outside, is_outside_halves, is_outside_text

FIRSTS = st.sampled_from([0, 10, 100, 127, 169, 172, 192, 8, 203, 224, 255]) | st.integers(0, 255)
FOUR = st.tuples(FIRSTS, st.sampled_from([16, 31, 32, 64, 127, 128, 168, 254]) | st.integers(0, 255))
SIX = st.sampled_from([0, 0xFC00, 0xFD12, 0xFE80, 0xFEC0, 0xFE00, 0xFF02, 0x2001]) | st.integers(0, 0xFFFF)


@given(FOUR, st.integers(0, 0xFFFF), SIX, st.integers(0, (1 << 64) - 1) | st.integers(0, 2))
def test_one_address_is_judged_as_many_are(four: tuple[int, int], rest: int, six: int, low: int) -> None:
    pairs = [(0, 0xFFFF << 32 | four[0] << 24 | four[1] << 16 | rest), (six << 48, low), (0, low)]
    halves = np.array(pairs, np.uint64)
    assert is_outside(halves[:, 0], halves[:, 1]).tolist() == [is_outside_halves(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("ip", "outside"),
    [("8.8.8.8", True), ("100.64.0.1", False), ("172.32.0.1", True), ("::1", False), ("2001:db8::1", True),
     ("fd00::1", False), ("fe80::1", False), ("224.0.0.1", False), ("0.0.0.0", False)],
)  # fmt: skip
def test_ranges_for_own_use_are_inside(ip: str, outside: bool) -> None:
    assert is_outside_text(ip) is outside
