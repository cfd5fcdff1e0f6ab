"""Where messages go: a topic, a file of messages, or JSON lines."""

from __future__ import annotations

import asyncio
import io
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.event_codec import FILE_MAGIC, EventMessage, encode, encode_json
from schemas.inventory import InventoryObject
from schemas.topics import CONTENT_TYPE_HEADER, EVENTS_ARROW

STANDARD_OUTPUT = "-"
_LENGTH = struct.Struct("<I")


class DeliveryError(RuntimeError):
    """Messages cannot be delivered; one line that names the place and the remedy."""


def stamped(message: EventMessage, now: int) -> EventMessage:
    """Return a live message with its send time, ns since epoch; a capture has none, so that it stays the same bytes.

    The latest moment the exporter has a say in: readers take send time minus append time for the error of its clock.
    """
    if message.header.clock == "capture":
        return message
    return replace(message, header=message.header.model_copy(update={"sent_at": now}))


class Delivery(Protocol):
    """Takes messages in order. ``open`` comes first, ``close`` last and exactly once, also after an error.

    ``send`` may return before the message is durable; ``close`` returns when all are. Each raises
    ``DeliveryError`` where that is not to be had.
    """

    async def open(self) -> None:
        """Reach the place."""

    async def send(self, message: EventMessage) -> None:
        """Take one message; may wait until there is room."""

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        """Take what a source told about who has which address, before the rows that it concerns."""

    async def close(self, complete: bool) -> None:
        """Make everything durable and let go; not ``complete``: an error ended it early."""


class KafkaDelivery:
    """To the events topic: one partition per node (key cluster/node), lz4, all replicas acknowledge.

    Args:
        client: keyword arguments of the Kafka client: servers, security, client id.
        topic: full name of the topic.
        inventory: full name of the topic for identities; empty: they are not sent.
        in_flight: messages sent and not yet acknowledged; ``send`` waits above it.
        clock: returns ns since epoch: the clock that live cuts are made by.
    """

    # What the topic itself is created to take.
    MAX_REQUEST = 4 << 20

    def __init__(
        self, client: Mapping[str, Any], topic: str, in_flight: int = 64, inventory: str = "",
        clock: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        self._client = dict(client)
        self._topic = topic
        self._inventory = inventory
        self._in_flight = in_flight
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._waiting: list[asyncio.Future[Any]] = []

    def _problem(self, error: BaseException) -> DeliveryError:
        servers = self._client.get("bootstrap_servers", "the broker")
        reason = str(error) or type(error).__name__
        return DeliveryError(
            f"cannot deliver to topic {self._topic} at {servers}: {reason[:300]}; check the address, that the "
            "broker runs, and that the topic exists ('sluicegate topics create')"
        )

    async def open(self) -> None:
        """Connect to the broker."""
        self._producer = AIOKafkaProducer(
            **self._client, compression_type="lz4", acks="all", enable_idempotence=True, linger_ms=5,
            max_request_size=self.MAX_REQUEST,
        )  # fmt: skip
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            with suppress(KafkaError, OSError):
                await self._producer.stop()
            self._producer = None
            raise self._problem(error) from None

    async def send(self, message: EventMessage) -> None:
        """Hand a message to the producer; waits while too many are on their way."""
        if self._producer is None:
            problem = "open() comes before send()"
            raise DeliveryError(problem)
        key = f"{message.header.cluster}/{message.header.node}".encode()
        headers = [(CONTENT_TYPE_HEADER, EVENTS_ARROW)]
        try:
            value = encode(stamped(message, self._clock()))
            sent = await self._producer.send(self._topic, value, key=key, headers=headers)
        except (KafkaError, OSError) as error:
            raise self._problem(error) from None
        self._waiting.append(sent)
        if len(self._waiting) >= self._in_flight:
            await self.settle()

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        """Send identities, keyed by uid, and wait until they are kept."""
        if self._producer is None or not self._inventory:
            return
        try:
            for item in objects:
                key = item.uid.encode()
                self._waiting.append(await self._producer.send(self._inventory, item.encode(), key=key))
        except (KafkaError, OSError) as error:
            raise self._problem(error) from None
        await self.settle()

    async def settle(self) -> None:
        """Wait until everything sent is durable."""
        waiting, self._waiting = self._waiting, []
        try:
            await asyncio.gather(*waiting)
        except (KafkaError, OSError) as error:
            raise self._problem(error) from None

    async def close(self, complete: bool) -> None:
        """Wait for every acknowledgement and disconnect."""
        if self._producer is None:
            return
        producer, self._producer = self._producer, None
        try:
            await producer.flush()
            await self.settle()
        except (KafkaError, OSError) as error:
            raise self._problem(error) from None
        finally:
            with suppress(KafkaError, OSError):
                await producer.stop()


class FileDelivery:
    """To a file (``-``: standard output) in the form that ``replay`` reads, or as JSON lines.

    A file is written beside its name and takes it when complete, so that a half-written one is never
    taken for the whole.
    """

    def __init__(self, path: str | Path, json_lines: bool = False) -> None:
        self._path = path
        self._json = json_lines
        self._target: BinaryIO | None = None

    @property
    def _partial(self) -> Path:
        return Path(f"{self._path}.partial")

    def _problem(self, error: OSError) -> DeliveryError:
        return DeliveryError(f"cannot write {self._path}: {error.strerror or error}; check the path and the free space")

    async def open(self) -> None:
        """Create the file."""
        try:
            if str(self._path) == STANDARD_OUTPUT:
                self._target = io.BufferedWriter(io.FileIO(sys.stdout.fileno(), "wb", closefd=False))
            else:
                self._target = self._partial.open("wb")
            if not self._json:
                self._target.write(FILE_MAGIC)
        except OSError as error:
            raise self._problem(error) from None

    async def send(self, message: EventMessage) -> None:
        """Append a message."""
        if self._target is None:
            problem = "open() comes before send()"
            raise DeliveryError(problem)
        try:
            if self._json:
                self._target.write(encode_json(message) + b"\n")
            else:
                value = encode(message)
                self._target.write(_LENGTH.pack(len(value)) + value)
            if str(self._path) == STANDARD_OUTPUT:
                # Whoever reads the pipe wants the second that is over.
                self._target.flush()
        except OSError as error:
            raise self._problem(error) from None

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        """Files of messages have no place for identities: ``replay`` takes them from the log itself."""

    async def close(self, complete: bool) -> None:
        """Finish the file; a complete one gets its name."""
        if self._target is None:
            return
        target, self._target = self._target, None
        try:
            target.close()
            if complete and str(self._path) != STANDARD_OUTPUT:
                self._partial.replace(self._path)
        except OSError as error:
            raise self._problem(error) from None
