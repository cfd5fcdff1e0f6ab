"""What every reader of flow logs is, and how readers are found.

A reader is a module of this package that defines one subclass of ``LogReader``; there is no list.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

import exporter.sources as package
from exporter.chunks import CaptureReport
from exporter.record_cutter import RecordBlock
from exporter.settings import ExporterSettings
from exporter.sources.byte_source import ByteSource
from exporter.sources.json_records import Record, records_in
from exporter.sources.lines import DamagedLines
from schemas.events import Capability

HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Head:
    """The first bytes of a file, by which it is recognised.

    Attributes:
        data: at most ``HEAD_BYTES``.
        whole: the file ends with them.
    """

    data: bytes
    whole: bool

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are complete, without empty ones."""
        lines = self.data.decode("utf-8", "replace").splitlines()
        return [line for line in (lines if self.whole else lines[:-1]) if line.strip()]

    @cached_property
    def records(self) -> list[Record]:
        """JSON objects, where it begins with such."""
        return records_in(self.data, self.whole)

    def field(self, name: str) -> list[Any]:
        """Return a field of the JSON objects that have it."""
        return [record[name] for record in self.records if name in record]


@dataclass(frozen=True)
class Reading:
    """What a reader needs beside the bytes.

    Attributes:
        path: name of the file, for messages.
        salt: makes flow ids of nodes differ.
        settings: limits.
        report: filled while reading.
        damaged: takes damaged records.
    """

    path: str
    salt: int
    settings: ExporterSettings
    report: CaptureReport
    damaged: DamagedLines


class LogReader(ABC):
    """Reads one format of flow log.

    Attributes:
        id: the format's name, as in case files and in the header's ``source``.
        title: for people.
    """

    id: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, head: Head) -> None:
        self.head = head

    @classmethod
    @abstractmethod
    def recognises(cls, head: Head) -> bool:
        """Tell by its beginning whether a file has this format."""

    @property
    @abstractmethod
    def capabilities(self) -> Capability:
        """What the file can fill, by the fields at its beginning."""

    @property
    @abstractmethod
    def notes(self) -> Sequence[str]:
        """What the source cannot know, each in at most 200 characters."""

    @abstractmethod
    def read(self, source: ByteSource, reading: Reading) -> Iterator[RecordBlock]:
        """Read the whole file.

        Raises:
            CaptureError: it cannot be read at all.
        """


@cache
def log_readers() -> tuple[type[LogReader], ...]:
    """Return every reader, ordered by id."""
    found: dict[str, type[LogReader]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if not issubclass(member, LogReader) or member.__module__ != module.__name__:
                continue
            if not inspect.isabstract(member):
                found[member.id] = member
    return tuple(found[name] for name in sorted(found))


def recognise(data: bytes, whole: bool) -> LogReader | None:
    """Return the reader for a file that begins so; none where no format is known."""
    head = Head(data, whole)
    return next((reader(head) for reader in log_readers() if reader.recognises(head)), None)
