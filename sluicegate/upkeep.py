"""Looks after containments: every so often, and at once when something in the cluster changes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from response.gateway import ClusterError
from schemas.action import Action
from schemas.alert import Alert
from schemas.topics import ACTIONS, ALERTS
from stream.connection import client_arguments
from stream.settings import KafkaSettings

log = structlog.get_logger("sluicegate.upkeep")

# Changes come in bursts (a rollout, our own steps): one look for all of them.
_SETTLE_SECONDS = 0.3
_RETRY_SECONDS = 5.0
# Steps kept while the broker is away; taking a policy back must not wait for it.
MAX_UNWRITTEN = 10_000


class UpkeepLoop:
    """A task of the running loop; it ends with the loop, or by ``stop``."""

    def __init__(
        self,
        kafka: KafkaSettings,
        look: Callable[[], Sequence[Action]],
        interval_s: float,
        unfinished: Callable[[], bool] = lambda: False,
        due_s: Callable[[], float] = lambda: inf,
        alert_of: Callable[[Action], Alert | None] = lambda _action: None,
    ) -> None:
        """Take what looks.

        Args:
            kafka: where steps and alerts go.
            look: one look at everything; it may block, and runs in a thread.
            interval_s: between two looks without any news.
            unfinished: whether the last look left something for the next, which then comes at once.
            due_s: in how many s something is due that a look must find, were it earlier.
            alert_of: the alert that a step is worth beside the audit, or none; it may be sent more than once.
        """
        self._due_s = due_s
        self._alert_of = alert_of
        self._kafka = kafka
        self._look = look
        self._unfinished = unfinished
        self._interval_s = interval_s
        self._unwritten: deque[Action] = deque(maxlen=MAX_UNWRITTEN)
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def start(self) -> None:
        """Begin; the first look is at once, for what happened while nobody ran."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    def wake(self) -> None:
        """Look soon; from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and the process is about to
                self._loop.call_soon_threadsafe(self._news.set)

    async def stop(self) -> None:
        """End it, between two steps."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            self._news.clear()
            self._unwritten.extend(await asyncio.to_thread(self._look))
            if self._unwritten:
                await self._publish()
            if self._unfinished():
                continue
            pause = min(self._interval_s, max(_SETTLE_SECONDS, self._due_s()))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), pause)
                await asyncio.sleep(min(_SETTLE_SECONDS, self._interval_s))

    async def _publish(self) -> None:
        producer = AIOKafkaProducer(**client_arguments(self._kafka, "upkeep"), acks="all")
        try:
            await producer.start()
            while self._unwritten:
                action = self._unwritten[0]
                alert = self._alert_of(action)
                if alert is not None:
                    # Before the step: whoever repeats the step repeats the alert, and its id tells that it is the same.
                    await self._send_alert(producer, alert)
                await producer.send_and_wait(ACTIONS.name(self._kafka.prefix), action.encode(), action.target.encode())
                self._unwritten.popleft()
        except (KafkaError, OSError) as error:
            log.warning("audit not written yet", error=str(error), steps=len(self._unwritten))
        finally:
            await producer.stop()

    async def _send_alert(self, producer: AIOKafkaProducer, alert: Alert) -> None:
        name = ALERTS.name(self._kafka.prefix)
        try:
            await producer.send_and_wait(name, alert.encode(), alert.subject.encode())
        except TopicAuthorizationFailedError:
            # The audit does not wait for a right that nobody may ever give.
            log.error("alert not written: grant the responder to write", topic=name, alert=alert.explanation)


def follow(name: str, changes: Callable[[], Iterator[None]], wake: Callable[[], None]) -> threading.Event:
    """Wake the upkeep at every change, from a thread that ends with the process or after the event is set.

    A watch that breaks off has missed something: it wakes, too, and a new one begins.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            try:
                for _ in changes():
                    wake()
            except ClusterError as error:
                log.warning("watch lost", kind=name, error=str(error), retry_s=_RETRY_SECONDS)
            ended.wait(_RETRY_SECONDS)
            wake()

    threading.Thread(target=watch, name=f"watch-{name}", daemon=True).start()
    return ended
