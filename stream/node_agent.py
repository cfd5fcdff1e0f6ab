"""The agent of a node between the broker and the kernel: commands in, audit and reports out.

What is in the kernel stays there whatever happens to this process or to the broker; both are only needed for change.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from response.guard import Refusal
from response.node.audit import told_by_node, told_of_capture, told_of_expiry
from response.node.captured import Captured
from response.node.enforcer import Judged, NodeEnforcer
from response.node.facts import NodeFacts
from response.node.kernel_tools import ToolError
from response.node.place import interface_of
from schemas.action import Outcome
from schemas.node_command import NodeCommand
from schemas.topics import NODE_COMMANDS
from stream.connection import ConnectionProblem, client_arguments, group_name, unreachable
from stream.deadletters import printable
from stream.node_captures import NodeCaptures
from stream.node_voice import NodeVoice
from stream.settings import KafkaSettings

log = structlog.get_logger("stream.node_agent")

_RETRY_SECONDS = 2.0
_POLL_MS = 500
_SET = Refusal("set", "the kernel drops it")
_CAPTURING = Refusal("capturing", "packets are written down; what comes of it is told")
_LIFTED = Refusal("command", "taken back by the responder")


@dataclass(frozen=True, slots=True)
class NodeName:
    """Which node of which cluster."""

    cluster: str
    node: str


@dataclass(slots=True)
class AgentCounts:
    """What the agent did with commands since it started, by outcome and reason, and audits it did not write."""

    commands: dict[tuple[str, str], int] = field(default_factory=dict)
    untold: int = 0


class NodeAgent:
    """Runs one enforcer. Its calls block for milliseconds, so they are made in a thread, one at a time.

    Args:
        kafka: the broker.
        name: this node.
        enforcer: of its tables.
        locate: finds the interface of a pod's address. May raise ToolError.
        facts: looks at the node: its addresses, and what carries packets past the tables. May raise ToolError.
        never: texts of further addresses that nothing may touch.
        clock: returns s since epoch.
    """

    def __init__(
        self, kafka: KafkaSettings, name: NodeName, enforcer: NodeEnforcer, facts: Callable[[], NodeFacts],
        never: Sequence[str], clock: Callable[[], float], locate: Callable[[str], str] = interface_of,
    ) -> None:  # fmt: skip
        self.enforcer = enforcer
        self.counts = AgentCounts()
        self.synced = False
        self._kafka = kafka
        self._name = name
        self._facts = facts
        self._never = tuple(never)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._place = TopicPartition(NODE_COMMANDS.name(kafka.prefix), 0)
        self._captures = NodeCaptures(enforcer.bounds.settings, locate, self._tell_capture)
        self._voice = NodeVoice(kafka, f"{name.cluster}/{name.node}")
        self._told: deque[float] = deque()
        self._next = 0

    def problems(self) -> list[str]:
        """Why the node does not enforce what it is told, one line each."""
        lines = [] if self.synced else ["the commands on the broker are not read yet"]
        problem = self.enforcer.problem
        return lines if problem is None else [*lines, f"{problem.reason}: {problem.message}"]

    async def run(self, stop: asyncio.Event) -> None:
        """Run until told to stop; what is in the kernel is left as it is."""
        await self._look()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work()) for work in (self._follow_always, self._look_always, self._voice.run)]
            await stop.wait()
            for task in running:
                task.cancel()
        await self._captures.close()
        await self._voice.close()

    async def _look_always(self) -> None:
        while True:
            await asyncio.sleep(self.enforcer.bounds.settings.interval_s)
            await self._look()

    async def _look(self) -> None:
        """Look at the node, mend the tables, and report."""
        async with self._lock:
            await asyncio.to_thread(self._learn)
            await self._settle(())

    def _learn(self) -> None:
        try:
            facts = self._facts()
        except ToolError as error:
            # Addresses of before are still the node's; a bypass that cannot be seen is none that is known.
            log.warning("the node cannot be looked at", reason=error.reason, error=str(error))
            return
        self.enforcer.bounds = self.enforcer.bounds.with_addresses((*facts.addresses, *self._never))
        ignored = self.enforcer.bounds.settings.bypass == "ignore"
        self.enforcer.bypass = None if ignored else facts.bypass

    async def _settle(self, judged: Sequence[Judged]) -> None:
        """Make the tables follow what was read, and tell what came of it."""
        now = self._clock()
        before = self.enforcer.problem
        settled = await asyncio.to_thread(self.enforcer.settle, now)
        if settled.problem != before:
            _log_change(settled.problem)
        for item in judged:
            self._tell(item, settled.problem, now)
            if item.refusal is None and settled.problem is None and item.command is not None:
                self._begin_or_end(item.command)
        name = self._name
        self._voice.say(
            [told_of_expiry(one, count, now, name.cluster, name.node) for one, count in settled.expired.items()]
        )
        self._voice.report(self.enforcer.report(now))

    def _begin_or_end(self, command: NodeCommand) -> None:
        """The captures of a command; those of one that was taken back stop with what they have."""
        if command.verb == "lift":
            self._captures.stop(command.response_id)
        else:
            self._captures.start(command)

    def _tell_capture(self, command: NodeCommand, address: str, found: Captured | Refusal) -> None:
        name = self._name
        self._voice.say([told_of_capture(command, address, found, self._clock(), name.cluster, name.node)])

    def _tell(self, judged: Judged, problem: Refusal | None, now: float) -> None:
        command, refusal = judged.command, judged.refusal
        outcome: Outcome
        if refusal is not None:
            outcome, why = "node_refused", refusal
        elif problem is not None:
            outcome, why = "node_failed", problem
        else:
            set_by = _CAPTURING if command is not None and command.captures else _SET
            outcome, why = ("node_lifted", _LIFTED) if _lifts(command) else ("node_set", set_by)
        self.counts.commands[outcome, why.reason] = self.counts.commands.get((outcome, why.reason), 0) + 1
        log.info("command", outcome=outcome, reason=why.reason, command=printable(command.id if command else ""))
        if outcome == "node_refused" and not self._admit(now):
            self.counts.untold += 1
            return
        why = Refusal(why.reason, printable(why.message))
        self._voice.say([told_by_node(command, outcome, why, now, self._name.cluster, self._name.node)])

    def _admit(self, now: float) -> bool:
        """Whether one more refusal may be told within this minute: whoever can write to the topic could send many."""
        while self._told and self._told[0] <= now - 60:
            self._told.popleft()
        if len(self._told) >= self.enforcer.bounds.settings.refusals_per_minute:
            return False
        self._told.append(now)
        return True

    async def _follow_always(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, ConnectionProblem) as error:
                problem = error if isinstance(error, ConnectionProblem) else unreachable(self._kafka, error)
                log.warning("commands cannot be followed", error=str(problem), retry_s=_RETRY_SECONDS)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        """Read the topic from where this process is, to its end at first, then as commands come."""
        reader = AIOKafkaConsumer(
            **client_arguments(self._kafka, "node-agent"), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        # Remembers how far commands were told of, so that a restart does not tell of them again. It joins nothing.
        group = group_name(self._kafka.prefix, f"node-agent-{self._name.cluster}-{self._name.node}")
        marker = AIOKafkaConsumer(
            **client_arguments(self._kafka, "node-agent-marker"), group_id=group, enable_auto_commit=False
        )
        try:
            await reader.start()
            await marker.start()
            for consumer in (reader, marker):
                consumer.assign([self._place])
            end = (await reader.end_offsets([self._place]))[self._place]
            if self._next > end:
                # Another topic of this name: nothing of it was read.
                self._next = 0
            known = await marker.committed(self._place) or 0
            known = known if known <= end else 0
            await self._catch_up(reader, known, end)
            while True:
                batch = await reader.getmany(self._place, timeout_ms=_POLL_MS)
                if records := batch.get(self._place):
                    await self._take(records, known)
                if self._next > known:
                    await marker.commit({self._place: self._next})
                    known = self._next
        finally:
            for consumer in (reader, marker):
                with suppress(KafkaError, OSError):
                    await consumer.stop()

    async def _catch_up(self, reader: AIOKafkaConsumer, known: int, end: int) -> None:
        """Read what is there before anything is changed: a later command may take back an earlier one."""
        records: list[ConsumerRecord] = []
        while await reader.position(self._place) < end:
            batch = await reader.getmany(self._place, timeout_ms=_POLL_MS)
            records += batch.get(self._place, [])
        await self._take(records, known)
        if not self.synced:
            log.info("commands read", records=len(records))
        self.synced = True

    async def _take(self, records: Sequence[ConsumerRecord], known: int) -> None:
        async with self._lock:
            fresh: list[Judged] = []
            for record in records:
                if record.offset < self._next:
                    # A new connection begins at the beginning again.
                    continue
                judged = self.enforcer.read(record.value or b"", self._clock(), known=record.offset < known)
                self._next = record.offset + 1
                if judged.ours and record.offset >= known:
                    fresh.append(judged)
            await self._settle(fresh)


def _lifts(command: NodeCommand | None) -> bool:
    return command is not None and command.verb == "lift"


def _log_change(problem: Refusal | None) -> None:
    if problem is None:
        log.info("the tables are as they should be")
    else:
        log.warning("the tables are not as they should be", reason=problem.reason, error=problem.message)
