"""Messages on disk while the broker is away: a folder of files that ``replay`` can read, oldest first.

A file holds messages in the form of ``schemas.event_codec``; a few megabytes each, so that room is made, and what was
sent is forgotten, by whole files. What a killed exporter left behind is sent by the next one.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections import deque
from pathlib import Path

from exporter.delivery import DeliveryError
from schemas.event_codec import FILE_MAGIC

_LENGTH = struct.Struct("<I")
_FILE_BYTES = 4 << 20
_SUFFIX = ".events"
# Files are numbered from here, so that there is room before the first.
_FIRST = 10**6


class Spool:
    """A folder that one exporter uses at a time.

    Attributes:
        dropped: messages let go to make room, so far.

    Raises:
        DeliveryError: the folder cannot be used, or another exporter uses it.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        self.dropped = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("wb")
        except OSError as error:
            problem = f"cannot use the spool {folder}: {error.strerror}; check the path and its permissions"
            raise DeliveryError(problem) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            problem = f"another exporter uses the spool {folder}; give each its own"
            raise DeliveryError(problem) from None
        self._files = deque(sorted(folder.glob(f"*{_SUFFIX}")))
        self._sizes = {path: path.stat().st_size for path in self._files}
        self._number = int(self._files[-1].stem, 10) + 1 if self._files else _FIRST
        self._writing: Path | None = None

    def __bool__(self) -> bool:
        return bool(self._files)

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return sum(self._sizes.values())

    def add(self, values: list[bytes]) -> None:
        """Append encoded messages; makes room by letting the oldest go.

        Raises:
            DeliveryError: they cannot be written; none of them counts as kept.
        """
        data = b"".join(_LENGTH.pack(len(value)) + value for value in values)
        while self._files and self.size + len(data) > self._most:
            self.dropped += len(self.oldest())
            self.forget_oldest()
        if self._writing is None or self._sizes[self._writing] >= _FILE_BYTES:
            self._writing = self._folder / f"{self._number:012d}{_SUFFIX}"
            self._number += 1
            self._files.append(self._writing)
            self._sizes[self._writing] = 0
        path = self._writing
        try:
            with path.open("ab") as file:
                if not self._sizes[path]:
                    file.write(FILE_MAGIC)
                file.write(data)
                file.flush()
                self._sizes[path] = os.fstat(file.fileno()).st_size
        except OSError as error:
            # What follows a half-written message could not be read, so the next goes to another file.
            self._writing = None
            problem = f"cannot write the spool {path}: {error.strerror}"
            raise DeliveryError(problem) from None

    def add_first(self, values: list[bytes]) -> None:
        """Write messages that are older than all the others.

        Raises:
            DeliveryError: as ``add``.
        """
        if not self._files:
            self.add(values)
            return
        later, number = list(self._files), int(self._files[0].stem, 10) - 1
        kept = self._number
        self._writing, self._number = None, number
        self.add(values)
        self._number = kept
        self._writing = None
        self._files = deque(sorted(self._files)) if len(self._files) > len(later) else self._files

    @property
    def first(self) -> Path | None:
        """The oldest file; none while nothing is kept."""
        return self._files[0] if self._files else None

    def oldest(self) -> list[bytes]:
        """Return the encoded messages of the oldest file; a message that was cut off is left out."""
        try:
            data = self._files[0].read_bytes()
        except OSError:
            return []
        found, at = [], len(FILE_MAGIC)
        while at + _LENGTH.size <= len(data):
            size = _LENGTH.unpack_from(data, at)[0]
            at += _LENGTH.size
            if at + size > len(data):
                break
            found.append(data[at : at + size])
            at += size
        return found

    def seal(self) -> None:
        """Write what comes next to another file, so that the oldest can be read to its end and forgotten."""
        self._writing = None

    def forget_oldest(self) -> None:
        """Remove the oldest file."""
        path = self._files.popleft()
        del self._sizes[path]
        if path == self._writing:
            self._writing = None
        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others use the folder."""
        self._lock.close()
