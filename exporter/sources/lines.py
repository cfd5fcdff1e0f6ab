"""Lines of a text file in numbered blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.chunks import CaptureReport
from exporter.sources.byte_source import ByteSource

_PIECE = 1 << 18
# A block ends at whichever comes first; both are decided by content, so reading in other pieces changes nothing.
_BLOCK_LINES = 8192
_BLOCK_BYTES = 8 << 20
_NAMED = 5


@dataclass
class LineBlock:
    """Some lines without their ends, not empty, with their numbers from 1, and the numbers of those too long."""

    numbers: list[int] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    too_long: list[int] = field(default_factory=list)
    size: int = 0


def read_lines(source: ByteSource, most: int) -> Iterator[LineBlock]:
    """Read blocks of lines; a line of more than ``most`` bytes is left out and its number remembered."""
    block, number, rest, skipping = LineBlock(), 0, b"", False
    buffer = bytearray(_PIECE)
    while count := source.read_into(memoryview(buffer)):
        *lines, rest = (rest + bytes(buffer[:count])).split(b"\n")
        for line in lines:
            number += 1
            if skipping or len(line) > most:
                block.too_long.append(number)
                skipping = False
            else:
                _add(block, number, line)
            if len(block.lines) >= _BLOCK_LINES or block.size >= _BLOCK_BYTES:
                yield block
                block = LineBlock()
        if len(rest) > most:
            rest, skipping = b"", True
    if skipping:
        block.too_long.append(number + 1)
    else:
        _add(block, number + 1, rest)
    if block.lines or block.too_long:
        yield block


def _add(block: LineBlock, number: int, line: bytes) -> None:
    line = line.rstrip(b"\r")
    if line.strip():
        block.numbers.append(number)
        block.lines.append(line)
        block.size += len(line)


class DamagedLines:
    """Names the first damaged records of a file in its report, and in the end how many there were."""

    def __init__(self, report: CaptureReport, what: str = "line") -> None:
        self._report, self._what = report, what
        self.count = 0

    def add(self, numbers: list[int], reason: str) -> int:
        """Remember damaged records by number; returns how many."""
        for number in numbers[: max(0, _NAMED - self.count)]:
            self._report.note(f"{self._what} {number} was left out: {reason}")
        self.count += len(numbers)
        return len(numbers)

    def finish(self) -> None:
        """Say how many there were, where not all were named."""
        if self.count > _NAMED:
            self._report.note(f"{self.count} {self._what}s in all were left out as damaged")
