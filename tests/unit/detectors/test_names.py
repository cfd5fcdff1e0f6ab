"""Domain names as columns."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.names import hash_one, hash_strings, read_names

NAMES = st.lists(st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), max_size=80), min_size=1)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("www.example.com", "example.com"),
        ("example.com", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("web.default.svc.cluster.local", "cluster.local"),
        ("localhost", ""),
        ("", ""),
        ("tunnel.00aa11bb22", ""),
        ("x.xn--p1ai", "x.xn--p1ai"),
    ],
)
def test_the_registered_zone(name: str, zone: str) -> None:
    table = read_names(pa.array([name]))
    assert table.zones[int(table.zone[0])].as_py() == zone


@given(NAMES)
def test_hashes_depend_on_the_text_alone(names: list[str]) -> None:
    together = hash_strings(pa.array(names))
    assert together.tolist() == [hash_one(n) for n in names]
    assert len(set(together.tolist())) == len(set(names))


@given(NAMES)
def test_a_sliced_array_hashes_like_a_fresh_one(names: list[str]) -> None:
    array = pa.array(["before", *names])
    assert np.array_equal(hash_strings(array[1:]), hash_strings(pa.array(names)))


def test_information_is_entropy_times_length() -> None:
    table = read_names(pa.array(["aaaa.example.com", "abcd.example.com", "ab.ab.example.com"]))
    assert table.below.tolist() == [4, 4, 4]
    assert table.information.tolist() == [0, round(4 * math.log2(4)), 4]
