"""State as pages: what changed since the last checkpoint is written, the rest is referred to. Pure.

Each section of a state is a few streams of bytes: its JSON, and every array. Streams are cut into pages, so
a page keeps its place as long as what comes before it in its array keeps its shape. A chain remembers one
digest and one place per page; a page with the digest it had is where it was.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.snapshot import Section, SnapshotError, array_bytes, decode_state, encode_state, put_together, take_apart
from schemas.state import MAX_CHUNK, ChunkPlace, SectionSize

# Small, because keys that are touched lie anywhere in their arrays: with one key in a hundred touched, pages of 4 KiB
# wrote 16 % of the state, of 16 KiB 38 %, of 64 KiB 76 %. A page costs 32 bytes of memory and about 4 µs.
PAGE = 4 << 10
_DIGEST = 16
# A chain may hold this many times the bytes of the state before it is begun anew: what a restore reads at most.
_STORED_TIMES = 2
_HEAD = "head"

Digests = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """One run of bytes of a section; `path` is an array's place in the section's JSON, or `head` for the JSON."""

    section: str
    path: str
    data: memoryview


@dataclass(frozen=True)
class Image:
    """A state as streams: views of the live state, which hold until its stage is fed again, or copies."""

    sections: tuple[SectionSize, ...]
    streams: tuple[Stream, ...]

    def copied(self) -> "Image":
        """The same as copies, which stay as they are."""
        return Image(self.sections, tuple(Stream(s.section, s.path, memoryview(bytes(s.data))) for s in self.streams))

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(len(s.data) for s in self.streams)


def image_of(sections: Mapping[str, Section]) -> Image:
    """The streams of a state.

    Raises:
        TypeError: something in it cannot be kept.
    """
    sizes, streams = [], []
    for name, section in sorted(sections.items()):
        head, arrays = take_apart(section.state)
        own = [Stream(name, _HEAD, memoryview(head))]
        own += [Stream(name, path, array_bytes(values)) for path, values in arrays.items()]
        sizes.append(SectionSize(name=name, version=section.version, size=sum(len(s.data) for s in own)))
        streams += own
    return Image(tuple(sizes), tuple(streams))


@dataclass
class _Pages:
    """The pages of one stream: digests (n, 16), number of the chunk and place in it (n,)."""

    digests: Digests
    chunk: Numbers
    at: Numbers


@dataclass
class Chain:
    """What one owner has written of one partition's state.

    Args:
        longest: checkpoints that a snapshot may be spread over before everything is written anew.
        page: bytes of a page.
    """

    longest: int
    page: int = PAGE
    chunks: dict[int, ChunkPlace] = field(default_factory=dict)
    _pages: dict[tuple[str, str], _Pages] = field(default_factory=dict)
    _next: int = 0

    @property
    def length(self) -> int:
        """Checkpoints that the last snapshot is spread over."""
        return len({place.next_offset for place in self.chunks.values()})

    @property
    def stored(self) -> int:
        """Bytes of the chunks that the last snapshot needs."""
        return sum(place.size for place in self.chunks.values())

    def write(self, image: Image, next_offset: int) -> Generator[tuple[ChunkPlace, bytes], None, None]:
        """Give the chunks of pages that changed; the image must hold until the last one was taken.

        Where not all of them are taken, the chain stays at the image before: the pages of this one are written again.
        """
        anew = self.length >= self.longest or self.stored > _STORED_TIMES * image.size + MAX_CHUNK
        former, written = {} if anew else self._pages, {}
        chunk = bytearray()
        for stream in image.streams:
            pages = self._compare(stream, former.get((stream.section, stream.path)))
            written[stream.section, stream.path] = pages
            for number in np.flatnonzero(pages.chunk < 0).tolist():
                piece = stream.data[number * self.page : (number + 1) * self.page]
                if len(chunk) + len(piece) > MAX_CHUNK:
                    yield self._cut(chunk, next_offset)
                    chunk = bytearray()
                pages.chunk[number], pages.at[number] = self._next, len(chunk)
                chunk += piece
        if chunk:
            yield self._cut(chunk, next_offset)
        self._pages = written
        used = {int(n) for p in written.values() for n in np.unique(p.chunk)}
        self.chunks = {number: place for number, place in self.chunks.items() if number in used}

    def index(self, image: Image, next_offset: int) -> Iterator[tuple[ChunkPlace, bytes]]:
        """Give the chunks that say where every page of the image just written is."""
        own: dict[str, list[Any]] = {s.name: [s.name, s.version, []] for s in image.sections}
        for stream in image.streams:
            own[stream.section][2].append([stream.path, len(stream.data)])
        pages = [self._pages[s.section, s.path] for s in image.streams]
        data = encode_state({
            "sections": list(own.values()),
            "chunk": _joined([p.chunk for p in pages]).astype(np.uint32),
            "at": _joined([p.at for p in pages]).astype(np.uint32),
        })  # fmt: skip
        for begin in range(0, len(data), MAX_CHUNK):
            piece = data[begin : begin + MAX_CHUNK]
            yield self._place(piece, next_offset), piece

    def _compare(self, stream: Stream, former: _Pages | None) -> _Pages:
        """Digest a stream's pages; those that are as they were keep their place, the others have chunk -1."""
        data = stream.data
        digests = np.frombuffer(
            b"".join(
                hashlib.sha256(data[begin : begin + self.page]).digest()[:_DIGEST]
                for begin in range(0, len(data), self.page)
            ),
            np.uint8,
        ).reshape(-1, _DIGEST)
        chunk = np.full(len(digests), -1, np.int64)
        at = np.zeros(len(digests), np.int64)
        if former is not None:
            both = min(len(digests), len(former.digests))
            same = (digests[:both] == former.digests[:both]).all(axis=1)
            chunk[:both][same] = former.chunk[:both][same]
            at[:both][same] = former.at[:both][same]
        return _Pages(digests, chunk, at)

    def _cut(self, chunk: bytearray, next_offset: int) -> tuple[ChunkPlace, bytes]:
        data = bytes(chunk)
        place = self._place(data, next_offset)
        self.chunks[place.number] = place
        return place, data

    def _place(self, data: bytes, next_offset: int) -> ChunkPlace:
        digest = hashlib.sha256(data).hexdigest()
        place = ChunkPlace(number=self._next, next_offset=next_offset, size=len(data), sha256=digest)
        self._next += 1
        return place


class Assembly:
    """Puts a state together from its index and its chunks, which may come in any order.

    Args:
        index: bytes of the index chunks, put together.
        page: bytes of a page.
        most: bytes that a state may have.

    Raises:
        SnapshotError: it is no index, or of a larger state.
    """

    def __init__(self, index: bytes, page: int, most: int) -> None:
        told = decode_state(index)
        try:
            self._sections = [(str(n), int(v), [(str(p), int(s)) for p, s in own]) for n, v, own in told["sections"]]
            self._chunk = told["chunk"].astype(np.int64)
            self._at = told["at"].astype(np.int64)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"the index of its pages is none: {error}"
            raise SnapshotError(problem) from None
        sizes = [size for _, _, own in self._sections for _, size in own]
        pages = sum(-(-size // page) for size in sizes)
        if min(sizes, default=0) < 0 or sum(sizes) > most:
            problem = f"its {sum(sizes)} bytes exceed worker.checkpoint_bytes ({most})"
            raise SnapshotError(problem)
        if self._chunk.shape != (pages,) or self._at.shape != (pages,):
            problem = f"the index places {len(self._chunk)} pages of {pages}"
            raise SnapshotError(problem)
        self._page = page
        self._buffers = [bytearray(size) for size in sizes]
        counts = np.array([-(-size // page) for size in sizes], np.int64)
        self._stream = np.repeat(np.arange(len(sizes)), counts)
        self._number = np.arange(pages) - np.repeat(np.cumsum(counts) - counts, counts)
        self._order = np.argsort(self._chunk, kind="stable")
        self._chunk = self._chunk[self._order]
        self._missing = pages

    def add(self, number: int, data: bytes) -> None:
        """Take in one chunk, once.

        Raises:
            SnapshotError: a page lies outside of it.
        """
        begin, end = np.searchsorted(self._chunk, [number, number + 1])
        for which in self._order[begin:end].tolist():
            buffer = self._buffers[self._stream[which]]
            start, at = int(self._number[which]) * self._page, int(self._at[which])
            size = min(self._page, len(buffer) - start)
            if at + size > len(data):
                problem = f"a page lies outside chunk {number}"
                raise SnapshotError(problem)
            buffer[start : start + size] = data[at : at + size]
        self._missing -= int(end - begin)

    def sections(self) -> dict[str, Section]:
        """The state; its arrays are the caller's own.

        Raises:
            SnapshotError: pages are missing, or what they hold is no state.
        """
        if self._missing:
            problem = f"{self._missing} pages are in no chunk"
            raise SnapshotError(problem)
        buffers = iter(self._buffers)
        made = {}
        for name, version, own in self._sections:
            streams = {path: next(buffers) for path, _ in own}
            head = streams.pop(_HEAD, bytearray())
            made[name] = Section(version, put_together(bytes(head), _taker(streams)))
        return made


def _taker(streams: dict[str, bytearray]) -> Any:
    return lambda path, _size: streams[path]


def _joined(parts: Iterable[Numbers]) -> Numbers:
    return np.concatenate([np.zeros(0, np.int64), *parts])
