"""One Faust application per agent; its settings and its life.

With one application (and so one consumer group) each, agents rebalance, commit and fail apart, two of
them may read the same topic, and an operator can run them in different processes. Settings are those that
survive: raw bytes, no tables, no declared topics, no leader topic, no web server, manual acknowledgement.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from stream.connection import CLIENT_NAME, ConnectionProblem, group_name, password, tls_context, unreachable
from stream.faust_consumer import StreamApp
from stream.host import Delivered, PartitionHost, Takeover
from stream.offset_view import OffsetView
from stream.records import Incoming
from stream.settings import KafkaSettings, StreamSettings, WorkerSettings

log = structlog.get_logger("stream.faust_shell")

# We commit at checkpoints ourselves; Faust's own timer would only wake up for nothing.
_NEVER_S = 3600.0
# Brokers that are away for longer than this end a worker that is being given partitions: a fresh one may know more.
_OUTAGE_S = 300.0
_FaustMessage = Any


class FaustShell:
    """One agent running in Faust. `failed` is called once, with what the process must end for."""

    def __init__(
        self,
        name: str,
        topic: str,
        partitions: int,
        settings: StreamSettings,
        offsets: OffsetView,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.name = name
        self.topic = topic
        self.group = group_name(settings.kafka.prefix, name)
        self.partitions = partitions
        self.host: PartitionHost | None = None
        self._settings = settings
        self._offsets = offsets
        self._failed = failed
        self._over = False
        self._app = _make_app(self.group, name, settings.kafka, settings.worker)
        self._closing = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        self._saying: asyncio.Task[None] | None = None

    # --- Acker ---

    def current(self, token: _FaustMessage) -> bool:
        """See `stream.checkpointer.Acker`."""
        return bool(token.generation_id == self._app.consumer_generation_id)

    def ack(self, token: _FaustMessage) -> None:
        """See `stream.checkpointer.Acker`."""
        self._app.consumer.ack(token)

    async def commit(self) -> set[int]:
        """See `stream.checkpointer.Acker`."""
        consumer = self._app.consumer
        ours = {tp.partition for tp in consumer.assignment() if tp.topic == self.topic}
        # False where the group has moved on without us: nothing was committed, and nothing is ours any more.
        return ours if await consumer.force_commit() else set()

    async def first_at(self, partition: int, offset: int) -> int:
        """See `stream.checkpointer.Acker`."""
        return await self._offsets.first_at(self.topic, partition, offset)

    # --- life ---

    async def start(self, host: PartitionHost) -> None:
        """Subscribe and begin to feed the host."""
        self.host = host
        app = self._app
        most, linger = self._settings.worker.feed_messages, self._settings.worker.feed_linger_s
        topic = app.topic(self.topic, key_serializer="raw", value_serializer="raw", internal=False, allow_empty=True)

        async def run(stream: Any) -> None:
            waiting: list[Delivered] = []
            lingered, took = False, 0.0
            async for event in stream.noack().events():
                waiting.append((_incoming(event.message), event.message))
                # What comes together is fed together: the engine's cost is per call more than per row. Without
                # lingering Faust hands messages over one by one, however many the client has fetched. To wait for as
                # long as the last call took at most doubles a delay, and halves what calls cost where they are many.
                if len(waiting) < most and not lingered and stream.channel.queue.empty():
                    lingered = True
                    await asyncio.sleep(min(linger, took))
                if len(waiting) < most and not stream.channel.queue.empty():
                    continue
                began = time.monotonic()
                await self._guard(host.handle, waiting)
                waiting, lingered, took = [], False, time.monotonic() - began

        app.agent(topic, name=self.name, concurrency=1)(run)

        async def on_assigned(_app: Any, assigned: set[TP], **_: Any) -> None:
            await self._guard(self._take_over, assigned)

        async def on_revoked(_app: Any, _revoked: set[TP], **_: Any) -> None:
            # Also where nothing was ours: Faust then reads on, and what it reads of a partition that we are about to
            # get must wait for the takeover.
            await self._guard(host.revoked)

        app.on_partitions_assigned.connect(on_assigned)
        app.on_partitions_revoked.connect(on_revoked)
        # Signals keep weak references; the shell keeps the handlers alive.
        self._handlers = (run, on_assigned, on_revoked)
        app.finalize()
        app.in_worker = True
        try:
            await app.start()
        except (KafkaError, OSError) as error:
            raise unreachable(self._settings.kafka, error) from None
        self._ticker = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Last checkpoint and commit, while still a member of the group."""
        # Not cancelled: half a checkpoint would leave pages that the next one takes for written.
        self._closing.set()
        for task in (self._ticker, self._saying):
            if task is not None:
                await asyncio.gather(task, return_exceptions=True)
        if self.host is not None and not self._over:
            await self._guard(self.host.close)

    def quiet(self, ends: Mapping[int, int]) -> None:
        """See `stream.host.PartitionHost.quiet`; goes on by itself: a stage that hangs must not hang who watches it."""
        if ends and self.host is not None and (self._saying is None or self._saying.done()):
            self._saying = asyncio.create_task(self._guard(self.host.quiet, ends))

    async def stop(self) -> None:
        """Leave the group."""
        await self._app.stop()

    async def _take_over(self, assigned: set[TP]) -> None:
        """Take an assignment over; while brokers are away, try again until they answer.

        Nothing is fed meanwhile, and the group's heartbeats go on by themselves.
        """
        deadline = asyncio.get_running_loop().time() + _OUTAGE_S
        while not self._over:
            try:
                return await self._try_take_over(assigned)
            except ConnectionProblem as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                log.warning("takeover waits for the broker", agent=self.name, error=str(error))
                await asyncio.sleep(1.0)
        return None

    async def _try_take_over(self, assigned: set[TP]) -> None:
        mine = sorted(tp.partition for tp in assigned if tp.topic == self.topic)
        taken: dict[int, Takeover] = {}
        if mine:
            committed = await self._offsets.committed(self.group, self.topic, mine)
            begins, ends = await self._offsets.spans(self.topic, mine)
            taken = {p: Takeover(committed[p], begins[p], ends[p]) for p in mine}
        assert self.host is not None  # noqa: S101 - Faust calls this only after start
        await self.host.assigned(taken)
        log.info("assigned", agent=self.name, partitions=mine)

    async def _tick(self) -> None:
        interval = min(1.0, self._settings.worker.commit_interval_s, self._settings.worker.checkpoint_interval_s)
        while not self._over and not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), interval)
            if self.host is not None:
                await self._guard(self.host.checkpoint_due)
            if self._app.crashed:
                self._end(self._app.crash_reason or RuntimeError("Faust stopped"))

    async def _guard(self, call: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Run a step; any failure ends the process instead of Faust's acknowledging and going on."""
        if self._over:
            return
        try:
            await call(*arguments)
        except Exception as error:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        self._over = True
        if self.host is not None:
            self.host.abandon()
        self._failed(error)


def _incoming(message: _FaustMessage) -> Incoming:
    record = Incoming(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value,
        tuple(message.headers or ()),
        message.timestamp or 0.0,
    )
    # Unacknowledged messages are kept until the next checkpoint; without this they would keep every batch.
    message.value = None
    return record


def _make_app(group: str, name: str, kafka: KafkaSettings, worker: WorkerSettings) -> StreamApp:
    arguments: dict[str, Any] = {}
    if kafka.security.startswith("sasl"):
        arguments["broker_credentials"] = faust.SASLCredentials(
            username=kafka.sasl_username,
            password=password(kafka),
            mechanism=kafka.sasl_mechanism,
            ssl_context=tls_context(kafka),
        )
    elif kafka.security == "tls":
        arguments["broker_credentials"] = faust.SSLCredentials(tls_context(kafka))
    if worker.instance:
        arguments["consumer_group_instance_id"] = f"{worker.instance}-{name}"
    app = StreamApp(
        group,
        broker=";".join(f"kafka://{server}" for server in kafka.bootstrap.split(",")),
        broker_client_id=f"{CLIENT_NAME}-{name}",
        autodiscover=False,
        web_enabled=False,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=worker.buffer_messages,
        broker_max_poll_records=worker.poll_records,
        broker_request_timeout=kafka.request_timeout_s,
        broker_session_timeout=worker.session_timeout_s,
        broker_heartbeat_interval=worker.session_timeout_s / 4,
        broker_commit_interval=_NEVER_S,
        broker_commit_livelock_soft_timeout=_NEVER_S,
        stream_processing_timeout=_NEVER_S,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=worker.fetch_bytes,
        **arguments,
    )
    app.fetch_wait_ms = worker.fetch_wait_ms
    return app
