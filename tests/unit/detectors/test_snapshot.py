"""State to bytes and back."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.snapshot import (
    Section,
    SectionError,
    SnapshotError,
    array_bytes,
    decode_state,
    encode_state,
    put_together,
    restore_parts,
    sections_of,
    take_apart,
    usable,
)

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


def test_a_key_that_stands_for_arrays_is_refused() -> None:
    with pytest.raises(TypeError, match="must not use the key"):
        encode_state({"$array": ["<i8", [1]]})


def test_keys_that_look_like_paths_do_not_meet() -> None:
    state = {"a": {"b": np.array([1])}, "a/b": np.array([2]), "a~1b": np.array([3])}
    head, arrays = take_apart(state)
    assert len(arrays) == 3
    back = put_together(head, lambda path, _size: bytearray(array_bytes(arrays[path])))
    assert (back["a"]["b"][0], back["a/b"][0], back["a~1b"][0]) == (1, 2, 3)


@pytest.mark.parametrize(
    "shape",
    [[-1], ["3"], [1 << 40], [True, 3.5]],
)
def test_a_shape_that_does_not_fit_its_bytes_is_an_error(shape: list[object]) -> None:
    head = orjson.dumps({"$array": ["<i8", shape]})
    with pytest.raises(SnapshotError):
        put_together(head, lambda _path, _size: bytearray(8))


class Counter:
    """A part that keeps a number."""

    state_version: ClassVar[int] = 1

    def __init__(self) -> None:
        self.count = 0

    def snapshot(self) -> dict[str, Any]:
        return {"count": self.count} if self.count else {}

    def restore(self, state: dict[str, Any]) -> list[str]:
        self.count = int(state["count"])
        return ["inside"] if "inside" not in state else []


def test_parts_without_state_have_no_section_and_are_not_cold_without_one() -> None:
    assert sections_of({"a": Counter()}) == {}
    assert restore_parts({"a": Counter()}, {}) == []


def test_another_version_and_what_a_part_misses_start_cold_and_the_rest_is_kept() -> None:
    parts = {"old": Counter(), "kept": Counter()}
    sections = {"old": Section(7, {"count": 5}), "kept": Section(1, {"count": 6})}
    assert restore_parts(parts, sections) == ["old", "kept/inside"]
    assert (parts["old"].count, parts["kept"].count) == (0, 6)


def test_a_section_that_its_part_does_not_take_is_named() -> None:
    with pytest.raises(SectionError, match="a: KeyError") as caught:
        restore_parts({"a": Counter()}, {"a": Section(1, {})})
    assert caught.value.section == "a"


def test_nothing_is_usable_without_what_the_rest_refers_to() -> None:
    sections = {"a": Section(1, {}), "b": Section(1, {})}
    assert usable(sections, {"a": 1}) == sections
    assert usable(sections, {"a": 2}) == {}
    assert usable(sections, {"c": 1}) == {}
