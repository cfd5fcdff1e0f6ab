import asyncio
import time
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from stream.outbox import Outbox, Pending, SendFailed
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


def outbox_with(producer: Producer, telemetry: Telemetry) -> Outbox:
    outbox = Outbox(KafkaSettings(), WorkerSettings(), telemetry)
    outbox._producer = producer
    return outbox


async def test_a_client_without_room_is_asked_again_and_the_order_stays() -> None:
    producer = Producer(KafkaTimeoutError(), KafkaTimeoutError())
    outbox = outbox_with(producer, make_telemetry())
    pending: Pending = set()
    await outbox.post([Outgoing("alerts.v1", b"k", bytes([n])) for n in range(3)], pending)
    await outbox.durable(pending)
    assert producer.values == [b"\0", b"\1", b"\2"]


async def test_a_record_that_is_refused_is_an_error_at_once() -> None:
    outbox = outbox_with(Producer(MessageSizeTooLargeError("too large")), make_telemetry())
    with pytest.raises(SendFailed, match=r"alerts\.v1 could not be sent"):
        await outbox.post([Outgoing("alerts.v1", b"k", b"v")], set())


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
