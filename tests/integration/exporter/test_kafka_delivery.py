"""Messages on a real broker: one partition per node, in order, with key and headers."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from exporter.backlog import Backlog
from exporter.delivery import KafkaDelivery
from exporter.run import Capture, export
from exporter.settings import LiveSettings
from exporter.sources.capture import read_messages
from schemas.event_codec import EventMessage, decode, encode
from tests.unit.exporter.crafting import SYN, pcap, tcp4

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=4, replication_factor=1)])
    await admin.close()


async def test_two_nodes_arrive_whole_and_in_order(bootstrap: str, tmp_path: Path) -> None:
    topic = f"t{uuid.uuid4().hex[:12]}.events.v1"
    await create(bootstrap, topic)
    captures = []
    for node in ("one", "two"):
        path = tmp_path / f"{node}.pcap"
        path.write_bytes(pcap([(i / 50, tcp4("10.0.0.1", 1000 + i, "10.0.0.2", 80, SYN)) for i in range(300)]))
        captures.append(Capture(path, node))
    summary = await export(captures, KafkaDelivery({"bootstrap_servers": bootstrap}, topic), "lab", boot="t")
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        records = [await consumer.getone() for _ in range(summary.messages)]
    finally:
        await consumer.stop()
    for capture in captures:
        key = f"lab/{capture.node}".encode()
        mine = [record for record in records if record.key == key]
        assert len({record.partition for record in mine}) == 1
        assert {dict(record.headers)["content-type"] for record in mine} == {b"application/vnd.sluicegate.events+arrow"}
        wanted = [encode(message) for message in read_messages(capture.path, capture.node, "lab", boot="t")]
        assert [record.value for record in mine] == wanted
        assert [decode(record.value).header.sequence for record in mine] == list(range(len(wanted)))


async def test_a_backlog_waits_for_the_broker_and_keeps_the_order(bootstrap: str, tmp_path: Path) -> None:
    """A broker that is not there at first: what memory cannot hold is on disk, and all of it arrives, stamped late."""
    topic = f"t{uuid.uuid4().hex[:12]}.events.v1"
    await create(bootstrap, topic)
    path = tmp_path / "node.pcap"
    path.write_bytes(pcap([(i / 5, tcp4("10.0.0.1", 1000 + i, "10.0.0.2", 80, SYN)) for i in range(300)]))
    made = [live(message) for message in read_messages(path, "one", "lab", boot="t")]
    there = False

    def connect() -> KafkaDelivery:
        return KafkaDelivery({"bootstrap_servers": bootstrap if there else "127.0.0.1:9"}, topic)

    settings = LiveSettings(memory_bytes=1 << 16, spool=tmp_path / "spool", stop_seconds=60)
    backlog = Backlog(connect, settings)
    await backlog.open()
    for message in made:
        await backlog.send(message)
    assert backlog.state.spooled_bytes > 0
    async with asyncio.timeout(60):
        while not backlog.state.problem:  # noqa: ASYNC110 - a state, not an event
            await asyncio.sleep(0.01)
    there = True
    await backlog.close(True)
    assert backlog.state.dropped == 0
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        records = [decode((await consumer.getone()).value) for _ in made]
    finally:
        await consumer.stop()
    assert [record.header.sequence for record in records] == list(range(len(made)))
    assert [record.header.cut for record in records] == [message.header.cut for message in made]
    assert all(record.header.sent_at > 0 for record in records)


def live(message: EventMessage) -> EventMessage:
    return replace(message, header=message.header.model_copy(update={"clock": "live"}))
