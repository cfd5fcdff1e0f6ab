"""Pages: what is written when something changed, and that any chain of checkpoints gives back the last state."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.snapshot import Section, SnapshotError, encode_state
from schemas.state import MAX_CHUNK, ChunkPlace
from stream.pages import PAGE, Assembly, Chain, image_of

Sections = dict[str, Section]


class Written:
    """A chain, and everything that it ever wrote by number."""

    def __init__(self, longest: int = 100, page: int = PAGE) -> None:
        self.chain = Chain(longest, page)
        self.chunks: dict[int, bytes] = {}
        self.index = b""
        self.offset = 0

    def write(self, sections: Sections) -> list[ChunkPlace]:
        """Checkpoint; returns the chunks of pages that were written."""
        image = image_of(sections)
        self.offset += 1
        places = []
        for place, value in self.chain.write(image, self.offset):
            self.chunks[place.number] = value
            places.append(place)
        self.index = b"".join(value for _, value in self.chain.index(image, self.offset))
        return places

    def read(self, most: int = 1 << 30) -> Sections:
        assembly = Assembly(self.index, self.chain.page, most)
        for number in reversed(self.chain.chunks):
            assembly.add(number, self.chunks[number])
        return assembly.sections()


def table(*arrays: npt.NDArray[Any], version: int = 1) -> Sections:
    return {"table": Section(version, {str(n): values for n, values in enumerate(arrays)})}


def same(one: Sections, other: Sections) -> bool:
    return {n: (s.version, encode_state(s.state)) for n, s in one.items()} == {
        n: (s.version, encode_state(s.state)) for n, s in other.items()
    }


def written_bytes(places: list[ChunkPlace]) -> int:
    return sum(place.size for place in places)


def test_only_the_page_that_changed_is_written() -> None:
    values = np.arange(1 << 16)
    written = Written()
    written.write(table(values))
    values[20_000] = -1
    assert written_bytes(written.write(table(values))) == PAGE
    assert same(written.read(), table(values))
    assert written.chain.length == 2


def test_nothing_is_written_where_nothing_changed() -> None:
    written = Written()
    written.write(table(np.arange(1 << 16)))
    assert written.write(table(np.arange(1 << 16))) == []


def test_an_array_that_grows_at_its_end_keeps_its_pages() -> None:
    values = np.arange(1 << 16)
    written = Written()
    written.write(table(values))
    grown = np.concatenate([values, np.arange(PAGE // 8)])
    # The new page, and the JSON that holds the shape.
    assert written_bytes(written.write(table(grown))) < 2 * PAGE
    assert same(written.read(), table(grown))


def test_another_section_before_it_moves_no_page() -> None:
    written = Written()
    written.write(table(np.arange(1 << 16)))
    more = {"a": Section(1, {"x": 1}), **table(np.arange(1 << 16))}
    assert written_bytes(written.write(more)) < 100


def test_chunks_are_full_and_never_too_large() -> None:
    written = Written()
    places = written.write(table(np.random.default_rng(1).integers(0, 255, 3 * MAX_CHUNK + 77, np.uint8)))
    assert max(place.size for place in places) <= MAX_CHUNK
    assert len(places) == 4


def test_a_view_that_is_not_contiguous_is_kept_by_its_values() -> None:
    values = np.arange(100_000).reshape(100, 1000)[:, ::7]
    written = Written()
    written.write(table(values))
    assert same(written.read(), table(values.copy()))


def test_what_is_read_is_writable_and_shares_nothing_with_what_was_written() -> None:
    values = np.arange(1000)
    written = Written()
    written.write(table(values))
    back = written.read()["table"].state["0"]
    back[0] = 77
    assert values[0] == 0
    assert written.read()["table"].state["0"][0] == 0


def test_a_chain_that_is_too_long_is_begun_anew() -> None:
    values = np.arange(1 << 16)
    written = Written(longest=3)
    lengths = []
    for turn in range(7):
        values[turn * 2000] = -1
        written.write(table(values))
        lengths.append(written.chain.length)
    assert lengths == [1, 2, 3, 1, 2, 3, 1]
    assert same(written.read(), table(values))


def test_a_chain_that_holds_too_much_is_begun_anew() -> None:
    """Chunks of which little is still needed: one page of every chunk survives."""
    written = Written()
    values = np.zeros(8 * MAX_CHUNK, np.uint8)
    most = 0
    for turn in range(1, 40):
        values[:] = turn
        values[:: MAX_CHUNK // 2] = 0
        values[turn * PAGE % len(values)] = 255
        written.write(table(values))
        most = max(most, written.chain.stored)
    assert most <= 2 * values.nbytes + MAX_CHUNK + values.nbytes
    assert same(written.read(), table(values))


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_write_that_was_broken_off_is_done_again(taken: int) -> None:
    random = np.random.default_rng(1)
    states = [table(random.integers(0, 1 << 60, 1 << 18), np.arange(10)) for _ in range(2)]
    written = Written()
    written.write(states[0])
    broken = written.chain.write(image_of(states[1]), 2)
    for _ in range(taken):
        place, value = next(broken)
        written.chunks[place.number] = value
    next(broken)  # What a cancelled task was about to send.
    broken.close()
    written.write(states[1])
    assert same(written.read(), states[1])


def test_chunks_that_no_page_lies_in_are_needed_no_longer() -> None:
    written = Written()
    first = written.write(table(np.zeros(1000, np.int64)))
    written.write(table(np.ones(1000), version=2))  # another dtype: its JSON changed too
    assert first[0].number not in written.chain.chunks


_ARRAYS = st.lists(
    st.tuples(st.integers(0, 300), st.sampled_from(["<i8", "|u1", "<U3", "|b1"])), min_size=0, max_size=3
)
_STATES = st.dictionaries(st.sampled_from(["a", "b", "c/d", "e~f"]), st.tuples(st.integers(1, 3), _ARRAYS), max_size=3)


@given(st.lists(st.tuples(_STATES, st.integers(0, 3)), min_size=1, max_size=8), st.integers(1, 5), st.integers(1, 64))
def test_any_sequence_of_states_restores_to_the_last(
    states: list[tuple[dict[str, tuple[int, list[tuple[int, str]]]], int]], longest: int, page: int
) -> None:
    written = Written(longest, page)
    for state, seed in states:
        rng = np.random.default_rng(seed)
        sections = {
            name: Section(
                version, {"list": [rng.integers(0, 2, size).astype(kind) for size, kind in arrays], "n": seed}
            )
            for name, (version, arrays) in state.items()
        }
        written.write(sections)
        assert same(written.read(), sections)
        assert written.chain.length <= longest


@given(st.data())
def test_a_damaged_index_is_an_error_or_harmless(data: st.DataObject) -> None:
    written = Written(page=64)
    written.write({**table(np.arange(200)), "b": Section(2, {"x": [1, np.zeros(30)]})})
    index = bytearray(written.index)
    place = data.draw(st.integers(0, len(index) - 1))
    index[place] = data.draw(st.integers(0, 255))
    written.index = bytes(index[: data.draw(st.sampled_from([len(index), place]))])
    try:
        written.read()
    except SnapshotError:
        return


def test_a_state_above_the_limit_is_not_even_allocated() -> None:
    written = Written()
    written.write(table(np.zeros(10_000)))
    with pytest.raises(SnapshotError, match=r"exceed worker\.checkpoint_bytes \(1000\)"):
        written.read(most=1000)


def test_missing_chunks_are_an_error() -> None:
    written = Written()
    written.write(table(np.zeros(10_000)))
    written.chain.chunks.clear()
    with pytest.raises(SnapshotError, match="pages are in no chunk"):
        written.read()
