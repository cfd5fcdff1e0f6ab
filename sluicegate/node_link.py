"""The responder's way to the agents of nodes: commands out, reports back, over the broker, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from response.gateway import ClusterError, Gateway
from response.node.commands import IssuedCommands
from response.node.gateway import NodeGateway
from response.node.settings import NodeStepSettings
from response.signing import load_signer
from schemas.node_command import NodeCommand
from schemas.node_report import NodeReport
from schemas.topics import CONTENT_TYPE_HEADER, JSON, NODE_COMMANDS, NODE_REPORTS
from schemas.word import WordError
from sluicegate.problems import CommandProblem
from stream.connection import ConnectionProblem, client_arguments, unreachable
from stream.deadletters import printable
from stream.settings import KafkaSettings

log = structlog.get_logger("sluicegate.node_link")

_POLL_MS = 200
_RETRY_SECONDS = 2.0
_OPEN_SECONDS = 120.0
# A node reports what it was told lately in each report; more are not waited for.
_ANSWERS = 10_000


def reach_nodes(
    gateway: Gateway, kafka: KafkaSettings, steps: NodeStepSettings, cluster: str, fence: Callable[[], None]
) -> tuple[Gateway, Callable[[], None]]:
    """A gateway that also commands nodes, where the settings say so, and what ends its connections.

    Raises:
        CommandProblem, KeyFileError, ConnectionProblem: the key or the broker cannot be used.
    """
    if not steps.enabled:
        return gateway, lambda: None
    if steps.private_key_file is None or not steps.key_id:
        message = "response.node_steps.enabled needs private_key_file and key_id: nodes obey signed commands only"
        raise CommandProblem(message)
    signer = load_signer(steps.private_key_file, steps.key_id)
    issued = IssuedCommands()
    link = KafkaNodeLink(kafka, cluster, steps.answer_s)
    link.open(lambda command: issued.remember(command, signer))
    log.info("nodes are commanded", key=signer.key_id)
    return NodeGateway(gateway, link, signer, issued, cluster, _now, fence), link.close


def _now() -> float:
    return time.time()  # noqa: TID251 - when a command is issued, and until when it holds


class KafkaNodeLink:
    """Sends commands and waits for answers; `open` comes first. See `response.node.gateway.NodeLink`."""

    def __init__(self, kafka: KafkaSettings, cluster: str, answer_s: float) -> None:
        self._kafka = kafka
        self._cluster = cluster
        self._answer_s = answer_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="node-link", daemon=True)
        self._producer: AIOKafkaProducer | None = None
        self._following: asyncio.Task[None] | None = None
        # By command id: none where it was obeyed, else the reason and the sentence of the node.
        self._answers: dict[str, tuple[str, str] | None] = {}
        self._order: deque[str] = deque()
        self._news = threading.Condition()

    def open(self, told: Callable[[NodeCommand], None]) -> None:
        """Connect, give every command that is on the topic to `told`, and follow reports from now on.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        self._thread.start()
        try:
            self._call(self._open(told), _OPEN_SECONDS)
        except ClusterError as error:
            raise ConnectionProblem(str(error)) from None

    def close(self) -> None:
        """Disconnect."""
        with suppress(ClusterError):
            self._call(self._close(), 10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self._loop.close()

    def send(self, command: NodeCommand) -> None:
        """Make a command durable on nodecommands.v1. Raises ClusterError."""
        self._call(self._send(command), self._kafka.request_timeout_s + 5)

    def wait_until_set(self, command: NodeCommand) -> None:
        """Return once the node reports that it obeyed; raise ClusterError where it does not, or says nothing."""
        deadline = time.monotonic() + self._answer_s
        with self._news:
            while command.id not in self._answers:
                left = deadline - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    message = f"the agent of node {command.node} did not answer within {self._answer_s:g} s"
                    raise ClusterError(message, "no_answer")
            answer = self._answers[command.id]
        if answer is not None:
            message = f"the agent of node {command.node} does not obey: {answer[1] or answer[0]}"
            raise ClusterError(message, answer[0])

    def _call(self, work: Coroutine[Any, Any, None], seconds: float) -> None:
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)
        except (KafkaError, OSError, TimeoutError) as error:
            raise ClusterError(str(unreachable(self._kafka, error)), "no_broker") from None

    async def _open(self, told: Callable[[NodeCommand], None]) -> None:
        await self._read_commands(told)
        producer = AIOKafkaProducer(**client_arguments(self._kafka, "node-link"), acks="all", enable_idempotence=True)
        await producer.start()
        self._producer = producer
        reader = await self._reports()
        self._following = asyncio.create_task(self._follow(reader))

    async def _close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        if self._producer is not None:
            await self._producer.stop()

    async def _send(self, command: NodeCommand) -> None:
        if self._producer is None:
            message = "open() comes before send()"
            raise ConnectionProblem(message)
        topic, key = NODE_COMMANDS.name(self._kafka.prefix), f"{command.cluster}/{command.node}".encode()
        await self._producer.send_and_wait(topic, command.encode(), key=key, headers=[(CONTENT_TYPE_HEADER, JSON)])

    async def _read_commands(self, told: Callable[[NodeCommand], None]) -> None:
        """Everything on nodecommands.v1 about this cluster, in its order."""
        place = TopicPartition(NODE_COMMANDS.name(self._kafka.prefix), 0)
        reader = AIOKafkaConsumer(
            **client_arguments(self._kafka, "node-link"), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await reader.start()
            reader.assign([place])
            end = (await reader.end_offsets([place]))[place]
            while await reader.position(place) < end:
                for record in (await reader.getmany(place, timeout_ms=_POLL_MS)).get(place, []):
                    try:
                        command = NodeCommand.decode(record.value or b"")
                    except WordError as error:
                        log.warning("command passed over", offset=record.offset, reason=printable(str(error)))
                        continue
                    if command.cluster == self._cluster:
                        told(command)
        finally:
            await reader.stop()

    async def _reports(self) -> AIOKafkaConsumer:
        reader = AIOKafkaConsumer(
            **client_arguments(self._kafka, "node-reports"), enable_auto_commit=False, auto_offset_reset="latest"
        )
        place = TopicPartition(NODE_REPORTS.name(self._kafka.prefix), 0)
        await reader.start()
        reader.assign([place])
        # The place to begin is asked for now: an answer that comes before the first poll must not be missed.
        await reader.position(place)
        return reader

    async def _follow(self, reader: AIOKafkaConsumer) -> None:
        try:
            while True:
                try:
                    batches = await reader.getmany(timeout_ms=_POLL_MS)
                except KafkaError as error:
                    log.warning("reports of nodes cannot be followed", error=str(error), retry_s=_RETRY_SECONDS)
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                for records in batches.values():
                    for record in records:
                        self._take(record.value or b"")
        finally:
            await reader.stop()

    def _take(self, value: bytes) -> None:
        try:
            report = NodeReport.decode(value)
        except WordError as error:
            log.warning("report passed over", reason=printable(str(error)))
            return
        if report.cluster != self._cluster:
            return
        with self._news:
            failing = (report.reason, report.message) if report.state != "enforcing" else None
            for name in report.obeyed:
                self._answer(name, failing)
            for refusal in report.refused:
                self._answer(refusal.command_id, (refusal.reason, ""))
            self._news.notify_all()

    def _answer(self, command_id: str, answer: tuple[str, str] | None) -> None:
        """Note the first answer to a command: whoever says the command again gets a refusal, which is none."""
        if command_id in self._answers:
            return
        self._answers[command_id] = answer
        self._order.append(command_id)
        if len(self._order) > _ANSWERS:
            self._answers.pop(self._order.popleft(), None)
