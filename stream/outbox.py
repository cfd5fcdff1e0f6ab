"""Sends records without waiting for each, and tells when everything sent so far is durable.

Sends are pipelined: a checkpoint waits for them before it claims anything, so nothing is acknowledged
before what it caused is durable, and no message waits for the broker by itself.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from schemas.topics import CONTENT_TYPE_HEADER, JSON
from stream.connection import ConnectionProblem, client_arguments, unreachable
from stream.records import Outgoing
from stream.settings import KafkaSettings, WorkerSettings
from stream.telemetry import Telemetry

# Above the largest topic's limit (4 MiB), so that the broker's limit is the one that decides.
_MAX_REQUEST = 5 << 20
_ONE_OF_THEM = "a record"
EMITTED_HEADER = "emitted-at"

Pending = set["asyncio.Future[object]"]


class SendFailed(Exception):
    """A record could not be made durable; its cause must not be acknowledged. One line."""


class Outbox:
    """One idempotent producer (acks from all replicas, order kept per partition) for a whole process."""

    def __init__(self, kafka: KafkaSettings, worker: WorkerSettings, telemetry: Telemetry) -> None:
        self._kafka = kafka
        self._worker = worker
        self._telemetry = telemetry
        self._room = asyncio.Semaphore(worker.pending_sends)
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> Self:
        """Connect.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        producer = AIOKafkaProducer(
            **client_arguments(self._kafka, "outbox"),
            enable_idempotence=True,
            # Uncompressed: the topics say lz4, so the broker compresses. The client's lz4 runs at level 9 and took
            # more than a quarter of a busy worker's time.
            compression_type=None,
            linger_ms=self._worker.linger_ms,
            max_request_size=_MAX_REQUEST,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise unreachable(self._kafka, error) from None
        self._producer = producer
        return self

    async def stop(self) -> None:
        """Flush and disconnect."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def post(self, records: Iterable[Outgoing], pending: Pending, caused_at: float | None = None) -> None:
        """Hand records to the producer, in order; waits while too many are not yet durable, or one must come after.

        It waits for a broker that is away too, however long.

        Args:
            records: what to send.
            pending: collects a future per record, to be given to `durable`.
            caused_at: append time of the input that caused them, s since the epoch; for the metrics.

        Raises:
            SendFailed: the producer refuses a record (too large, or stopped), or one waited for is not durable.
        """
        for record in records:
            if record.after_durable:
                await self.durable(pending)
            await self._room.acquire()
            try:
                future = await self._send(record)
            except (KafkaError, ValueError) as error:
                self._room.release()
                raise _failed(record.topic, error) from None
            pending.add(future)
            future.add_done_callback(partial(self._done, pending))
            if caused_at is not None:
                future.add_done_callback(partial(self._observe, record.topic, caused_at))
            self._telemetry.records_sent.labels(record.topic).inc()

    async def durable(self, pending: Pending) -> None:
        """Wait until every record of `pending` is on all replicas, and empty it.

        Raises:
            SendFailed: one of them is not.
        """
        waiting: Sequence[asyncio.Future[object]] = list(pending)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise _failed(_ONE_OF_THEM, result)
        pending.difference_update(waiting)

    def _done(self, pending: Pending, future: "asyncio.Future[object]") -> None:
        self._room.release()
        if future.cancelled() or future.exception() is not None:
            # Stays in `pending`, so that the checkpoint that waits for it fails.
            self._telemetry.send_failures.inc()
        else:
            pending.discard(future)

    def _observe(self, topic: str, caused_at: float, future: "asyncio.Future[object]") -> None:
        if not future.cancelled() and future.exception() is None:
            now = time.time()  # noqa: TID251 - a measurement
            self._telemetry.tick_delay_seconds.labels(topic).observe(max(0.0, now - caused_at))

    async def _send(self, record: Outgoing) -> "asyncio.Future[object]":
        if self._producer is None:
            message = "the outbox is not started"
            raise ConnectionProblem(message)
        headers = [*record.headers]
        if record.value is not None and not any(name == CONTENT_TYPE_HEADER for name, _ in headers):
            headers.append((CONTENT_TYPE_HEADER, JSON))
        # Wall-clock emission time is a header and never a field: equal alerts stay equal bytes.
        headers.append((EMITTED_HEADER, str(time.time_ns()).encode()))
        while True:
            try:
                future: asyncio.Future[object] = await self._producer.send(
                    f"{self._kafka.prefix}.{record.topic}",
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    headers=headers,
                )
            except KafkaTimeoutError:
                # The client has no room while the broker is away, and has taken nothing: whoever sends waits for
                # the broker, and so reading does.
                continue
            return future


def _failed(what: str, error: BaseException) -> SendFailed:
    return SendFailed(f"{what} could not be sent: {str(error) or type(error).__name__}")
