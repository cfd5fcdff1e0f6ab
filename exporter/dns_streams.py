"""DNS messages out of TCP segments (RFC 1035 section 4.2.2: each behind a 16-bit length)."""

from __future__ import annotations

from dataclasses import dataclass, field

_MOST = 65_535 + 2
_WRAP = 1 << 32

# Sender's address and port, receiver's address and port.
StreamKey = tuple[bytes, int, bytes, int]


@dataclass
class _Stream:
    expected: int
    held: bytearray = field(default_factory=bytearray)


class DnsStreams:
    """Puts the messages of a bounded number of TCP directions together, in order of sequence numbers.

    A stream is taken up at a segment that begins a message; after a gap it waits for the next segment
    and takes that for a beginning. The stream that was quiet longest is forgotten first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._streams: dict[StreamKey, _Stream] = {}

    def feed(self, key: StreamKey, sequence: int, data: bytes) -> list[bytes]:
        """Take a segment's payload; returns the messages that it completes."""
        stream = self._streams.pop(key, None)
        if stream is None:
            stream = _Stream(sequence)
            if len(self._streams) >= self._most:
                del self._streams[next(iter(self._streams))]
        self._streams[key] = stream
        ahead = (sequence - stream.expected) % _WRAP
        if ahead >= _WRAP // 2:  # sent before: only what is beyond is new
            data = data[_WRAP - ahead :]
        elif ahead:
            stream.held.clear()
            stream.expected = sequence
        stream.expected = (stream.expected + len(data)) % _WRAP
        stream.held += data
        return self._complete(stream)

    def _complete(self, stream: _Stream) -> list[bytes]:
        messages = []
        held = stream.held
        while len(held) >= 2:
            length = held[0] << 8 | held[1]
            if len(held) < 2 + length:
                break
            messages.append(bytes(held[2 : 2 + length]))
            del held[: 2 + length]
        if len(held) > _MOST:
            held.clear()
        return messages

    def forget(self, key: StreamKey) -> None:
        """Drop what is held of a direction: it ended, or bytes are missing."""
        self._streams.pop(key, None)
