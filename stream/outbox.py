"""Sends records without waiting for each, and tells when everything sent so far is durable.

Sends are pipelined: a checkpoint waits for them before it claims anything, so nothing is acknowledged
before what it caused is durable, and no message waits for the broker by itself.

What a broker does not take is sent again, in order and without being written twice, until it is taken or has waited for
`worker.delivery_timeout_s`. Only then does the worker end, and its successor does the same work again.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Self

import structlog
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError

from schemas.topics import CONTENT_TYPE_HEADER, JSON
from stream.connection import ConnectionProblem, client_arguments, unreachable
from stream.patient_producer import PatientProducer
from stream.records import Outgoing
from stream.settings import KafkaSettings, WorkerSettings
from stream.telemetry import Telemetry

log = structlog.get_logger("stream.outbox")

# Above the largest topic's limit (4 MiB), so that the broker's limit is the one that decides.
_MAX_REQUEST = 5 << 20
EMITTED_HEADER = "emitted-at"
_LOOK_S = 0.5
# Waiting for longer than this is said in the log, once, and when it is over.
_WORTH_SAYING_S = 5.0
# What a clean stop has to flush was waited for before; brokers that are away must not hold up an end.
_FLUSH_S = 5.0

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
        self._producer: PatientProducer | None = None
        self._waiting: dict[asyncio.Future[object], float] = {}  # since when (monotonic s), the oldest first
        self._refused: dict[asyncio.Future[object], Outgoing] = {}  # few: the first ends the process
        self._watching: asyncio.Task[None] | None = None
        telemetry.outbox_records.set_function(lambda: len(self._waiting))
        telemetry.outbox_oldest_seconds.set_function(self.oldest)

    async def start(self) -> Self:
        """Connect.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        producer = PatientProducer(
            self._telemetry.send_retries.inc,
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
        self._watching = asyncio.create_task(self._watch())
        return self

    async def stop(self) -> None:
        """Flush and disconnect."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._producer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await self._producer.stop()
            self._producer = None

    def oldest(self) -> float:
        """For how many s the oldest record that is not durable yet has waited; 0 where there is none."""
        return time.monotonic() - next(iter(self._waiting.values())) if self._waiting else 0.0

    async def post(self, records: Iterable[Outgoing], pending: Pending, caused_at: float | None = None) -> None:
        """Hand records to the producer, in order; waits while too many are not yet durable, or one must come after.

        It waits for a broker that is away too.

        Args:
            records: what to send.
            pending: collects a future per record, to be given to `durable`.
            caused_at: append time of the input that caused them, s since the epoch; for the metrics.

        Raises:
            SendFailed: the producer refuses a record (too large, or stopped), or one waited for came to its deadline.
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
            self._waiting[future] = time.monotonic()
            future.add_done_callback(partial(self._done, pending, record))
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
                raise _failed(self._largest_refused(waiting), result)
        pending.difference_update(waiting)

    def _largest_refused(self, among: Sequence["asyncio.Future[object]"]) -> str:
        """Say which record it was; a broker refuses all that were sent with it too, and size is why it would."""
        refused = [self._refused[future] for future in among if future in self._refused]
        if not refused:
            return "a record"
        record = max(refused, key=_size)
        return f"a record of {_size(record)} bytes on {record.topic}"

    def _done(self, pending: Pending, record: Outgoing, future: "asyncio.Future[object]") -> None:
        self._room.release()
        del self._waiting[future]
        if future.cancelled() or future.exception() is not None:
            # Stays in `pending`, so that the checkpoint that waits for it fails.
            self._refused[future] = record
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
        deadline = time.monotonic() + self._worker.delivery_timeout_s
        while True:
            try:
                future: asyncio.Future[object] = await self._producer.send(
                    f"{self._kafka.prefix}.{record.topic}",
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    headers=headers,
                )
            except (KafkaTimeoutError, UnknownTopicOrPartitionError):
                # The client has no room while the broker is away, or has not been told of the topic yet, and has
                # taken nothing: whoever sends waits for the broker, and so reading does.
                if time.monotonic() > deadline:
                    raise
                self._telemetry.send_retries.inc()
                continue
            return future

    async def _watch(self) -> None:
        """Give up what has waited for too long, and say when much waits for long."""
        said = False
        while True:
            await asyncio.sleep(_LOOK_S)
            if said != (self.oldest() > _WORTH_SAYING_S):
                said = not said
                if said:
                    log.warning("brokers do not take records; trying on", waiting=len(self._waiting))
                else:
                    log.info("brokers take records again")
            limit = self._worker.delivery_timeout_s
            late = [f for f, since in self._waiting.items() if time.monotonic() - since > limit and not f.done()]
            for future in late:
                message = f"no broker took it for {limit:g} s (worker.delivery_timeout_s)"
                future.set_exception(KafkaTimeoutError(message))


def _size(record: Outgoing) -> int:
    return len(record.value or b"")


def _failed(what: str, error: BaseException) -> SendFailed:
    return SendFailed(f"{what} could not be sent: {str(error) or type(error).__name__}")
