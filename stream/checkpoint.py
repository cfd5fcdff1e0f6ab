"""Which records of state.v1 are a partition's newest complete snapshot. Pure; `stream.state_store` moves them.

Keys are ``agent/partition/epoch/next offset/number``, the last part of a manifest's is ``manifest``. The epoch is
the offset at which the owner's claim (``agent/partition/claim``) was appended when it took the partition over:
no two owners have the same, a later owner's is larger, and what an owner needs bears its own. So an owner that
was paused and writes late can neither overwrite nor take away anything that a newer one needs.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.state import MAX_MANIFEST, ChunkPlace, SnapshotManifest
from schemas.word import WordError

CLAIM = b"claim"
_MANIFEST = "manifest"
_MAX_KEY = 300
# Manifests alive at one time are few: the last one, and those of owners that never came to clear theirs.
_MAX_MANIFESTS = 64


class StateMismatch(Exception):
    """Snapshots were made with another partition count. One line, with the remedy."""


@dataclass(frozen=True)
class Owner:
    """Who writes: an agent's partition in the hands of one process, since its claim."""

    agent: str
    partition: int
    epoch: int

    def key(self, next_offset: int, part: str) -> bytes:
        """Key of one record of a snapshot."""
        return f"{self.agent}/{self.partition}/{self.epoch}/{next_offset}/{part}".encode()

    def chunk_key(self, place: ChunkPlace) -> bytes:
        """Key of a chunk."""
        return self.key(place.next_offset, str(place.number))

    def manifest_key(self, next_offset: int) -> bytes:
        """Key of a manifest."""
        return self.key(next_offset, _MANIFEST)


@dataclass(frozen=True)
class RecordPlace:
    """A key taken apart. A claim has an epoch of -1."""

    owner: Owner
    next_offset: int
    part: str


def claim_key(agent: str, partition: int) -> bytes:
    """Key of the claim on a partition."""
    return f"{agent}/{partition}/{CLAIM.decode()}".encode()


def record_place(key: bytes | None) -> RecordPlace | None:
    """The parts of a key; None where it is none of ours."""
    if key is None or len(key) > _MAX_KEY:
        return None
    words = key.decode("ascii", "replace").split("/")
    if len(words) == 3 and words[1].isdecimal() and words[2] == CLAIM.decode():
        return RecordPlace(Owner(words[0], int(words[1]), -1), 0, words[2])
    if len(words) != 5 or not all(word.isdecimal() for word in words[1:4]):
        return None
    return RecordPlace(Owner(words[0], int(words[1]), int(words[2])), int(words[3]), words[4])


def encode_manifest(manifest: SnapshotManifest) -> bytes:
    """The value of a manifest's record.

    Raises:
        ValueError: it would be too large for the topic.
    """
    value = manifest.encode()
    if len(value) > MAX_MANIFEST:
        message = f"a manifest of {len(value)} bytes exceeds {MAX_MANIFEST}; lower worker.checkpoint_bytes"
        raise ValueError(message)
    return value


@dataclass(frozen=True)
class Found:
    """A snapshot whose records are all there: its manifest, and where they lie on the topic by key."""

    owner: Owner
    manifest: SnapshotManifest
    offsets: dict[bytes, int]


@dataclass
class SnapshotIndex:
    """Collects the state records of one (agent, partition) in log order. Holds no chunk, only where it lies.

    `partitions` of None takes snapshots of any partition count, for people who look at them.
    """

    agent: str
    partition: int
    partitions: int | None
    keys: dict[bytes, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    _mismatched: dict[tuple[int, int], int] = field(default_factory=dict)
    _manifests: dict[tuple[int, int], SnapshotManifest] = field(default_factory=dict)

    def add(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        """Take in one record; a value of None is a tombstone. Foreign and unreadable records are skipped.

        Why a manifest was not believed is appended to `refused`, one line each.
        """
        place = record_place(key)
        if key is None or place is None:
            return
        if (place.owner.agent, place.owner.partition) != (self.agent, self.partition):
            return
        if value is None:
            self.keys.pop(key, None)
            if place.part == _MANIFEST:
                self._manifests.pop((place.next_offset, place.owner.epoch), None)
                self._mismatched.pop((place.next_offset, place.owner.epoch), None)
            return
        self.keys[key] = offset
        if place.part == _MANIFEST:
            self._note(place, value)

    def complete(self, at_least: int = 0, at_most: int | None = None) -> list[Found]:
        """Snapshots whose records are all there, within input offsets; the one to use comes first."""
        found = []
        for (next_offset, epoch), manifest in sorted(self._manifests.items(), reverse=True):
            if next_offset < at_least:
                continue
            if at_most is not None and next_offset > at_most:
                # Of a topic that was deleted and made again under its name.
                self._refuse(next_offset, epoch, "it lies beyond the topic's end")
                continue
            owner = Owner(self.agent, self.partition, epoch)
            needed = [owner.chunk_key(place) for place in (*manifest.chunks, *manifest.index)]
            missing = [key for key in needed if key not in self.keys]
            if missing:
                self._refuse(next_offset, epoch, f"{len(missing)} of {len(needed)} chunks are missing")
                continue
            found.append(Found(owner, manifest, {key: self.keys[key] for key in needed}))
        return found

    @property
    def mismatch(self) -> str | None:
        """What to tell the operator where a snapshot of another partition count is there."""
        if not self._mismatched:
            return None
        count = self._mismatched[max(self._mismatched)]
        return (
            f"state of {self.agent} was made with {count} input partitions, there are {self.partitions} now, and keys "
            f"lie elsewhere: go back to {count} (settings stream.topics and the topic), or give the state up: stop the "
            f"workers, `sluicegate state drop {self.agent}`, start again"
        )

    def _note(self, place: RecordPlace, value: bytes) -> None:
        at = place.next_offset, place.owner.epoch
        try:
            manifest = SnapshotManifest.decode(value)
            self._believe(place, manifest)
        except (WordError, ValueError) as error:
            self._refuse(*at, str(error))
            return
        self._manifests[at] = manifest
        if len(self._manifests) > _MAX_MANIFESTS:
            del self._manifests[min(self._manifests)]

    def _believe(self, place: RecordPlace, manifest: SnapshotManifest) -> None:
        said = Owner(manifest.agent, manifest.partition, manifest.epoch), manifest.next_offset
        if said != (place.owner, place.next_offset):
            message = "its manifest contradicts its key"
            raise ValueError(message)
        if self.partitions is not None and manifest.partitions != self.partitions:
            self._mismatched[place.next_offset, place.owner.epoch] = manifest.partitions
            message = f"made with {manifest.partitions} input partitions, there are {self.partitions} now"
            raise ValueError(message)

    def _refuse(self, next_offset: int, epoch: int, why: str) -> None:
        self.refused.append(f"snapshot {self.agent}/{self.partition} at {next_offset} of epoch {epoch}: {why}")


def is_whole(place: ChunkPlace, value: bytes) -> bool:
    """Whether a chunk's bytes are those that its manifest speaks of."""
    return len(value) == place.size and hashlib.sha256(value).hexdigest() == place.sha256


def clearable(keys: Iterable[bytes], epoch: int, needed: Iterable[bytes]) -> list[bytes]:
    """Keys that an owner may take away: its own and older owners', except those it needs."""
    kept = set(needed)
    mine = []
    for key in keys:
        place = record_place(key)
        if place is not None and 0 <= place.owner.epoch <= epoch and key not in kept:
            mine.append(key)
    return sorted(mine)
