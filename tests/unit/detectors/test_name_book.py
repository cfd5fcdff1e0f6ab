"""The book of names: what it tells does not depend on what it has seen before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.letter_pairs import looks_generated
from detectors.name_book import NameBook
from detectors.names import hash_one, read_names, registered_labels

_LABELS = st.sampled_from(["www", "a", "qxzvkjwpt", "shop", "host7", "example", "duckdns", "ddns", "mooo"])
_ENDS = st.sampled_from(
    ["example.com", "example.co.uk", "ddns.net", "duckdns.org", "mooo.com", "localhost", "00aa", ""]
)
_NAMES = st.lists(
    st.builds(lambda labels, end: ".".join([*labels, *filter(None, [end])]), st.lists(_LABELS, max_size=3), _ENDS),
    max_size=20,
)


def told(book: NameBook, names: list[str]) -> list[tuple[Any, ...]]:
    """Everything the book says of names."""
    number = book.numbers(pa.array(names, pa.string()))
    zone, label = book.zone[number], book.label[number]
    columns = (
        book.name_hashes[number], book.information[number], book.zone_bytes(zone),
        book.zone_hashes[zone], book.label_hashes[label], book.generated[label], book.guess[number],
        book.scope_hashes[number],
    )  # fmt: skip
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(rounds=st.lists(_NAMES, min_size=1, max_size=5), most=st.sampled_from([1, 3, 1000]))
def test_it_says_what_a_fresh_one_says(rounds: list[list[str]], most: int) -> None:
    book = NameBook(most)
    for names in rounds:
        assert told(book, names) == told(NameBook(), names)


@given(_NAMES)
def test_it_says_what_the_names_say(names: list[str]) -> None:
    for name, (named, information, zone, _, label, generated, *_) in zip(names, told(NameBook(), names), strict=True):
        table, labels = read_names(pa.array([name])), registered_labels(pa.array([name]))
        assert (named, information) == (hash_one(name), int(table.information[0]))
        assert zone.decode() == table.zones[0].as_py()
        assert label == hash_one(labels.to_pylist()[0])
        assert generated == looks_generated(labels.dictionary)[0]


def test_zones_with_equal_ends_are_different() -> None:
    long = "x" * 100 + ".com"
    book = NameBook()
    number = book.numbers(pa.array([long, "y" + long]))
    assert book.zone[number[0]] != book.zone[number[1]]
    assert len(set(book.zone_bytes(book.zone[number]).tolist())) == 1


@pytest.mark.parametrize("most", [10, 100])
def test_it_is_bounded(most: int) -> None:
    book = NameBook(most)
    for at in range(50):
        book.numbers(pa.array([f"n{at}x{i}.example.com" for i in range(8)]))
        assert len(book) <= most + 8
    assert np.array_equal(book.numbers(pa.array(["a", "b", "a"])) == book.numbers(pa.array(["a"])), [True, False, True])
