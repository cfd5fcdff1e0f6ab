"""Makes the claim "done up to here": outputs durable, then the snapshot durable, then acknowledged.

The order is what makes a kill at any moment harmless: chunks, outputs, manifest, commit, and only after the
commit are records cleared that the manifest replaced. An owner whose commit is refused clears nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.state import ChunkPlace, SnapshotManifest
from stream.checkpoint import Owner, clearable, encode_manifest
from stream.outbox import Outbox, Pending
from stream.pages import Chain, Image, image_of
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

    async def commit(self) -> Collection[int]:
        """Commit everything acked; returns the partitions whose commit the group took."""

    async def first_at(self, partition: int, offset: int) -> int:
        """Return the offset of the first record that the broker has at or after an offset; there is one."""


class CheckpointTooLarge(Exception):
    """A state exceeds its limit. One line, with the remedy."""


@dataclass
class Held:
    """One partition that is ours.

    `tokens` are the messages fed and not yet acknowledged, `sends` what they caused and is not yet durable,
    `saved_offset` the next offset of the last checkpoint. `owner`, `chain` and `keys` are of agents with
    state: who we are on state.v1, what we wrote there, and every record there that is not cleared yet.
    `snapshot_offset` is where the newest snapshot on state.v1 stands, `waiting_since` when the oldest message
    that no checkpoint covers yet was fed (monotonic s; the beginning of the last checkpoint at the latest).
    """

    stage: Stage
    next_offset: int
    saved_offset: int | None
    owner: Owner | None
    chain: Chain
    keys: set[bytes] = field(default_factory=set)
    snapshot_offset: int | None = None
    tokens: list[Any] = field(default_factory=list)
    sends: Pending = field(default_factory=set)
    saved_at: float = 0.0
    saving_took: float = 0.0
    waiting_since: float | None = None


@dataclass
class _Captured:
    partition: int
    held: Held
    started: float
    next_offset: int
    tokens: list[Any]
    sends: Pending
    chunks: Pending = field(default_factory=set)
    manifest: SnapshotManifest | None = None
    image: Image | None = None


# What may be done of a snapshot before whatever waits has its turn: less than an alert's share of its time, and enough
# that a busy worker, which feeds for longer in each turn, is done within seconds.
_WORK_S = 0.02

# Looks up a partition; None once it is no longer ours.
Lookup = Callable[[int], Held | None]


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

    def due_at(self, held: Held) -> float:
        """When the interval is over, and not so soon that saving would take more than its share of the time."""
        interval = self._worker.checkpoint_interval_s if self._role.stateful else self._worker.commit_interval_s
        return held.saved_at + max(interval, held.saving_took / self._worker.checkpoint_share)

    def chain(self) -> Chain:
        """What a new owner of a partition has written: nothing."""
        return Chain(self._worker.checkpoint_chain)

    async def checkpoint(self, lookup: Lookup, partitions: Iterable[int], feeding: asyncio.Lock, cause: str) -> None:
        """Checkpoint partitions one after another; feeding stops only while the state of one is copied.

        Raises:
            CheckpointTooLarge: a state exceeds its limit.
            SendFailed: something was not durable; from there on nothing is acknowledged.
        """
        async with self._publishing:
            published = []
            for partition in partitions:
                async with feeding:
                    held = lookup(partition)
                    captured = self._capture(partition, held) if held is not None and held.tokens else None
                if captured is not None:
                    await self._write(captured)
                    await self._publish(captured)
                    self._telemetry.checkpoints.labels(self._role.name, cause).inc()
                    published.append(captured)
            if published:
                taken = await self._acker.commit()
                for captured in published:
                    if captured.partition in taken:
                        await self._clear(captured)

    def _capture(self, partition: int, held: Held) -> _Captured:
        """Take everything a checkpoint needs, at one instant between two messages."""
        started = time.monotonic()
        captured = _Captured(partition, held, started, held.next_offset, held.tokens, held.sends)
        held.tokens, held.sends, held.saved_at = [], set(), started
        # Where nothing new was fed the snapshot is there already. A second one at the same offset would let a
        # former owner, who keeps its chain while nobody has committed past it, find that chain cleared.
        if held.owner is not None and held.snapshot_offset != held.next_offset:
            image = image_of(held.stage.snapshot())
            if image.size > self._worker.checkpoint_bytes:
                message = (
                    f"{self._role.name} partition {partition}: state of {image.size} bytes exceeds "
                    f"worker.checkpoint_bytes ({self._worker.checkpoint_bytes}); raise it or lower table capacities"
                )
                raise CheckpointTooLarge(message)
            captured.image = image.copied()
            self._telemetry.snapshot_seconds.labels(self._role.name).observe(time.monotonic() - started)
        return captured

    async def _write(self, captured: _Captured) -> None:
        """Hand the copied state to the broker, while the stage goes on."""
        held, name, image = captured.held, self._role.name, captured.image
        if held.owner is None or image is None:
            return
        captured.image = None
        owner, at, chain = held.owner, captured.next_offset, held.chain
        index = []
        async for place, chunk in _in_between(chain.write(image, at)):
            await self._post(captured, owner, owner.chunk_key(place), chunk)
        async for place, chunk in _in_between(chain.index(image, at)):
            index.append(place)
            await self._post(captured, owner, owner.chunk_key(place), chunk)
        captured.manifest = SnapshotManifest(
            agent=owner.agent, partition=owner.partition, partitions=self._partitions, epoch=owner.epoch,
            next_offset=at, size=image.size, page=chain.page, sections=image.sections,
            chunks=tuple(chain.chunks.values()), index=tuple(index),
        )  # fmt: skip
        for gauge, value in (
            (self._telemetry.state_bytes, image.size),
            (self._telemetry.state_stored_bytes, chain.stored),
            (self._telemetry.checkpoint_chain, chain.length),
        ):
            gauge.labels(name, str(captured.partition)).set(value)

    async def _post(self, captured: _Captured, owner: Owner, key: bytes, value: bytes) -> None:
        await self._states.post(owner, key, value, captured.chunks)
        captured.held.keys.add(key)
        self._telemetry.checkpoint_bytes.labels(self._role.name).inc(len(value))

    async def _publish(self, captured: _Captured) -> None:
        held, name = captured.held, self._role.name
        waiting = time.monotonic()
        await self._outbox.durable(captured.sends)
        self._telemetry.durable_seconds.labels(name).observe(time.monotonic() - waiting)
        if captured.manifest is not None and held.owner is not None:
            # The manifest is the claim that everything before it is durable.
            await self._outbox.durable(captured.chunks)
            key = held.owner.manifest_key(captured.next_offset)
            await self._post(captured, held.owner, key, encode_manifest(captured.manifest))
            await self._outbox.durable(captured.chunks)
            held.snapshot_offset = captured.next_offset
        for token in captured.tokens:
            self._acker.ack(token)
        held.saved_offset = captured.next_offset
        held.waiting_since = captured.started if held.tokens else None
        held.saving_took = time.monotonic() - captured.started
        self._telemetry.checkpoint_seconds.labels(name).observe(held.saving_took)

    async def _clear(self, captured: _Captured) -> None:
        held, owner, manifest = captured.held, captured.held.owner, captured.manifest
        if owner is None or manifest is None:
            return
        needed = {owner.chunk_key(place) for place in (*manifest.chunks, *manifest.index)}
        needed.add(owner.manifest_key(manifest.next_offset))
        cleared = clearable(held.keys, owner.epoch, needed)
        pending: Pending = set()
        for key in cleared:
            await self._states.post(owner, key, None, pending)
        held.keys.difference_update(cleared)


async def _in_between(chunks: Iterator[tuple[ChunkPlace, bytes]]) -> AsyncIterator[tuple[ChunkPlace, bytes]]:
    """Make chunks, and leave room for everything else after every 20 ms of that: feeding goes on meanwhile.

    Not in a thread: it would wait for the interpreter's lock, 5 ms beside a busy engine, after each page's digest.
    """
    rested = time.monotonic()
    for made in chunks:
        yield made
        if time.monotonic() - rested > _WORK_S:
            await asyncio.sleep(0)
            rested = time.monotonic()
