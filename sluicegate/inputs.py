"""Files that commands read: captures, flow logs, event files, inventories."""

from __future__ import annotations

import gzip
import heapq
import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from exporter.chunks import CaptureReport
from exporter.learned_names import LEARNED
from exporter.settings import ExporterSettings
from exporter.sources.any_source import log_format, read_source
from schemas.event_codec import FILE_MAGIC, EventDecodeError, EventMessage, read_file
from schemas.inventory import InventoryObject
from schemas.word import WordError
from sluicegate.problems import CommandProblem

if TYPE_CHECKING:
    from schemas.identity import IdentityTable

STANDARD_INPUT = "-"
_GZIP = b"\x1f\x8b"
_XZ = b"\xfd7zXZ\x00"
# One object is a few hundred bytes; a million of them is far above the largest cluster.
_MAX_LINE = 64 << 10
_MAX_OBJECTS = 1_000_000


def is_event_file(path: str) -> bool:
    """Tell whether a file begins like a file of event messages; standard input is taken for none."""
    if path == STANDARD_INPUT:
        return False
    try:
        with open_packed(Path(path)) as file:
            start = file.read(4)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError):  # a capture's reader says what is wrong
        return False
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise CommandProblem(message) from None
    return start == FILE_MAGIC or (start[:1] == b"{" and not log_format(path))


def open_packed(path: Path) -> BinaryIO:
    """Open a file for reading, unpacking it where it is packed by gzip or xz.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(_XZ))
    if start == _XZ:
        return cast(BinaryIO, lzma.open(path, "rb"))
    return cast(BinaryIO, gzip.open(path, "rb")) if start.startswith(_GZIP) else path.open("rb")


def has_packets(path: str) -> bool:
    """Tell whether a file is a capture, whose packets' own clock can be read in a pass of its own."""
    return path != STANDARD_INPUT and not is_event_file(path) and not log_format(path)


def read_amounts(reports: Iterable[CaptureReport]) -> str:
    """Return how much was read, in words."""
    known = list(reports)
    packets, records = sum(r.packets for r in known), sum(r.records for r in known)
    if not records:
        return f"{packets:,} packets"
    return f"{packets:,} packets and {records:,} records" if packets else f"{records:,} records"


def read_any(
    path: str, node: str, cluster: str, settings: ExporterSettings, report: CaptureReport
) -> Iterator[EventMessage]:
    """Read a capture or flow log, or a file of event messages, which keeps its own node names.

    Identities that a flow log carries are left in ``report.identities`` before the message that needs them.

    A damaged end is noted in the report; what came before it has been given.

    Raises:
        CaptureError: it is none of them.
        CommandProblem: it cannot be read, or no message of an event file is whole.
    """
    if is_event_file(path):
        return _read_events(path, report)
    return read_source(path, node, cluster, settings, report)


def _read_events(path: str, report: CaptureReport) -> Iterator[EventMessage]:
    report.name = path
    read = 0
    with open_packed(Path(path)) as file:
        try:
            for message in read_file(file):
                read += 1
                yield message
        except (EventDecodeError, OSError, EOFError, zlib.error) as error:
            if not read:
                message_text = f"{path}: {error}"
                raise CommandProblem(message_text) from None
            report.note(f"damaged, what follows was left out: {error}")


def in_cut_order(sources: Sequence[Iterator[EventMessage]]) -> Iterator[EventMessage]:
    """Merge several nodes' messages by cut; equal cuts keep the order of the sources.

    Every source's first message, its heartbeat, comes before all others: whoever waits for the slowest
    node then knows of all of them.
    """
    firsts = [(source, message) for source in sources if (message := next(source, None)) is not None]
    yield from (message for _, message in firsts)
    yield from heapq.merge(*(source for source, _ in firsts), key=lambda message: message.header.cut)


def read_inventory(path: Path) -> list[InventoryObject]:
    """Read objects, one JSON object a line; empty lines are passed over.

    Raises:
        CommandProblem: it cannot be read, or a line is no object; names the line.
    """
    objects: list[InventoryObject] = []
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE + 1):
                number += 1
                if line.strip():
                    objects.append(_object(line, path, number))
                if len(objects) > _MAX_OBJECTS:
                    message = f"{path}: more than {_MAX_OBJECTS} objects"
                    raise CommandProblem(message)
    except OSError as error:
        message = f"{path}: cannot read the inventory: {error.strerror}"
        raise CommandProblem(message) from None
    return objects


def _object(line: bytes, path: Path, number: int) -> InventoryObject:
    if len(line) > _MAX_LINE:
        message = f"{path}:{number}: longer than {_MAX_LINE} bytes, no inventory object"
        raise CommandProblem(message)
    try:
        return InventoryObject.decode(line)
    except WordError as error:
        message = f"{path}:{number}: {error}"
        raise CommandProblem(message) from None


def identities_of(path: Path | None, objects: Sequence[InventoryObject]) -> IdentityTable:
    """Return the table of who had which address.

    Raises:
        CommandProblem: an object holds an address that is none.
    """
    from schemas.identity import IdentityTable

    table = IdentityTable()
    for item in objects:
        try:
            table.add(item)
        except ValueError as error:
            message = f"{path or 'inventory'}: {item.kind} {item.name}: {error}"
            raise CommandProblem(message) from None
    return table


def learning(
    messages: Iterator[EventMessage], report: CaptureReport, table: IdentityTable, objects: list[InventoryObject]
) -> Iterator[EventMessage]:
    """Give messages on, after taking in the identities that their source told.

    What an inventory says of an address stands above what a log says.

    Args:
        messages: of one source.
        report: of the same source.
        table: takes the identities.
        objects: gets those that were taken.
    """
    for message in messages:
        told, report.identities = report.identities, []
        for item in told:
            known = table.find(item.ips[0], item.valid_from)
            if known is None or known.uid.startswith(LEARNED):
                table.add(item)
                objects.append(item)
        yield message
