"""One direction of a TCP connection, put in order as far as somebody waits for its bytes."""

from __future__ import annotations

_WRAP = 1 << 32
_HALF = 1 << 31
# Segments that wait behind a gap; senders rarely have more on the way at a connection's start.
_MAX_AHEAD = 8
# Bytes beyond the next one that are still taken for this connection.
_WINDOW = 1 << 17


class ByteStream:
    """Gives each byte once and in order, whatever was repeated, reordered or overlaps.

    Attributes:
        next: sequence number of the next byte wanted; None where nothing says which that is.
        broken: bytes are missing for good, by loss or by the capture's snap length.
        cut: they are missing because the capture kept only the beginning of a packet.
    """

    __slots__ = ("_ahead", "broken", "cut", "next")

    def __init__(self, following: int | None = None) -> None:
        self.next = following
        self._ahead: list[tuple[int, int, bytes, int]] = []
        self.broken = self.cut = False

    @property
    def waiting(self) -> bool:
        """Segments wait behind a gap."""
        return bool(self._ahead)

    @property
    def held(self) -> int:
        """Bytes kept behind a gap."""
        return sum(len(data) for _, _, data, _ in self._ahead)

    def wants(self, sequence: int, size: int) -> bool:
        """Tell whether a segment may hold something new; what is far off belongs to nothing here."""
        if self.next is None or self.broken:
            return False
        ahead = (sequence - self.next) % _WRAP
        return ahead < _WINDOW or _WRAP - ahead < size

    def skip(self, count: int) -> None:
        """Pass over bytes that nobody needs."""
        if self.next is not None:
            self.next = (self.next + count) % _WRAP

    def take(self, sequence: int, size: int, data: bytes, time: int) -> None:
        """Keep a segment of ``size`` bytes of which the capture has ``data``; ``pop`` gives what is in order."""
        if len(self._ahead) < _MAX_AHEAD:
            self._ahead.append((sequence, size, data, time))
        else:
            self.broken = True

    def pop(self) -> tuple[bytes, int] | None:
        """Return the next bytes in order and the time they came (ns); None while they are missing."""
        if self.next is None or self.broken:
            return None
        kept = []
        found = None
        for segment in self._ahead:
            sequence, size, data, time = segment
            known = (self.next - sequence) % _WRAP
            if known >= _HALF or found is not None:
                kept.append(segment)
            elif known < size:
                found = data[known:], time
                # What the capture cut off can never be given.
                self.cut = len(data) < size
                self.next = (self.next + len(found[0])) % _WRAP
                self.broken = self.cut
        self._ahead = kept
        return found
