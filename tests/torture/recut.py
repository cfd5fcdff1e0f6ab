"""The same rows in other messages: what an exporter or a network might have made of the same seconds.

Nothing here changes a row, its order within its part of a second, or the second it belongs to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from schemas.event_codec import EventMessage

# Seconds come in at most this many parts: the engine closes a second of more (`engine.max_parts_pending`).
MOST_PARTS = 64


def in_sequence(messages: Iterable[EventMessage]) -> Iterator[EventMessage]:
    """Number each node's messages anew, from 0, in the order they come."""
    sent: Counter[str] = Counter()
    for message in messages:
        node = message.header.node
        yield EventMessage(message.header.model_copy(update={"sequence": sent[node]}), message.batches)
        sent[node] += 1


def split(message: EventMessage, parts: int) -> list[EventMessage]:
    """Return one message as the parts of a second: rows of each kind in equal shares, in order.

    Losses are said once, in the first part; the end in the last. Sequence numbers are left to `in_sequence`. A second
    without rows has nothing to split: as several messages it would be no exporter's hello any more.
    """
    if parts <= 1 or not message.batches:
        return [message]
    header = message.header
    once = {"lost_packets": 0, "lost_rows": 0, "malformed": 0}
    made = []
    for part in range(parts):
        batches = {}
        for kind, batch in message.batches.items():
            start, end = (batch.num_rows * edge // parts for edge in (part, part + 1))
            if end > start:
                batches[kind] = batch.slice(start, end - start)
        change = {"part": part, "parts": parts, "final": header.final and part == parts - 1, **(once if part else {})}
        made.append(EventMessage(header.model_copy(update=change), batches))
    return made


def by_rows(messages: Iterable[EventMessage], rows: int) -> Iterator[EventMessage]:
    """Cut seconds into messages of at most so many rows of a kind, but into `MOST_PARTS` at most."""
    return in_sequence(_cut(messages, lambda message: _parts(message, rows)))


def _cut(messages: Iterable[EventMessage], wanted: Callable[[EventMessage], int]) -> Iterator[EventMessage]:
    """Split every message, and number the parts of each node's second anew."""
    for _, second in groupby(messages, key=lambda m: (m.header.cut, m.header.node)):
        own = list(second)
        made = [part for message in own for part in split(message, min(wanted(message), MOST_PARTS // len(own)))]
        for number, part in enumerate(made):
            change = {"part": number, "parts": len(made)}
            yield EventMessage(part.header.model_copy(update=change), part.batches)


def _parts(message: EventMessage, rows: int) -> int:
    most = max((batch.num_rows for batch in message.batches.values()), default=0)
    return max(1, -(-most // rows))


def shuffled(messages: Iterable[EventMessage], seed: int, most: int = 5) -> Iterator[EventMessage]:
    """Split messages into 1 to `most` parts and shuffle all messages of a second, of all nodes together.

    Sequence numbers say the order in which they were sent. The first second, which makes the nodes known, and seconds
    in which a node ends keep their order.
    """
    shares, orders = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    sent = in_sequence(_cut(messages, lambda _: int(shares.integers(1, most + 1))))
    for number, second in enumerate(_seconds(sent)):
        kept = number == 0 or any(message.header.final for message in second)
        yield from second if kept else (second[place] for place in orders.permutation(len(second)))


def _seconds(messages: Iterable[EventMessage]) -> Iterator[Sequence[EventMessage]]:
    for _, second in groupby(messages, key=lambda message: message.header.cut):
        yield list(second)
