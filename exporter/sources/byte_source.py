"""Bytes of a file, of standard input or of their gzip contents, in bounded pieces."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

_PIECE = 1 << 18
_GZIP = b"\x1f\x8b"
STANDARD_INPUT = "-"


class CaptureError(ValueError):
    """A capture that cannot be read at all; one line with the file's name and what to do."""


class ByteSource:
    """Reads forward; gzip is recognised by its first bytes and undone.

    A damaged or cut-off gzip stream ends the data and sets ``problem``; what came before has been given.

    Attributes:
        whole: a regular file, so waiting for all of it cannot block for ever.
        size: bytes of a regular file as it lies on disk; 0 for others.
        compressed: the file is gzip, its contents larger than ``size``.
        problem: why the data ended early; empty while nothing is wrong.
    """

    def __init__(self, raw: RawIOBase, size: int | None) -> None:
        self.whole = size is not None
        self.size = size or 0
        self.problem = ""
        self._raw = raw
        self._ahead = self._raw.read(2) or b""
        self.compressed = self._ahead == _GZIP
        self._unzip = zlib.decompressobj(wbits=31) if self.compressed else None
        self._ended = False
        self._peeked = b""

    def quiet(self, seconds: float) -> bool:
        """Wait for data, at most ``seconds``; tells that none came. Regular files and what is read ahead never wait."""
        if self.whole or self._ahead or self._peeked or self._ended:
            return False
        return not select.select([self._raw], [], [], seconds)[0]

    def peek(self, most: int) -> bytes:
        """Return up to ``most`` bytes from here on without taking them; fewer only where the data ends."""
        known, self._peeked = self._peeked, b""
        more = bytearray(max(0, most - len(known)))
        self._peeked = known + bytes(more[: self.fill(memoryview(more))])
        return self._peeked[:most]

    def read_into(self, target: memoryview) -> int:
        """Fill some of ``target`` as soon as there is anything; returns how much, 0 at the end."""
        if self._peeked:
            piece = self._peeked[: len(target)]
            self._peeked = self._peeked[len(piece) :]
            target[: len(piece)] = piece
            return len(piece)
        if self._unzip is None and not self._ahead:
            return self._raw.readinto(target) or 0
        piece = self._ahead[: len(target)] if self._unzip is None else self._read_unzipped(len(target))
        if self._unzip is None:
            self._ahead = self._ahead[len(piece) :]
        target[: len(piece)] = piece
        return len(piece)

    def fill(self, target: memoryview) -> int:
        """Fill ``target`` whole, less only where the data ends; returns how much."""
        filled = 0
        while filled < len(target) and (count := self.read_into(target[filled:])):
            filled += count
        return filled

    def _read_unzipped(self, most: int) -> bytes:
        while not self._ended and self._unzip is not None:
            packed = self._unzip.unconsumed_tail or self._ahead or self._raw.read(_PIECE) or b""
            self._ahead = b""
            if not packed:
                self._ended = True
                self.problem = "the compressed data is cut off"
                break
            try:
                # The limit keeps a small file that unpacks to a huge one in bounds.
                out = self._unzip.decompress(packed, most)
            except zlib.error as error:
                self._ended = True
                self.problem = f"the compressed data is damaged ({error})"
                break
            if self._unzip.eof:
                self._next_member()
            if out:
                return out
        return b""

    def _next_member(self) -> None:
        rest = self._unzip.unused_data if self._unzip else b""
        rest = rest or self._raw.read(_PIECE) or b""
        if rest[:2] == _GZIP:
            self._unzip, self._ahead = zlib.decompressobj(wbits=31), rest
        else:
            # Like gzip(1): zero padding or rubbish after the last member is not data.
            self._ended = True


@contextmanager
def open_source(path: str | Path) -> Iterator[ByteSource]:
    """Open a file, or standard input for ``-``.

    Raises:
        CaptureError: it does not exist or may not be read.
    """
    if str(path) == STANDARD_INPUT:
        with io.FileIO(sys.stdin.fileno(), closefd=False) as raw:
            yield ByteSource(raw, None)
        return
    try:
        opened = io.FileIO(str(path))
        about = os.fstat(opened.fileno())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name is not valid"
        problem = f"cannot read {path}: {reason}; check the path and its permissions"
        raise CaptureError(problem) from None
    with opened as raw:
        yield ByteSource(raw, about.st_size if stat.S_ISREG(about.st_mode) else None)
