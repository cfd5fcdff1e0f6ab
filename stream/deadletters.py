"""Input that cannot be read is set aside with its original bytes, until there is too much of it."""

from collections import deque
from collections.abc import Callable

from schemas.topics import DEADLETTER
from stream.records import Headers, Incoming, Outgoing
from stream.settings import DeadLetterSettings

# The topic takes 4 MiB per record; the rest is room for headers and the record's own framing.
MAX_KEPT = (4 << 20) - (64 << 10)
_MAX_REASON = 500
_MAX_KEY = 1024


class TooManyDeadLetters(Exception):
    """The limit is reached: more likely our code or settings are broken than so many senders. One line."""


class DeadLetterLimit:
    """Counts dead letters in a sliding window.

    Args:
        agent: named in the error.
        settings: the limit and its window.
        monotonic: seconds from any fixed point.
    """

    def __init__(self, agent: str, settings: DeadLetterSettings, monotonic: Callable[[], float]) -> None:
        self._agent = agent
        self._settings = settings
        self._monotonic = monotonic
        self._times: deque[float] = deque()

    def admit(self, reason: str) -> None:
        """Count one dead letter.

        Raises:
            TooManyDeadLetters: this one would exceed the limit; it must be left unacknowledged.
        """
        now = self._monotonic()
        while self._times and self._times[0] <= now - self._settings.window_s:
            self._times.popleft()
        if len(self._times) >= self._settings.limit:
            message = (
                f"{self._agent}: more than {self._settings.limit} undecodable messages within "
                f"{self._settings.window_s:g} s, the last because: {printable(reason)}; "
                "nothing further is acknowledged. Look at deadletter.v1, mend the sender or raise dead_letters.limit"
            )
            raise TooManyDeadLetters(message)
        self._times.append(now)


def dead_letter(record: Incoming, reason: str) -> Outgoing:
    """The record for deadletter.v1: original key and bytes, and headers that say where they came from.

    A value above 4 MiB less headers is cut, with its length in the header `original-size`.
    """
    value = record.value or b""
    headers: Headers = (
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("reason", printable(reason).encode()),
        ("content-type", dict(record.headers).get("content-type", b"application/octet-stream")[:200]),
    )
    if len(value) > MAX_KEPT:
        headers = (*headers, ("original-size", str(len(value)).encode()))
    key = None if record.key is None else record.key[:_MAX_KEY]
    return Outgoing(DEADLETTER.word, key, value[:MAX_KEPT], headers=headers)


def printable(text: str) -> str:
    """At most 500 characters on one line, control characters escaped: reasons quote untrusted input."""
    cut = text[:_MAX_REASON]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
