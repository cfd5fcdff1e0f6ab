"""Takes back what has expired, once a minute, and writes it to the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.action import Action
from schemas.topics import ACTIONS
from stream.connection import client_arguments
from stream.settings import KafkaSettings

log = structlog.get_logger("sluicegate.expiry")

# Times to live are minutes at least; a minute more is what a policy's author allows for.
INTERVAL_SECONDS = 60.0


class ExpiryLoop:
    """A task of the running loop; it ends with the loop, or by ``stop``.

    What cannot be written to the audit is logged: taking a policy back must not wait for the broker.
    """

    def __init__(self, kafka: KafkaSettings, expire: Callable[[], Sequence[Action]]) -> None:
        self._kafka = kafka
        self._expire = expire
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first look is at once, for what expired while nobody ran."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End it, between two steps."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            actions = await asyncio.to_thread(self._expire)
            if actions:
                await self._publish(actions)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _publish(self, actions: Sequence[Action]) -> None:
        producer = AIOKafkaProducer(**client_arguments(self._kafka, "expiry"), acks="all")
        try:
            await producer.start()
            for action in actions:
                await producer.send_and_wait(ACTIONS.name(self._kafka.prefix), action.encode(), action.target.encode())
        except (KafkaError, OSError) as error:
            log.warning("audit not written", error=str(error), actions=[action.id for action in actions])
        finally:
            await producer.stop()
