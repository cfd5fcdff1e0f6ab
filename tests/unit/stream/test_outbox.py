import asyncio
import time
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from stream.outbox import Outbox, Pending, SendFailed
from stream.patient_producer import PatientProducer
from stream.records import Outgoing
from stream.settings import KafkaSettings, WorkerSettings
from stream.telemetry import Telemetry, make_telemetry


class Producer:
    """Raises what it was given, one error a send, then takes everything."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.values: list[bytes] = []

    async def send(self, topic: str, *, value: bytes, **_: Any) -> "asyncio.Future[object]":
        if self.errors:
            raise self.errors.pop(0)
        self.values.append(value)
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


def outbox_with(producer: Producer, telemetry: Telemetry, **worker: float) -> Outbox:
    outbox = Outbox(KafkaSettings(), WorkerSettings(**worker), telemetry)
    outbox._producer = cast(PatientProducer, producer)
    return outbox


class Away(Producer):
    """Takes what it is given and never confirms it."""

    async def send(self, topic: str, *, value: bytes, **_: Any) -> "asyncio.Future[object]":
        self.values.append(value)
        return asyncio.get_running_loop().create_future()


async def test_a_client_without_room_is_asked_again_and_the_order_stays() -> None:
    producer = Producer(KafkaTimeoutError(), KafkaTimeoutError())
    outbox = outbox_with(producer, make_telemetry())
    pending: Pending = set()
    await outbox.post([Outgoing("alerts.v1", b"k", bytes([n])) for n in range(3)], pending)
    await outbox.durable(pending)
    assert producer.values == [b"\0", b"\1", b"\2"]


async def test_a_client_without_room_until_the_deadline_is_an_error() -> None:
    outbox = outbox_with(Producer(*[KafkaTimeoutError()] * 10_000), make_telemetry(), delivery_timeout_s=0.01)
    with pytest.raises(SendFailed, match=r"alerts\.v1 could not be sent"):
        await outbox.post([Outgoing("alerts.v1", b"k", b"v")], set())


async def test_what_no_broker_takes_until_the_deadline_is_an_error_that_names_the_setting() -> None:
    telemetry = make_telemetry()
    outbox = outbox_with(Away(), telemetry, delivery_timeout_s=0.1)
    watching = asyncio.create_task(outbox._watch())
    pending: Pending = set()
    await outbox.post([Outgoing("alerts.v1", b"k", b"v")], pending)
    assert telemetry.registry.get_sample_value("sluicegate_outbox_records") == 1
    assert (telemetry.registry.get_sample_value("sluicegate_outbox_oldest_seconds") or 0) > 0
    with pytest.raises(SendFailed, match=r"worker\.delivery_timeout_s"):
        await outbox.durable(pending)
    assert telemetry.registry.get_sample_value("sluicegate_outbox_records") == 0
    assert telemetry.registry.get_sample_value("sluicegate_send_failures_total") == 1
    watching.cancel()


async def test_a_batch_without_a_leader_is_kept_and_a_repeated_one_is_told() -> None:
    told: list[int] = []
    producer = PatientProducer(lambda: told.append(1), bootstrap_servers="127.0.0.1:1", request_timeout_ms=1)
    place, accumulator = TopicPartition("t", 0), producer._message_accumulator
    await accumulator.add_message(place, b"k", b"v", 1)
    await asyncio.sleep(0.01)  # far beyond the request time-out
    assert accumulator.drain_by_nodes(set()) == ({}, True)
    batch = accumulator._batches[place][0]
    assert not batch.future.done()
    assert accumulator._pop_batch(place) is batch
    accumulator.reenqueue(batch)
    assert (told, accumulator._batches[place][0]) == ([1], batch)
    await producer.stop()


async def test_a_record_that_is_refused_is_an_error_at_once() -> None:
    outbox = outbox_with(Producer(MessageSizeTooLargeError("too large")), make_telemetry())
    with pytest.raises(SendFailed, match=r"alerts\.v1 could not be sent"):
        await outbox.post([Outgoing("alerts.v1", b"k", b"v")], set())


class Refusing(Producer):
    """Takes a batch and is then told that the broker does not."""

    async def send(self, topic: str, *, value: bytes, **_: Any) -> "asyncio.Future[object]":
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, MessageSizeTooLargeError())
        return future


async def test_what_the_broker_refuses_later_is_named_by_topic_and_size() -> None:
    outbox = outbox_with(Refusing(), make_telemetry())
    pending: Pending = set()
    records = [Outgoing("alerts.v1", b"k", b"v"), Outgoing("rollups.v1", b"k", b"v" * 77)]
    await outbox.post(records, pending)
    with pytest.raises(SendFailed, match=r"a record of 77 bytes on rollups\.v1 could not be sent"):
        await outbox.durable(pending)


async def test_the_delay_of_a_tick_is_measured_from_its_cause_until_it_is_durable() -> None:
    telemetry = make_telemetry()
    outbox = outbox_with(Producer(), telemetry)
    pending: Pending = set()
    await outbox.post([Outgoing("alerts.v1", b"k", b"v")], pending, caused_at=time.time() - 5)  # noqa: TID251 - what is measured
    await outbox.post([Outgoing("state.v1", b"k", b"v")], pending)
    await outbox.durable(pending)

    def sampled(suffix: str, topic: str) -> float | None:
        name = f"sluicegate_tick_delay_seconds_{suffix}"
        return telemetry.registry.get_sample_value(name, {"topic": topic})

    assert sampled("count", "alerts.v1") == 1
    assert (sampled("sum", "alerts.v1") or 0) >= 5
    assert sampled("count", "state.v1") is None
