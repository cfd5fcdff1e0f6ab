"""Options of pcapng interfaces, above all the units of their time stamps (if_tsresol, if_tsoffset)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from exporter.chunks import I64
from exporter.gather import U64

_OPTION_RESOLUTION = 9
_OPTION_OFFSET = 14


@dataclass(frozen=True)
class Clock:
    """Units of an interface's time stamps: ``power`` of two or ten per second, and an offset in s."""

    binary: bool = False
    power: int = 6
    offset: int = 0

    @classmethod
    def of(cls, options: dict[int, bytes], order: str) -> Clock:
        """Return the clock that an interface's options describe; microseconds where they do not."""
        resolution = options.get(_OPTION_RESOLUTION, b"\x06")[:1] or b"\x06"
        offset = options.get(_OPTION_OFFSET, b"")
        seconds = struct.unpack(order + "q", offset)[0] if len(offset) == 8 else 0
        return cls(bool(resolution[0] & 0x80), resolution[0] & 0x7F, seconds)


def read_options(block: bytes, order: str) -> dict[int, bytes]:
    """Return the options of an interface block (16 bytes of fixed fields); damaged ones end the list."""
    found: dict[int, bytes] = {}
    position, end = 16, len(block) - 4
    while position + 4 <= end:
        code, length = struct.unpack_from(order + "HH", block, position)
        if code == 0 or position + 4 + length > end:
            break
        found.setdefault(code, block[position + 4 : position + 4 + length])
        position += 4 + length + (-length & 3)
    return found


def nanoseconds(stamps: U64, clock: Clock) -> I64:
    """Return ns since epoch, clipped to what cuts can hold."""
    power = clock.power
    if clock.binary:
        power = min(power, 63)
        seconds, rest = stamps >> np.uint64(power), stamps & np.uint64((1 << power) - 1)
        if power > 34:  # the product below must fit 64 bits
            rest, power = rest >> np.uint64(power - 34), 34
        fraction = rest * np.uint64(1_000_000_000) >> np.uint64(power)
    else:
        unit = 10 ** min(power, 19)
        seconds, rest = stamps // np.uint64(unit), stamps % np.uint64(unit)
        fraction = rest * np.uint64(10 ** (9 - power)) if power <= 9 else rest // np.uint64(10 ** (min(power, 19) - 9))
    whole = np.minimum(seconds, np.uint64(1 << 33)).astype(np.int64) + clock.offset
    times: I64 = np.clip(whole, 0, 1 << 33) * 1_000_000_000 + fraction.astype(np.int64)
    return times
