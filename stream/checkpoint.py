"""Snapshots on state.v1: cut into chunks, made whole by a manifest written last, found again at a start.

Keys are ``agent/partition/next offset/chunk``; the manifest's last part is ``manifest``. Pure: bytes in,
bytes out; `stream.state_store` moves them to and from the broker.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.state import MAX_CHUNK, SnapshotManifest
from schemas.word import WordError

_MANIFEST = "manifest"
_MAX_KEY = 300


@dataclass(frozen=True)
class Snapshot:
    """One partition's engine as bytes; every message below `next_offset` is contained, none from it on."""

    agent: str
    partition: int
    partitions: int
    next_offset: int
    data: bytes


@dataclass(frozen=True)
class _Place:
    agent: str
    partition: int
    next_offset: int
    part: str


def snapshot_records(snapshot: Snapshot) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every record in the order to write them: chunks of ≤ 512 KiB, then the manifest.

    The manifest must be sent only after all chunks are durable: its presence is the claim that they are.
    """
    digests = []
    for number, start in enumerate(range(0, len(snapshot.data), MAX_CHUNK)):
        chunk = snapshot.data[start : start + MAX_CHUNK]
        digests.append(hashlib.sha256(chunk).hexdigest())
        yield _key(snapshot.agent, snapshot.partition, snapshot.next_offset, str(number)), chunk
    manifest = SnapshotManifest(
        agent=snapshot.agent,
        partition=snapshot.partition,
        partitions=snapshot.partitions,
        next_offset=snapshot.next_offset,
        chunks=len(digests),
        size=len(snapshot.data),
        sha256=tuple(digests),
    )
    yield _key(snapshot.agent, snapshot.partition, snapshot.next_offset, _MANIFEST), manifest.encode()


@dataclass
class SnapshotIndex:
    """Collects the state records of one (agent, partition) in log order and knows the newest whole snapshot.

    Chunks below the best complete snapshot are forgotten at once, so memory holds at most it and what is
    being written after it.
    """

    agent: str
    partition: int
    partitions: int
    best: Snapshot | None = None
    keys: set[bytes] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    _chunks: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def add(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one record; a value of None is a tombstone. Foreign and unreadable records are skipped.

        Why a manifest was not believed is appended to `refused`, one line each.
        """
        place = _place(key)
        if key is None or place is None or (place.agent, place.partition) != (self.agent, self.partition):
            return
        if value is None:
            self.keys.discard(key)
            self._forget(place)
            return
        self.keys.add(key)
        if self.best is not None and place.next_offset < self.best.next_offset:
            return
        if place.part == _MANIFEST:
            self._complete(place, value)
        elif place.part.isdecimal():
            self._chunks[place.next_offset, int(place.part)] = value

    def _forget(self, place: _Place) -> None:
        if place.part.isdecimal():
            self._chunks.pop((place.next_offset, int(place.part)), None)
        elif self.best is not None and self.best.next_offset == place.next_offset:
            self.best = None

    def _complete(self, place: _Place, value: bytes) -> None:
        try:
            manifest = SnapshotManifest.decode(value)
            snapshot = self._assemble(place, manifest)
        except (WordError, ValueError) as error:
            self.refused.append(f"snapshot {self.agent}/{self.partition} at {place.next_offset}: {error}")
            return
        self.best = snapshot
        self._chunks = {at: chunk for at, chunk in self._chunks.items() if at[0] > place.next_offset}

    def _assemble(self, place: _Place, manifest: SnapshotManifest) -> Snapshot:
        if (manifest.agent, manifest.partition, manifest.next_offset) != (
            place.agent,
            place.partition,
            place.next_offset,
        ):
            message = "its manifest contradicts its key"
            raise ValueError(message)
        if manifest.partitions != self.partitions:
            message = f"made with {manifest.partitions} input partitions, there are {self.partitions} now"
            raise ValueError(message)
        if manifest.chunks != len(manifest.sha256):
            message = "its manifest contradicts itself"
            raise ValueError(message)
        parts = []
        for number, digest in enumerate(manifest.sha256):
            chunk = self._chunks.get((place.next_offset, number))
            if chunk is None:
                message = f"chunk {number} of {manifest.chunks} is missing"
                raise ValueError(message)
            if hashlib.sha256(chunk).hexdigest() != digest:
                message = f"chunk {number} of {manifest.chunks} is damaged"
                raise ValueError(message)
            parts.append(chunk)
        data = b"".join(parts)
        if len(data) != manifest.size:
            message = f"{len(data)} bytes instead of {manifest.size}"
            raise ValueError(message)
        return Snapshot(self.agent, self.partition, self.partitions, place.next_offset, data)


def _key(agent: str, partition: int, next_offset: int, part: str) -> bytes:
    return f"{agent}/{partition}/{next_offset}/{part}".encode()


def _place(key: bytes | None) -> _Place | None:
    if key is None or len(key) > _MAX_KEY:
        return None
    words = key.decode("ascii", "replace").split("/")
    if len(words) != 4 or not (words[1].isdecimal() and words[2].isdecimal()):
        return None
    return _Place(words[0], int(words[1]), int(words[2]), words[3])
