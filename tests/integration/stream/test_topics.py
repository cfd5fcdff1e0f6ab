import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.topics import TOPICS
from stream.connection import ConnectionProblem
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import TopicMismatch, check_topics, create_topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

SMALL = TopicSettings(event_partitions=2, rollup_partitions=1, state_partitions=1)


async def test_create_makes_everything_once_and_check_agrees(bootstrap: str, prefix: str) -> None:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    assert sorted(await create_topics(kafka, SMALL)) == sorted(spec.name(prefix) for spec in TOPICS)
    assert await create_topics(kafka, SMALL) == []
    await check_topics(kafka, SMALL)


async def test_missing_topics_are_all_named(bootstrap: str, prefix: str) -> None:
    with pytest.raises(TopicMismatch) as caught:
        await check_topics(KafkaSettings(bootstrap=bootstrap, prefix=prefix), SMALL)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(TOPICS)
    assert all("sluicegate topics create" in line for line in lines)


async def test_other_partition_counts_and_times_are_refused_by_check_and_by_create(bootstrap: str, prefix: str) -> None:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(f"{prefix}.events.v1", 3, 1)])
    finally:
        await admin.close()
    with pytest.raises(TopicMismatch) as caught:
        await create_topics(kafka, SMALL)
    lines = str(caught.value).splitlines()
    assert any("has 3 partitions, settings say 2" in line for line in lines)
    assert any("message.timestamp.type=CreateTime, must be LogAppendTime" in line for line in lines)
    assert all(line.startswith(f"{prefix}.events.v1") for line in lines)


async def test_an_unreachable_broker_is_one_line() -> None:
    with pytest.raises(ConnectionProblem) as caught:
        await check_topics(KafkaSettings(bootstrap="127.0.0.1:1"), SMALL)
    assert "\n" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
