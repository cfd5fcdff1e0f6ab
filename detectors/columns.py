"""Several record batches of one kind read as columns, each asked for once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.index import I64
from detectors.kernels.grouping import number_words
from detectors.mixing import U64, hash_addresses
from detectors.names import hash_strings

Array = npt.NDArray[Any]

_NOBODY = np.uint64(0xFFFF << 32)  # 0.0.0.0, mapped


@dataclass(frozen=True)
class TickBatch:
    """The rows of one node's tick, as they came; ``place`` is the tick's number within the round."""

    place: int
    node: int
    tick: int
    capabilities: int
    batch: pa.RecordBatch


class Columns:
    """The rows of several batches in their order, each batch with rows; ``place`` is that of each row's tick."""

    def __init__(self, batches: Sequence[TickBatch]) -> None:
        counts = [b.batch.num_rows for b in batches]
        self.rows: int = sum(counts)
        # All columns of all batches in one step; asking each batch for each column costs more than the data does.
        self._table = pa.Table.from_batches([b.batch for b in batches])
        self._read: dict[str, Array] = {}
        self._hashed: dict[str, tuple[U64, I64]] = {}
        self.batches = batches
        self.place = np.repeat(np.array([b.place for b in batches], np.int32), counts)

    def __len__(self) -> int:
        return self.rows

    def by_place(self, what: str) -> I64:
        """Return ``node``, ``tick`` or ``capabilities`` by place; places without rows hold 0."""
        out = np.zeros(1 + max(b.place for b in self.batches), np.int64)
        for item in self.batches:
            out[item.place] = getattr(item, what)
        return out

    def ticks_of_nodes(self) -> dict[int, int]:
        """Return the tick of each node that has rows, in log order."""
        return {item.node: item.tick for item in self.batches}

    def values(self, name: str) -> Array:
        """Return a plain column."""
        if name not in self._read:
            # Of one batch it is a read-only view, for which every loop would be compiled a second time.
            self._read[name] = np.require(self._table.column(name).to_numpy(), requirements="W")
        return self._read[name]

    def ticks(self, rows: I64) -> Iterator[tuple[TickBatch, I64]]:
        """Return a batch of each tick that has any of some rows, given ascending, and these rows; ordered by node."""
        if not len(rows):
            return
        places, first = np.unique(self.place[rows], return_index=True)
        heads = {b.place: b for b in reversed(self.batches)}
        parts = zip((heads[place] for place in places.tolist()), np.split(rows, first[1:]), strict=True)
        yield from sorted(parts, key=lambda part: part[0].node)

    def halves(self, name: str) -> tuple[U64, I64]:
        """Return the addresses of a column as upper and lower 64 bits, u64, shape (n, 2), and the number of each row's.

        An address may have several numbers; 0.0.0.0 is 0, as :: is.
        """
        chunks = self._table.column(name).chunks
        halves = halves_of(np.concatenate([address_bytes(c.dictionary) for c in chunks]))
        halves[(halves[:, 0] == 0) & (halves[:, 1] == _NOBODY)] = 0
        return halves, _indices(chunks)

    def addresses(self, names: Sequence[str], seed: int) -> tuple[U64, npt.NDArray[np.uint8], list[Array]]:
        """Return the distinct addresses of several address columns, and each column as numbers into them.

        Args:
            names: of the columns.
            seed: of the hashes.

        Returns:
            Hashes, u64, shape (n,); addresses, uint8, shape (n, 16); one int32 array per column. Numbers are given
            in order of first appearance in the batches' dictionaries.
        """
        packed: list[npt.NDArray[np.uint8]] = []
        indices: list[Array] = []
        bases: list[int] = []
        base = 0
        for name in names:
            for column in self._table.column(name).chunks:
                packed.append(address_bytes(column.dictionary))
                indices.append(column.indices.to_numpy())
                bases.append(base)
                base += len(column.dictionary)
        everything = np.concatenate(packed)
        words = everything.view(np.int64)
        number, first = number_words(words[:, 0].copy(), words[:, 1].copy())
        addresses = everything[first]
        shifted = np.concatenate(indices) + np.repeat(np.array(bases, np.int64), [len(i) for i in indices])
        return hash_addresses(addresses, seed), addresses, np.split(number[shifted], len(names))

    def words(self, name: str) -> tuple[pa.StringArray, I64]:
        """Return the distinct values of a text column, and the number of each row's."""
        return _unified(self._table.column(name))

    def words_of(self, name: str, rows: I64) -> tuple[pa.StringArray, I64]:
        """Return the distinct values of a text column in given rows, and the number of each of these rows'."""
        return _unified(self._table.column(name).take(pa.array(rows)))

    def word_hashes(self, name: str, rows: I64) -> U64:
        """Return the hash of a text column's value for given rows."""
        if name not in self._hashed:
            chunks = self._table.column(name).chunks
            self._hashed[name] = hash_strings(pa.concat_arrays([c.dictionary for c in chunks])), _indices(chunks)
        hashes, number = self._hashed[name]
        return hashes[number[rows]]


def _indices(chunks: Sequence[pa.DictionaryArray]) -> I64:
    """Return the number of each row's value among all values of all dictionaries."""
    bases = np.cumsum([0, *(len(c.dictionary) for c in chunks[:-1])])
    numbers: I64 = np.concatenate([c.indices.to_numpy() for c in chunks]) + np.repeat(bases, [len(c) for c in chunks])
    return numbers


def _unified(column: pa.ChunkedArray) -> tuple[pa.StringArray, I64]:
    joined = column.unify_dictionaries().combine_chunks()
    whole = joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
    return whole.dictionary, whole.indices.to_numpy().astype(np.int64)


def halves_of(addresses: npt.NDArray[np.uint8]) -> U64:
    """Return 16-byte addresses, uint8 of shape (n, 16), as upper and lower 64 bits, u64, shape (n, 2)."""
    halves: U64 = np.ascontiguousarray(addresses).view(">u8").astype(np.uint64)
    return halves


def address_bytes(values: pa.Array) -> npt.NDArray[np.uint8]:
    """Return an Arrow array of 16-byte values as uint8, shape (n, 16), without a copy."""
    data = values.buffers()[1]
    count = len(values)
    if data is None or not count:
        return np.zeros((0, 16), np.uint8)
    flat = np.frombuffer(data, np.uint8, count=16 * count, offset=16 * values.offset)
    return flat.reshape(count, 16)


def is_mapped(addresses: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which 16-byte addresses, uint8 of shape (n, 16), are IPv4 ones (RFC 4291, 2.5.5.2)."""
    whole = np.ascontiguousarray(addresses)
    # By words: comparing byte by byte costs forty times as much.
    mapped: npt.NDArray[np.bool_] = (whole.view(np.uint64)[:, 0] == 0) & (whole.view(">u4")[:, 2] == 0xFFFF)
    return mapped
