"""Inventory objects onto inventory.v1, durable when the call returns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.inventory import InventoryObject
from schemas.topics import INVENTORY
from stream.connection import client_arguments, unreachable
from stream.settings import KafkaSettings


async def publish_inventory(kafka: KafkaSettings, objects: Iterable[InventoryObject]) -> int:
    """Send objects in their order, keyed by uid; return how many.

    Raises:
        ConnectionProblem: the broker does not answer or does not take them.
    """
    producer = AIOKafkaProducer(**client_arguments(kafka, "inventory"), acks="all", compression_type="lz4")
    topic = INVENTORY.name(kafka.prefix)
    try:
        await producer.start()
        sent = [await producer.send(topic, item.encode(), key=item.uid.encode()) for item in objects]
        await asyncio.gather(*sent)
    except (KafkaError, OSError) as error:
        raise unreachable(kafka, error) from None
    finally:
        await producer.stop()
    return len(sent)
