"""Names that are told while a log is read, and both logs as they came to lie on the broker."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.alert import Alert
from schemas.event_codec import EventMessage, decode
from schemas.inventory import InventoryObject
from schemas.topics import EVENTS, INVENTORY
from stream.connection import client_arguments
from stream.inventory_log import InventoryLog
from stream.settings import KafkaSettings, TopicSettings
from tests.torture.answer import Answer

_EVERY_S = 0.2
_MOST = 200

Send = Callable[[list[tuple[str, bytes]]], Awaitable[None]]


def addresses(answer: Answer) -> list[str]:
    """Return the addresses that an answer's alerts name."""
    alerts = [Alert.decode(value) for value in answer.alerts.values()]
    return sorted({end.ip for alert in alerts for end in (*alert.attackers, *alert.victims) if "." in end.ip})[:_MOST]


async def tell(named: list[str], send: Send) -> None:
    """Tell of another owner of every third address, again and again until cancelled."""
    turn = 0
    while True:
        turn += 1
        items = [
            InventoryObject(
                kind="Pod", uid=f"{number}-{turn}", namespace="shop", name=f"pod-{number}-{turn}",
                workload=f"Deployment/app{number}", ips=(named[number],), valid_from=turn,
            )
            for number in range(turn % 3, len(named), 3)
        ]  # fmt: skip
        await send([(item.uid, item.encode()) for item in items])
        await asyncio.sleep(_EVERY_S)


async def as_appended(kafka: KafkaSettings, topics: TopicSettings) -> tuple[list[EventMessage], InventoryLog]:
    """Return the events in order of their append times, within a partition in that of the log; and the names."""
    consumer = AIOKafkaConsumer(
        **client_arguments(kafka, "names"), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        events = [TopicPartition(EVENTS.name(kafka.prefix), p) for p in range(topics.event_partitions)]
        names = TopicPartition(INVENTORY.name(kafka.prefix), 0)
        consumer.assign([*events, names])
        ends = await consumer.end_offsets([*events, names])
        records: dict[TopicPartition, list[ConsumerRecord]] = {place: [] for place in ends}
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for place, found in (await consumer.getmany(timeout_ms=200)).items():
                records[place] += found
    finally:
        await consumer.stop()
    log = InventoryLog()
    for record in records[names]:
        log.take(record.offset, record.timestamp, InventoryObject.decode(record.value))
    merged = heapq.merge(*(records[place] for place in events), key=lambda record: int(record.timestamp))
    return [replace(decode(record.value), appended_ms=record.timestamp) for record in merged], log
