"""Records of a topic for people at a command line, without a group: readers do not share it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from schemas.topics import TopicSpec
from sluicegate.problems import CommandProblem
from stream.connection import client_arguments, unreachable
from stream.settings import KafkaSettings

_POLL_MS = 200


async def read_topic(
    kafka: KafkaSettings, topic: TopicSpec, since: float | None, *, follow: bool = False
) -> AsyncGenerator[ConsumerRecord | None, None]:
    """Give the records of a topic's first partition from a time on (s since epoch; None: its end).

    While `follow` waits for more it gives None now and then, so that its reader can look at the clock.

    Raises:
        ConnectionProblem: the broker does not answer.
        CommandProblem: the topic does not exist.
    """
    consumer = AIOKafkaConsumer(**client_arguments(kafka, "reader"), enable_auto_commit=False,
                                auto_offset_reset="earliest")  # fmt: skip
    place = TopicPartition(topic.name(kafka.prefix), 0)
    try:
        await consumer.start()
        if place.topic not in await consumer.topics():
            message = f"no topic {place.topic} on {kafka.bootstrap}: run sluicegate topics create"
            raise CommandProblem(message)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        start = end
        if since is not None:
            found = (await consumer.offsets_for_times({place: max(0, int(since * 1000))}))[place]
            start = found.offset if found is not None else end
        # Asked for first: seeking right after assign() races with the client's own reset.
        await consumer.position(place)
        consumer.seek(place, start)
        while follow or await consumer.position(place) < end:
            records = (await consumer.getmany(place, timeout_ms=_POLL_MS)).get(place, [])
            for record in records:
                yield record
            if not records:
                yield None
    except (KafkaError, OSError) as error:
        raise unreachable(kafka, error) from None
    finally:
        await consumer.stop()
