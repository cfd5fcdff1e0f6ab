"""Which snapshot of a log is the one to use, whatever was damaged, late or taken away."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.snapshot import Section, SnapshotError
from schemas.state import MAX_CHUNK, SnapshotManifest
from stream.checkpoint import Owner, clearable, encode_manifest, record_place
from stream.pages import PAGE, Chain, image_of
from tests.unit.stream.memory import Log, index_of, read_found


class Writer:
    """One owner, writing checkpoints whose state says at which offset they were taken."""

    def __init__(
        self, epoch: int, *, agent: str = "sum", partition: int = 0, partitions: int = 4, size: int = 6 * PAGE
    ) -> None:
        self.owner = Owner(agent, partition, epoch)
        self.partitions = partitions
        self.chain = Chain(100)
        self.values = np.random.default_rng(epoch).integers(0, 255, size, np.uint8)

    def write(self, next_offset: int) -> Log:
        self.values[next_offset * PAGE % len(self.values)] ^= 0xFF
        image = image_of({"all": Section(1, {"at": next_offset, "values": self.values})})
        chunks = list(self.chain.write(image, next_offset))
        index = list(self.chain.index(image, next_offset))
        manifest = SnapshotManifest(
            agent=self.owner.agent, partition=self.owner.partition, partitions=self.partitions,
            epoch=self.owner.epoch, next_offset=next_offset, size=image.size, page=self.chain.page,
            sections=image.sections, chunks=tuple(self.chain.chunks.values()), index=tuple(p for p, _ in index),
        )  # fmt: skip
        log: Log = [(self.owner.chunk_key(place), value) for place, value in [*chunks, *index]]
        return [*log, (self.owner.manifest_key(next_offset), encode_manifest(manifest))]


def restored(log: Log, at_least: int = 0, at_most: int | None = None) -> int | None:
    """The offset of the snapshot that a start would use."""
    for found in index_of(log).complete(at_least, at_most):
        try:
            state = read_found(log, found)["all"].state
        except SnapshotError:
            continue
        assert state["at"] == found.manifest.next_offset
        return int(state["at"])
    return None


def test_a_chain_is_read_back_at_its_last_checkpoint() -> None:
    writer = Writer(7, size=MAX_CHUNK + 50 * PAGE)
    log = [record for offset in (10, 20, 30) for record in writer.write(offset)]
    assert restored(log) == 30
    found = index_of(log).complete()[0]
    assert np.array_equal(read_found(log, found)["all"].state["values"], writer.values)
    assert len({place.next_offset for place in found.manifest.chunks}) == 3
    assert all(value is not None and len(value) <= MAX_CHUNK for _, value in log)
    assert len({key for key, _ in log}) == len(log)


@given(st.data())
def test_losing_any_record_of_the_last_checkpoint_leaves_the_one_before(data: st.DataObject) -> None:
    writer = Writer(7)
    old, new = writer.write(10), writer.write(20)
    lost = data.draw(st.integers(0, len(new) - 1))
    assert restored([*old, *new[:lost], *new[lost + 1 :]]) == 10


@given(st.data())
def test_damage_of_any_record_of_the_last_checkpoint_leaves_the_one_before(data: st.DataObject) -> None:
    writer = Writer(7)
    old, new = writer.write(10), writer.write(20)
    which = data.draw(st.integers(0, len(new) - 1))
    key, value = new[which]
    assert value is not None
    if which == len(new) - 1:
        damaged = value[: data.draw(st.integers(0, len(value) - 1))]
    else:
        place = data.draw(st.integers(0, len(value) - 1))
        damaged = value[:place] + bytes([value[place] ^ 0xFF]) + value[place + 1 :]
    new[which] = (key, damaged)
    assert restored([*old, *new]) == 10


def test_a_damaged_base_takes_the_chain_with_it() -> None:
    writer = Writer(7, size=MAX_CHUNK + 50 * PAGE)
    log = [*writer.write(10), *writer.write(20)]
    key, value = log[1]
    assert value is not None
    log[1] = (key, value[:-1] + bytes([value[-1] ^ 1]))
    assert restored(log) is None


@given(st.permutations([3, 7, 9, 20]))
def test_the_highest_offset_wins_in_whatever_order_owners_wrote(order: list[int]) -> None:
    log = [record for offset in order for record in Writer(offset * 10).write(offset)]
    assert restored(log) == 20


def test_of_two_at_one_offset_the_later_owner_s_is_taken() -> None:
    log = [*Writer(50).write(9), *Writer(40).write(9)]
    assert index_of(log).complete()[0].owner.epoch == 50


def test_offsets_outside_of_what_is_asked_are_not_used() -> None:
    writer = Writer(7)
    log = [*writer.write(10), *writer.write(20)]
    assert restored(log, at_least=21) is None
    assert restored(log, at_most=19) == 10
    index = index_of(log)
    index.complete(0, 19)
    assert index.refused == ["snapshot sum/0 at 20 of epoch 7: it lies beyond the topic's end"]


@given(st.lists(st.sampled_from(["former", "newer"]), min_size=6, max_size=6), st.integers(0, 5))
def test_a_former_owner_that_writes_late_harms_nothing(turns: list[str], cleared_after: int) -> None:
    """Both write and clear as they please, in any mixture; what the newer one wrote last can always be read."""
    log: Log = []
    writers = {"former": Writer(100), "newer": Writer(200)}
    offsets = {"former": 10, "newer": 40}
    newest = None
    for turn, who in enumerate(turns):
        writer = writers[who]
        offsets[who] += 1
        log += writer.write(offsets[who])
        manifest = SnapshotManifest.decode(log[-1][1] or b"")
        if turn >= cleared_after:
            needed = [writer.owner.chunk_key(p) for p in (*manifest.chunks, *manifest.index)] + [log[-1][0]]
            alive = index_of(log).keys
            log += [(key, None) for key in clearable(alive, writer.owner.epoch, needed)]
        newest = offsets["newer"] if who == "newer" else newest
        assert restored(log) == (newest or offsets["former"])


def test_an_owner_clears_its_own_and_older_records_and_never_a_newer_one_s_or_a_claim() -> None:
    keys = [b"sum/0/5/1/0", b"sum/0/6/2/manifest", b"sum/0/7/3/0", b"sum/0/claim", b"nonsense"]
    assert clearable(keys, 6, [b"sum/0/6/2/manifest"]) == [b"sum/0/5/1/0"]


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_foreign_records_are_skipped(key: bytes, value: bytes) -> None:
    assert restored([(key, value), *Writer(7).write(5), (key, value)]) == 5


@pytest.mark.parametrize("key", [b"", b"a/b", b"sum/0/1/2/3/4", b"sum/x/1/2/3", b"sum/0/-1/2/3", b"s" * 400, None])
def test_keys_of_other_shapes_have_no_place(key: bytes | None) -> None:
    assert record_place(key) is None


def test_other_agents_and_partitions_are_skipped() -> None:
    log = [*Writer(7, agent="correlate").write(99), *Writer(7, partition=2).write(98)]
    index = index_of(log)
    assert index.complete() == []
    assert index.keys == {}


def test_another_partition_count_is_refused_with_the_remedy() -> None:
    log = Writer(7).write(5)
    index = index_of(log, partitions=8)
    assert index.complete() == []
    assert "made with 4 input partitions, there are 8 now" in index.refused[0]
    assert index.mismatch is not None
    assert "sluicegate state drop sum" in index.mismatch
    dropped = index_of([*log, *[(key, None) for key, _ in log]], partitions=8)
    assert (dropped.mismatch, dropped.keys) == (None, {})


def test_a_manifest_under_another_key_is_refused() -> None:
    log = Writer(7).write(5)
    other = dataclasses.replace(Writer(7).owner, epoch=9).manifest_key(5)
    index = index_of([*log[:-1], (other, log[-1][1])])
    assert index.complete() == []
    assert "contradicts its key" in index.refused[0]


def test_a_manifest_that_is_not_one_is_refused_and_the_rest_kept() -> None:
    index = index_of([*Writer(7).write(5), (b"sum/0/7/9/manifest", b"{}")])
    assert [found.manifest.next_offset for found in index.complete()] == [5]
    assert len(index.refused) == 1


def test_tombstones_take_a_snapshot_away() -> None:
    log = Writer(7).write(5)
    index = index_of([*log, *[(key, None) for key, _ in log]])
    assert index.complete() == []
    assert index.keys == {}
