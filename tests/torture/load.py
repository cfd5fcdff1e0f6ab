"""Traffic of very many nodes, made cheaply: `python -m tests.torture.load` sends it to a broker as fast as it is read.

A few seconds of fifty generated nodes (`benchmarks.generate`) are kept as templates. Node *n* plays the templates of
node *n* mod 50, moved to its second, in an order that the dice choose: one after the other, everybody would call at
exact intervals, as a beacon does. Each group of fifty has a pod network of its own (10.244, 10.243, ...), so that no
two nodes share a pod. Rows are new in time and place, not in kind.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.generate import Shape, ordinary
from schemas.event_codec import EventMessage, encode
from schemas.events import ADDRESS, KINDS
from schemas.topics import CONTENT_TYPE_HEADER, EVENTS, EVENTS_ARROW
from stream.connection import client_arguments
from stream.settings import KafkaSettings

_TEMPLATE_NODES, _CYCLE_S = 50, 6
_POD_NETWORK = np.frombuffer(bytes(10) + b"\xff\xff\x0a\xf4", np.uint8)  # 10.244.0.0/16, IPv4-mapped
_SECOND = 1_000_000_000
_TIMES = {kind: [n for n, c in enumerate(columns) if c.unit == "ns since epoch"] for kind, columns in KINDS.items()}
_ADDRESSES = {kind: [n for n, c in enumerate(columns) if c.dtype == ADDRESS] for kind, columns in KINDS.items()}
_IN_FLIGHT = 200
_LOOK_S = 0.2


@dataclass(frozen=True)
class Load:
    """So many nodes, each with so many flow rows a second (and a DNS row for every twenty)."""

    nodes: int
    rows: int

    @property
    def flows_per_second(self) -> int:
        """Flow rows in a second of event time."""
        return self.nodes * self.rows


class Source:
    """Makes the seconds of a load, from a seed."""

    def __init__(self, load: Load, seed: int) -> None:
        shape = Shape(min(load.nodes, _TEMPLATE_NODES), _CYCLE_S, load.rows)
        self._load, self._distinct, self._seed = load, shape.nodes, seed
        self._templates = list(ordinary(shape, seed))

    def second(self, second: int) -> Iterator[EventMessage]:
        """Yield one message of each node."""
        groups = -(-self._load.nodes // self._distinct)
        places = np.random.default_rng((self._seed, second)).integers(_CYCLE_S, size=groups).tolist()
        return (self._message(node, second, places[node // self._distinct]) for node in range(self._load.nodes))

    def _message(self, node: int, second: int, place: int) -> EventMessage:
        group, own = divmod(node, self._distinct)
        template = self._templates[place * self._distinct + own]
        change = {"node": f"node{node}", "sequence": second, "cut": template.header.cut + second - place}
        batches = {kind: _moved(kind, batch, second - place, group) for kind, batch in template.batches.items()}
        return EventMessage(template.header.model_copy(update=change), batches)

    def end(self, second: int) -> Iterator[EventMessage]:
        """Yield each node's end, a second without rows."""
        for message in self.second(second):
            yield EventMessage(message.header.model_copy(update={"final": True}))


def _moved(kind: str, batch: pa.RecordBatch, seconds: int, group: int) -> pa.RecordBatch:
    """Return rows moved in time and to the pod network of a group; every other column as it is."""
    arrays = list(batch.columns)
    for place in _TIMES[kind]:
        values = arrays[place].to_numpy()
        arrays[place] = pa.array(np.where(values == 0, 0, values + seconds * _SECOND))
    for place in _ADDRESSES[kind] if group else ():
        known = arrays[place].dictionary
        words = np.frombuffer(known.buffers()[1], np.uint8).reshape(-1, 16)[known.offset :][: len(known)].copy()
        words[(words[:, :14] == _POD_NETWORK).all(axis=1), 13] -= group
        distinct = pa.Array.from_buffers(pa.binary(16), len(words), [None, pa.py_buffer(words)])
        arrays[place] = pa.DictionaryArray.from_arrays(arrays[place].indices, distinct)
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


async def send(kafka: KafkaSettings, load: Load, seconds: int, seed: int, ahead: int) -> tuple[int, int]:
    """Send a load, never more than `ahead` messages before what the detect agents have committed.

    Returns:
        Messages and bytes of their values.
    """
    source = Source(load, seed)
    arguments = client_arguments(kafka, "load")
    producer = AIOKafkaProducer(**arguments, enable_idempotence=True, linger_ms=5, max_request_size=5 << 20)
    admin = AIOKafkaAdminClient(**arguments)
    sent = octets = 0
    await producer.start()
    await admin.start()
    try:
        waiting: list[asyncio.Future[object]] = []
        for message in chain(*(source.second(s) for s in range(seconds)), source.end(seconds)):
            value = encode(message)
            key = f"{message.header.cluster}/{message.header.node}".encode()
            waiting.append(await producer.send(EVENTS.name(kafka.prefix), key=key, value=value,
                                               headers=[(CONTENT_TYPE_HEADER, EVENTS_ARROW)]))  # fmt: skip
            sent, octets = sent + 1, octets + len(value)
            if len(waiting) >= _IN_FLIGHT:
                await asyncio.gather(*waiting)
                waiting.clear()
                await _room(admin, kafka, sent - ahead)
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()
        await admin.close()
    return sent, octets


async def _room(admin: AIOKafkaAdminClient, kafka: KafkaSettings, least: int) -> None:
    """Wait until the detect agents have committed so many messages."""
    # A broker that has only begun knows no group to ask about.
    while least > 0 and await _committed(admin, kafka) < least:  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(_LOOK_S)


async def _committed(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> int:
    found: dict[TopicPartition, object] = await admin.list_consumer_group_offsets(f"{kafka.prefix}-detect")
    return sum(max(0, place.offset) for place in found.values())  # type: ignore[attr-defined]


def main(words: Sequence[str] | None = None) -> int:
    """Send, and print messages and bytes."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.load", description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("prefix")
    for name in ("nodes", "rows", "seconds", "seed", "ahead"):
        parser.add_argument(name, type=int)
    given = parser.parse_args(words)
    kafka = KafkaSettings(bootstrap=given.bootstrap, prefix=given.prefix)
    load = Load(given.nodes, given.rows)
    sent, octets = asyncio.run(send(kafka, load, given.seconds, given.seed, given.ahead))
    print(sent, octets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
