"""What the agent of a node tells: its audit, kept until the broker has it, and its last report."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.action import Action
from schemas.node_report import NodeReport
from schemas.topics import ACTIONS, CONTENT_TYPE_HEADER, JSON, NODE_REPORTS
from schemas.word import Word
from stream.connection import ConnectionProblem, client_arguments, unreachable
from stream.settings import KafkaSettings

log = structlog.get_logger("stream.node_voice")

_RETRY_SECONDS = 2.0
_LAST_WORDS_SECONDS = 5.0
# About 1 kB each; beyond it the oldest go, and are counted.
MAX_WAITING = 1000


class NodeVoice:
    """Sends in the order of saying, and goes on trying while the broker is away."""

    def __init__(self, kafka: KafkaSettings, key: str) -> None:
        self.dropped = 0  # actions for which there was no room while the broker was away
        self._kafka = kafka
        self._key = key.encode()
        self._actions: deque[Action] = deque()
        self._report: NodeReport | None = None
        self._more = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None

    def say(self, actions: Sequence[Action]) -> None:
        """Put actions at the end of what is to be sent."""
        for action in actions:
            if len(self._actions) >= MAX_WAITING:
                self._actions.popleft()
                self.dropped += 1
            self._actions.append(action)
            self._more.set()

    def report(self, report: NodeReport) -> None:
        """Send a report; one that was not sent yet is replaced."""
        self._report = report
        self._more.set()

    async def run(self) -> None:
        """Send until cancelled."""
        told = False
        while True:
            await self._more.wait()
            self._more.clear()
            try:
                await self._send_all()
                told = False
            except (KafkaError, OSError, ConnectionProblem) as error:
                if not told:
                    problem = error if isinstance(error, ConnectionProblem) else unreachable(self._kafka, error)
                    log.warning("audit and reports wait for the broker", error=str(problem))
                told = True
                self._more.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def close(self) -> None:
        """Send what is left, if the broker takes it within a few seconds."""
        with suppress(KafkaError, OSError, ConnectionProblem, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self._send_all()
        if self._producer is not None:
            with suppress(KafkaError, OSError):
                await self._producer.stop()

    async def _send_all(self) -> None:
        producer = await self._connected()
        while self._actions:
            action = self._actions[0]
            await self._send(producer, ACTIONS.name(self._kafka.prefix), action.target.encode(), action)
            if self._actions and self._actions[0] is action:
                self._actions.popleft()
        while self._report is not None:
            report = self._report
            await self._send(producer, NODE_REPORTS.name(self._kafka.prefix), self._key, report)
            if self._report is report:
                self._report = None

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(**client_arguments(self._kafka, "node-agent-audit"), acks="all")
            try:
                await producer.start()
            except BaseException:
                with suppress(KafkaError, OSError):
                    await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, topic: str, key: bytes, word: Word) -> None:
        await producer.send_and_wait(topic, word.encode(), key=key, headers=[(CONTENT_TYPE_HEADER, JSON)])
