"""Makes the claim "done up to here": outputs durable, then the snapshot durable, then acknowledged."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stream.checkpoint import Snapshot
from stream.outbox import Outbox, Pending
from stream.roles import AnyRole, Stage
from stream.settings import WorkerSettings
from stream.state_store import StateStore
from stream.telemetry import Telemetry


class Acker(Protocol):
    """What the host needs from the consumer. A token stands for one delivered message."""

    def current(self, token: Any) -> bool:
        """False for a message of an assignment that is over; it will be delivered again to its owner."""

    def ack(self, token: Any) -> None:
        """Mark as done, to be committed."""

    async def commit(self) -> None:
        """Commit everything acked."""


class CheckpointTooLarge(Exception):
    """A snapshot exceeds its limit. One line, with the remedy."""


@dataclass
class Held:
    """One partition that is ours.

    `tokens` are the messages fed and not yet acknowledged, `sends` what they caused and is not yet durable,
    `saved_offset` the next offset of the last checkpoint, `state_keys` its records on state.v1.
    """

    stage: Stage
    next_offset: int
    saved_offset: int | None
    state_keys: set[bytes]
    tokens: list[Any] = field(default_factory=list)
    sends: Pending = field(default_factory=set)
    saved_at: float = 0.0
    saving_took: float = 0.0


@dataclass(frozen=True)
class _Prepared:
    partition: int
    held: Held
    snapshot: Snapshot | None
    next_offset: int
    tokens: list[Any]
    sends: Pending


class Checkpointer:
    """Takes and publishes the checkpoints of one agent's partitions, one at a time."""

    def __init__(
        self,
        role: AnyRole,
        partitions: int,
        outbox: Outbox,
        states: StateStore,
        acker: Acker,
        worker: WorkerSettings,
        telemetry: Telemetry,
    ) -> None:
        self._role = role
        self._partitions = partitions
        self._outbox = outbox
        self._states = states
        self._acker = acker
        self._worker = worker
        self._telemetry = telemetry
        self._publishing = asyncio.Lock()

    def due(self, held: Held, now: float) -> bool:
        """The interval is over, and not so soon that saving would take more than its share of the time."""
        interval = self._worker.checkpoint_interval_s if self._role.stateful else self._worker.commit_interval_s
        return now - held.saved_at >= max(interval, held.saving_took / self._worker.checkpoint_share)

    def prepare(self, held: Mapping[int, Held], partitions: Iterable[int]) -> list[_Prepared]:
        """Take everything a checkpoint of these partitions needs, at one instant between two messages.

        Raises:
            CheckpointTooLarge: a snapshot exceeds its limit.
        """
        return [self._prepare(p, held[p]) for p in partitions if held[p].tokens]

    async def publish(self, prepared: list[_Prepared], cause: str) -> None:
        """Make prepared checkpoints durable and acknowledge their messages, in the order prepared.

        Raises:
            SendFailed: something was not durable; from there on nothing is acknowledged.
        """
        async with self._publishing:
            for item in prepared:
                started = time.monotonic()
                await self._outbox.durable(item.sends)
                self._telemetry.durable_seconds.labels(self._role.name).observe(time.monotonic() - started)
                if item.snapshot is not None:
                    item.held.state_keys = await self._states.save(item.snapshot, item.held.state_keys)
                for token in item.tokens:
                    self._acker.ack(token)
                item.held.saved_offset = item.next_offset
                item.held.saving_took = time.monotonic() - started
                self._telemetry.checkpoints.labels(self._role.name, cause).inc()
            if prepared:
                await self._acker.commit()

    def _prepare(self, partition: int, held: Held) -> _Prepared:
        started = time.monotonic()
        snapshot = None
        if self._role.stateful:
            data = held.stage.snapshot()
            if len(data) > self._worker.checkpoint_bytes:
                message = (
                    f"{self._role.name} partition {partition}: snapshot of {len(data)} bytes exceeds "
                    f"worker.checkpoint_bytes ({self._worker.checkpoint_bytes}); raise it or lower table capacities"
                )
                raise CheckpointTooLarge(message)
            snapshot = Snapshot(self._role.name, partition, self._partitions, held.next_offset, data)
            self._telemetry.snapshot_bytes.labels(self._role.name, str(partition)).set(len(data))
            self._telemetry.snapshot_seconds.labels(self._role.name).observe(time.monotonic() - started)
        tokens, held.tokens = held.tokens, []
        sends, held.sends = held.sends, set()
        held.saved_at = started
        return _Prepared(partition, held, snapshot, held.next_offset, tokens, sends)
