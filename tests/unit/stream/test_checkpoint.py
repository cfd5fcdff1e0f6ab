import random

from hypothesis import given
from hypothesis import strategies as st

from schemas.state import MAX_CHUNK
from stream.checkpoint import Snapshot, SnapshotIndex, snapshot_records

Records = list[tuple[bytes, bytes | None]]


def make_snapshot(next_offset: int, data: bytes, *, agent: str = "detect", partition: int = 3) -> Snapshot:
    return Snapshot(agent, partition, 4, next_offset, data)


def index_of(records: Records, *, partitions: int = 4) -> SnapshotIndex:
    index = SnapshotIndex("detect", 3, partitions)
    for key, value in records:
        index.add(key, value)
    return index


def written(*snapshots: Snapshot) -> Records:
    return [record for snapshot in snapshots for record in snapshot_records(snapshot)]


@given(st.integers(0, 3 * MAX_CHUNK + 1), st.integers(0, 1 << 60))
def test_what_was_written_is_restored(size: int, next_offset: int) -> None:
    snapshot = make_snapshot(next_offset, random.Random(size).randbytes(size))
    records = written(snapshot)
    assert index_of(records).best == snapshot
    assert all(value is not None and len(value) <= MAX_CHUNK for _, value in records)
    assert len({key for key, _ in records}) == len(records)


@given(st.data())
def test_an_incomplete_snapshot_never_replaces_a_complete_one(data: st.DataObject) -> None:
    old = make_snapshot(10, b"a" * (MAX_CHUNK + 5))
    new = written(make_snapshot(20, b"b" * (2 * MAX_CHUNK + 5)))
    lost = data.draw(st.integers(0, len(new) - 1))
    index = index_of([*written(old), *new[:lost], *new[lost + 1 :]])
    assert index.best == old


@given(st.data())
def test_a_damaged_chunk_is_noticed(data: st.DataObject) -> None:
    records = written(make_snapshot(20, b"b" * (2 * MAX_CHUNK + 5)))
    which = data.draw(st.integers(0, len(records) - 2))
    key, value = records[which]
    assert value is not None
    place = data.draw(st.integers(0, len(value) - 1))
    records[which] = (key, value[:place] + b"X" + value[place + 1 :])
    index = index_of(records)
    assert index.best is None
    assert f"chunk {which} of 3 is damaged" in index.refused[0]


@given(st.permutations([3, 7, 9, 20]))
def test_the_highest_offset_wins_in_whatever_order_owners_wrote(order: list[int]) -> None:
    snapshots = [make_snapshot(offset, str(offset).encode() * 1000) for offset in order]
    best = index_of(written(*snapshots)).best
    assert best is not None
    assert best.next_offset == 20


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_foreign_records_are_skipped(key: bytes, value: bytes) -> None:
    snapshot = make_snapshot(5, b"state")
    assert index_of([(key, value), *written(snapshot), (key, value)]).best == snapshot


def test_other_agents_and_partitions_are_skipped() -> None:
    others = written(make_snapshot(99, b"x", agent="correlate"), make_snapshot(98, b"y", partition=2))
    index = index_of(others)
    assert index.best is None
    assert index.keys == set()


def test_another_partition_count_is_refused_with_its_reason() -> None:
    index = index_of(written(make_snapshot(5, b"state")), partitions=8)
    assert index.best is None
    assert "made with 4 input partitions, there are 8 now" in index.refused[0]


def test_a_manifest_that_is_not_one_is_refused_and_the_rest_kept() -> None:
    good = make_snapshot(5, b"state")
    index = index_of([*written(good), (b"detect/3/9/manifest", b"{}")])
    assert index.best == good
    assert len(index.refused) == 1


def test_tombstones_take_a_snapshot_away() -> None:
    records = written(make_snapshot(5, b"state"))
    index = index_of([*records, *[(key, None) for key, _ in records]])
    assert index.best is None
    assert index.keys == set()


def test_memory_holds_only_what_is_newer_than_the_best() -> None:
    snapshots = [make_snapshot(offset, b"z" * 1000) for offset in range(100)]
    index = index_of(written(*snapshots))
    assert index.best == snapshots[-1]
    assert len(index._chunks) == 0
