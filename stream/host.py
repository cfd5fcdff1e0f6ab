"""Holds the stages of one agent's partitions: feeds them, checkpoints them, takes them over and gives them up.

The rules, in the order of their importance:

- A message is acknowledged only after everything it caused is durable and, for stateful agents, after a
  snapshot that contains it is durable. So committed ≤ snapshot, and a killed worker does again, from the
  snapshot, exactly what it had not claimed: same input, same state, same bytes out.
- A partition kept through a rebalance keeps its stage; what is delivered again is skipped by offset.
- A partition taken from us is discarded, after a checkpoint while it is still ours.

Knows neither Faust nor the broker: `Acker` and `StateStore` stand between.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from detectors.snapshot import Section, SectionError
from stream.checkpointer import Acker, Checkpointer, Held
from stream.deadletters import DeadLetterLimit, dead_letter, printable
from stream.outbox import Outbox
from stream.records import Incoming, Outgoing
from stream.roles import AnyRole, Stage, Undecodable
from stream.settings import WorkerSettings
from stream.state_store import Restored, StateStore
from stream.telemetry import Telemetry

log = structlog.get_logger("stream.host")

# A record and the token that acknowledges it.
Delivered = tuple[Incoming, Any]


@dataclass(frozen=True)
class Takeover:
    """An assigned partition: its group's committed offset (None: never), first offset kept, end offset."""

    committed: int | None
    begin: int
    end: int

    @property
    def start(self) -> int:
        """Where reading begins. An offset beyond the end belongs to a topic that was deleted and made again."""
        return self.begin if self.committed is None or self.committed > self.end else self.committed

    @property
    def least(self) -> int:
        """The lowest next offset that a snapshot may have to be of use."""
        return 0 if self.committed is None or self.committed > self.end else self.committed


class RecordsMissed(Exception):
    """Records that are on the broker were not delivered; who starts again gets them. One line."""


class PartitionHost:
    """See the module. All methods run in one event loop; `handle` is called by one task."""

    def __init__(
        self,
        role: AnyRole,
        partitions: int,
        outbox: Outbox,
        states: StateStore,
        acker: Acker,
        limit: DeadLetterLimit,
        worker: WorkerSettings,
        telemetry: Telemetry,
        known: Callable[[int | None], Awaitable[None]] | None = None,
    ) -> None:
        """Hold nothing yet.

        Args:
            role: the agent.
            partitions: of its input topic.
            outbox: sends.
            states: keeps snapshots.
            acker: acknowledges.
            limit: of dead letters.
            worker: limits.
            telemetry: counts.
            known: waits until everything else is read that records appended up to a time (ms since epoch; none: up to
                now) are judged with.
        """
        self._role = role
        self._known = known
        self._partitions = partitions
        self._outbox = outbox
        self._states = states
        self._acker = acker
        self._limit = limit
        self._checkpointer = Checkpointer(role, partitions, outbox, states, acker, worker, telemetry)
        self._telemetry = telemetry
        self._held: dict[int, Held] = {}
        self._assigned = asyncio.Event()
        self._feeding = asyncio.Lock()
        self._closed = False

    @property
    def ready(self) -> bool:
        """An assignment is there and taken over (it may be empty)."""
        return self._assigned.is_set() and not self._closed

    def positions(self) -> dict[int, int]:
        """Next offset to be fed of each held partition."""
        return {p: held.next_offset for p, held in self._held.items()}

    async def handle(self, delivered: Sequence[Delivered]) -> None:
        """Feed delivered messages, in the order they came; those of one partition go to its stage together.

        Raises:
            RecordsMissed, SendFailed, TooManyDeadLetters: the process must stop; nothing was acknowledged.
        """
        while True:
            # Messages may arrive before the handler of their assignment has restored the stage.
            await self._assigned.wait()
            async with self._feeding:
                if not self._assigned.is_set():
                    continue
                by_partition: dict[int, list[Delivered]] = {}
                for record, token in delivered:
                    by_partition.setdefault(record.partition, []).append((record, token))
                for partition, own in by_partition.items():
                    held = self._held.get(partition)
                    current = [(r, t) for r, t in own if self._acker.current(t)]
                    if not self._closed and held is not None and current:
                        await self._take(held, current)
                return

    async def assigned(self, taken: dict[int, Takeover]) -> None:
        """Take over an assignment: keep what was ours without a break, restore the rest, drop what is not named.

        Raises:
            ConnectionProblem: state.v1 cannot be read.
            SendFailed: a claim, or what is announced, could not be made durable.
            StateMismatch: the state was made with another partition count.
        """
        async with self._feeding:
            started = time.monotonic()
            before = len(self._held)
            self._held = {p: held for p, held in self._held.items() if p in taken and _unbroken(held, taken[p])}
            if len(self._held) < before:
                # Stages are cycles of hundreds of megabytes, and others are about to be made.
                gc.collect()
            missing = {p: (t.least, t.end) for p, t in taken.items() if p not in self._held}
            restored: dict[int, Restored] = {}
            if missing and self._known is not None:
                await self._known(None)
            if missing and self._role.stateful:
                restored = await self._states.load(self._role.name, self._partitions, missing)
            for held in self._held.values():
                # Faust delivers again from the committed offset; those messages bring their own tokens.
                held.tokens.clear()
                held.waiting_since = None
            for partition in missing:
                held = self._open(partition, taken[partition], restored.pop(partition, None))
                self._held[partition] = held
                self._skip_to(held, partition, taken[partition].begin)
                if taken[partition].end <= held.next_offset:
                    await self._outbox.post(self._role.announce(held.stage, quiet=False), held.sends)
                    await self._outbox.durable(held.sends)
            if missing and self._role.stateful:
                self._telemetry.restore_seconds.labels(self._role.name).observe(time.monotonic() - started)
            self._telemetry.rebalances.labels(self._role.name).inc()
            self._telemetry.partitions.labels(self._role.name).set(len(self._held))
            self._assigned.set()

    async def revoked(self) -> None:
        """Everything is about to be taken away: checkpoint while it is ours, feed nothing until reassigned."""
        self._assigned.clear()
        await self._checkpoint("revoked")

    async def close(self) -> None:
        """The last checkpoint; afterwards messages are ignored (and stay unacknowledged).

        Raises:
            SendFailed: something was not durable; its input stays unacknowledged.
        """
        self._closed = True
        self._assigned.set()
        await self._checkpoint("stop")

    def abandon(self) -> None:
        """After a failure: feed nothing, claim nothing."""
        self._closed = True
        self._held.clear()
        self._assigned.set()

    async def quiet(self, ends: Mapping[int, int]) -> None:
        """Say of partitions that nothing was appended beyond these offsets for long; the stages stay as they are.

        Raises:
            SendFailed: the process must stop.
        """
        async with self._feeding:
            for partition, end in ends.items():
                held = self._held.get(partition)
                if self._closed or not self._assigned.is_set() or held is None or held.next_offset != end:
                    continue
                # Behind the rollups that went to the same partitions: the producer keeps their order.
                await self._outbox.post(self._role.announce(held.stage, quiet=True), held.sends)
                await self._outbox.durable(held.sends)

    async def checkpoint_due(self) -> None:
        """Checkpoint the partitions whose time has come; called every so often.

        Raises:
            SendFailed: the process must stop.
        """
        now = time.monotonic()
        await self._checkpoint("interval", [p for p, h in self._held.items() if self._checkpointer.due_at(h) <= now])

    def overdue(self, now: float) -> dict[int, float]:
        """How long checkpoints have been overdue, in s, by partition; only those with something to cover.

        Args:
            now: monotonic s.
        """
        waiting = {p: h for p, h in self._held.items() if h.waiting_since is not None}
        return {p: now - due for p, h in waiting.items() if (due := self._checkpointer.due_at(h)) < now}

    def oldest_uncovered(self, now: float) -> float:
        """Seconds since the oldest message that no checkpoint covers was fed; 0 where all are covered."""
        return max((now - h.waiting_since for h in self._held.values() if h.waiting_since is not None), default=0.0)

    async def _checkpoint(self, cause: str, partitions: Sequence[int] | None = None) -> None:
        chosen = list(self._held) if partitions is None else partitions
        await self._checkpointer.checkpoint(self._held_now, chosen, self._feeding, cause)

    def _held_now(self, partition: int) -> Held | None:
        return self._held.get(partition)

    async def _take(self, held: Held, delivered: Sequence[Delivered]) -> None:
        name = self._role.name
        fresh = []
        if held.waiting_since is None:
            held.waiting_since = time.monotonic()
        for record, token in delivered:
            held.tokens.append(token)
            if record.offset < held.next_offset:
                self._telemetry.messages_repeated.labels(name).inc()
                continue
            if record.offset > held.next_offset:
                await self._must_be_gone(held, record)
                self._skip_to(held, record.partition, record.offset)
            held.next_offset = record.offset + 1
            fresh.append(record)
        if not fresh:
            return
        if self._known is not None:
            await self._known(round(max(record.append_time for record in fresh) * 1000))
        with self._telemetry.process_seconds.labels(name).time():
            outgoing = await self._process(held.stage, fresh)
        await self._outbox.post(outgoing, held.sends, fresh[0].append_time)
        self._telemetry.messages.labels(name).inc(len(fresh))
        now = time.time()  # noqa: TID251 - a measurement
        for record in fresh:
            self._telemetry.append_to_fed_seconds.labels(name).observe(max(0.0, now - record.append_time))

    async def _must_be_gone(self, held: Held, record: Incoming) -> None:
        """Make sure that nothing lies between what was fed and a record: a client's mistake must not cost records.

        Raises:
            RecordsMissed: the broker has some of them.
        """
        first = await self._acker.first_at(record.partition, held.next_offset)
        if first < record.offset:
            message = (
                f"{self._role.name}: offsets {first} to {record.offset - 1} of {record.topic}-{record.partition} "
                "are on the broker and were not delivered; starting again from the last checkpoint"
            )
            raise RecordsMissed(message)

    def _skip_to(self, held: Held, partition: int, offset: int) -> None:
        """Go on at an offset; those before it will never come."""
        if offset > held.next_offset:
            name = self._role.name
            self._telemetry.offsets_missing.labels(name).inc(offset - held.next_offset)
            log.warning("offsets missing", agent=name, partition=partition, first=held.next_offset, next=offset)
            held.next_offset = offset

    async def _process(self, stage: Stage, records: Sequence[Incoming]) -> list[Outgoing]:
        words, aside, read = [], [], []
        for record in records:
            try:
                words.append(self._role.read(record))
                read.append(record)
            except Undecodable as error:
                aside.append(self._set_aside(record, "undecodable", str(error)))
        if not words:
            return aside
        try:
            return [*aside, *await self._role.process(stage, words, records[0].partition)]
        except Exception as error:
            # One crafted message must not stop detection for good: aside it goes with its neighbours, and loudly.
            log.exception(
                "engine failed on messages", agent=self._role.name, first=read[0].offset, last=read[-1].offset
            )
            text = f"engine: {type(error).__name__}: {error}"
            return [*aside, *(self._set_aside(record, "engine", text) for record in read)]

    def _set_aside(self, record: Incoming, reason: str, text: str) -> Outgoing:
        self._limit.admit(text)
        self._telemetry.dead_letters.labels(self._role.name, reason).inc()
        log.warning(
            "dead letter", agent=self._role.name, topic=record.topic, partition=record.partition,
            offset=record.offset, reason=printable(text),
        )  # fmt: skip
        return dead_letter(record, text)

    def _open(self, partition: int, taken: Takeover, restored: Restored | None) -> Held:
        name = self._role.name
        for line in restored.refused if restored else ():
            log.warning("snapshot refused", agent=name, partition=partition, reason=printable(line))
        at = restored.next_offset if restored else None
        lost = at is None and taken.committed is not None and self._role.stateful
        stage = self._role.open(partition)
        if lost:
            stage.restore({})
        elif restored is not None and at is not None:
            stage, cold = self._restore(partition, stage, dict(restored.sections))
            for section in cold:
                self._telemetry.sections_cold.labels(name, section).inc()
            if cold:
                log.warning("sections started cold", agent=name, partition=partition, sections=cold)
        outcome = "snapshot" if at is not None else "lost" if lost else "cold"
        self._telemetry.restores.labels(name, outcome).inc()
        if at is not None:
            log.info("restored", agent=name, partition=partition, next_offset=at)
        else:
            log.log(logging.WARNING if lost else logging.INFO, "started cold", agent=name, partition=partition)
        chain = self._checkpointer.chain()
        held = Held(stage, taken.start if at is None else at, taken.committed, None, chain, saved_at=time.monotonic())
        if restored is not None:
            held.owner, held.keys, held.snapshot_offset = restored.owner, restored.keys, at
        return held

    def _restore(self, partition: int, stage: Stage, sections: dict[str, Section]) -> tuple[Stage, list[str]]:
        """Restore what fits: a section that its part does not take is left out and the rest tried again."""
        refused: list[str] = []
        while True:
            try:
                cold = stage.restore(sections)
            except SectionError as error:
                if error.section not in sections:
                    raise
                log.exception("section not understood", agent=self._role.name, partition=partition)
                del sections[error.section]
                refused.append(error.section)
                stage = self._role.open(partition)
            else:
                return stage, list(dict.fromkeys([*refused, *cold]))


def _unbroken(held: Held, taken: Takeover) -> bool:
    """Nobody else has moved the partition on since our last checkpoint of it."""
    return taken.committed is None or (held.saved_offset is not None and taken.committed <= held.saved_offset)
