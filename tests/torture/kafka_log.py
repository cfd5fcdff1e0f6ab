"""The topics of one run on a broker: the log goes in, alerts and incidents come out, offsets tell what is read."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord

from schemas.alert import Watermark, decode_alert_record
from schemas.event_codec import EventMessage, encode
from schemas.incident import Incident
from schemas.topics import ALERTS, CONTENT_TYPE_HEADER, DEADLETTER, EVENTS, EVENTS_ARROW, INCIDENTS, INVENTORY, ROLLUPS
from sluicegate.demo_broker import delete_topics
from stream.connection import client_arguments
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import create_topics, wanted_topics
from tests.torture.answer import Answer

# Above any outage of a run: what was sent before it is durable after it, in order.
_SEND_MS = 300_000
_IN_FLIGHT = 256
# The topic that each agent reads to its end.
READ_BY = {"detect": EVENTS, "correlate": ROLLUPS, "incidents": ALERTS}


@dataclass
class Sent:
    """What went into events.v1: messages, and the bytes of their values."""

    messages: int = 0
    octets: int = 0


@dataclass
class Heard:
    """What alerts.v1 and incidents.v1 said so far.

    `watermarks` is the last tick of each sender of alerts, `senders` how many there are; `records` counts everything,
    to tell silence from news.
    """

    answer: Answer = field(default_factory=Answer)
    watermarks: dict[str, int] = field(default_factory=dict)
    senders: int = 0
    records: int = 0
    alerts: list[tuple[int, bytes]] = field(default_factory=list)  # append time (ms since epoch) and value

    def take(self, topic: str, record: ConsumerRecord) -> None:
        """Take one record of one of the two topics."""
        self.records += 1
        if topic == INCIDENTS.word:
            self.answer.add(Incident.decode(record.value), record.value)
            return
        word = decode_alert_record(record.value)
        if isinstance(word, Watermark):
            self.watermarks[word.sender], self.senders = word.tick, word.senders
            return
        self.answer.add(word, record.value)
        self.alerts.append((record.timestamp, record.value))

    def passed(self, tick: int) -> bool:
        """Tell whether every sender has said all up to a tick."""
        return 0 < self.senders <= sum(said >= tick for said in self.watermarks.values())


class KafkaLog:
    """One prefix on a broker; use `kafka_log`."""

    def __init__(self, kafka: KafkaSettings, topics: TopicSettings, producer: AIOKafkaProducer,
                 consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:  # fmt: skip
        self.kafka, self.topics = kafka, topics
        self._producer, self._consumer, self._admin = producer, consumer, admin
        self.sent, self.heard = Sent(), Heard()

    async def send(self, messages: Iterable[EventMessage]) -> None:
        """Append messages to events.v1, each node's in order; returns when all are durable."""
        await self.send_values((f"{m.header.cluster}/{m.header.node}", encode(m)) for m in messages)

    async def send_values(self, values: Iterable[tuple[str, bytes]]) -> None:
        """As `send`, for encoded messages with their keys."""
        waiting: list[asyncio.Future[Any]] = []
        topic, headers = EVENTS.name(self.kafka.prefix), [(CONTENT_TYPE_HEADER, EVENTS_ARROW)]
        for key, value in values:
            waiting.append(await self._producer.send(topic, key=key.encode(), value=value, headers=headers))
            self.sent.messages += 1
            self.sent.octets += len(value)
            if len(waiting) >= _IN_FLIGHT:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)

    async def tell(self, values: Iterable[tuple[str, bytes]]) -> None:
        """Append encoded objects with their keys to inventory.v1; returns when all are durable."""
        topic = INVENTORY.name(self.kafka.prefix)
        sent = [await self._producer.send(topic, key=key.encode(), value=value) for key, value in values]
        await asyncio.gather(*sent)

    async def follow(self) -> None:
        """Hear alerts.v1 and incidents.v1 until cancelled."""
        words = {spec.name(self.kafka.prefix): spec.word for spec in (ALERTS, INCIDENTS)}
        while True:
            found = await self._consumer.getmany(timeout_ms=200, max_records=2000)
            for place, records in found.items():
                for record in records:
                    self.heard.take(words[place.topic], record)

    async def ends(self, word: str) -> dict[TopicPartition, int]:
        """Return the end offset of each partition of a topic."""
        names = [t for t in wanted_topics(self.kafka.prefix, self.topics) if t.name == f"{self.kafka.prefix}.{word}"]
        places = [TopicPartition(t.name, p) for t in names for p in range(t.partitions)]
        return dict(await self._consumer.end_offsets(places))

    async def said(self) -> int:
        """Return how many records alerts.v1 and incidents.v1 hold."""
        return sum([sum((await self.ends(spec.word)).values()) for spec in (ALERTS, INCIDENTS)])

    async def unread(self) -> dict[str, int]:
        """Return the messages that each agent's group has not committed."""
        left = {}
        for agent, spec in READ_BY.items():
            ends = await self.ends(spec.word)
            found = await self._admin.list_consumer_group_offsets(f"{self.kafka.prefix}-{agent}")
            left[agent] = sum(
                max(0, end - (found[place].offset if place in found else 0)) for place, end in ends.items()
            )
        return left

    async def dead_letters(self) -> int:
        """Return how many messages were set aside."""
        return sum((await self.ends(DEADLETTER.word)).values())

    async def set_topic(self, word: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic; those not named fall back to the broker's, so name all that matter."""
        wanted = next(t for t in wanted_topics(self.kafka.prefix, self.topics) if t.name.endswith(f".{word}"))
        change = ConfigResource(ConfigResourceType.TOPIC, wanted.name, {**wanted.config, **settings})
        await self._admin.alter_configs([change])


@asynccontextmanager
async def kafka_log(bootstrap: str, replication: int = 1) -> AsyncIterator[KafkaLog]:
    """Topics under a prefix of their own; they are deleted at the end.

    Raises:
        ConnectionProblem, TopicMismatch: the broker does not answer, or refuses.
    """
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"torture-{uuid.uuid4().hex[:8]}")
    topics = TopicSettings(replication=replication)
    await create_topics(kafka, topics)
    arguments = client_arguments(kafka, "torture")
    sending = {**arguments, "request_timeout_ms": _SEND_MS}
    producer = AIOKafkaProducer(**sending, enable_idempotence=True, linger_ms=2, max_request_size=5 << 20)
    consumer = AIOKafkaConsumer(**arguments, enable_auto_commit=False, auto_offset_reset="earliest")
    admin = AIOKafkaAdminClient(**arguments)
    try:
        for client in (producer, consumer, admin):
            await client.start()
        consumer.assign([TopicPartition(spec.name(kafka.prefix), 0) for spec in (ALERTS, INCIDENTS)])
        yield KafkaLog(kafka, topics, producer, consumer, admin)
    finally:
        for stop in (producer.stop, consumer.stop, admin.close):
            # A broker that is gone must not hide why; the consumer gives out its own cancelling of a request as ours.
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(stop(), 10)
        with suppress(Exception):
            await asyncio.wait_for(delete_topics(kafka, [t.name for t in wanted_topics(kafka.prefix, topics)]), 20)
