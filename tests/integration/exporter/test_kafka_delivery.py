"""Messages on a real broker: one partition per node, in order, with key and headers."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from exporter.delivery import KafkaDelivery
from exporter.run import Capture, export
from exporter.sources.capture import read_messages
from schemas.event_codec import decode, encode
from tests.unit.exporter.crafting import SYN, pcap, tcp4

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


async def test_two_nodes_arrive_whole_and_in_order(bootstrap: str, tmp_path: Path) -> None:
    topic = f"t{uuid.uuid4().hex[:12]}.events.v1"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=4, replication_factor=1)])
    await admin.close()
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
