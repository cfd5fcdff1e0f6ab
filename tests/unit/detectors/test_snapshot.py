"""State to bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.snapshot import SnapshotError, decode_state, encode_state

STATE = {
    "count": 3,
    "names": ["a", "b"],
    "nested": {"values": np.arange(6).reshape(2, 3), "bytes": np.zeros((2, 16), np.uint8)},
    "texts": np.array(["x", "yz"]),
    "empty": np.zeros(0, np.uint64),
}


def test_round_trip_is_exact() -> None:
    back = decode_state(encode_state(STATE))
    assert np.array_equal(back["nested"]["values"], STATE["nested"]["values"])  # type: ignore[index]
    assert back["nested"]["bytes"].shape == (2, 16)
    assert back["texts"].tolist() == ["x", "yz"]
    assert back["empty"].dtype == np.uint64
    assert encode_state(back) == encode_state(STATE)


def test_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        encode_state({"bad": np.array([object()])})


@given(cut=st.integers(0, 200), flip=st.integers(0, 200), value=st.integers(0, 255))
def test_damage_is_an_error_or_harmless(cut: int, flip: int, value: int) -> None:
    data = bytearray(encode_state(STATE))
    data[flip % len(data)] = value
    try:
        decode_state(bytes(data[: max(0, len(data) - cut)]))
    except SnapshotError:
        return
