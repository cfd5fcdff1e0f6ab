"""The live exporter: several sources, one clock, one node's seconds until it is told to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from exporter.delivery import Delivery
from exporter.flow_rows import RowBlock, join_rows
from exporter.link_block import LinkBlock
from exporter.live_source import LiveSource, SourceError, SourceState
from exporter.message_stream import MessageStream
from exporter.privileges import Privilege, keep_only, missing, remedy
from exporter.second import Second
from exporter.settings import LiveSettings
from exporter.tls_exchange import Row
from schemas.event_codec import EventMessage

_SECOND = 1_000_000_000
# Of a step back of the wall clock, a tenth is made good in the time that passes: cuts then come a little slower.
_SLEW = 10


class SteadyClock:
    """The wall clock, made never to go back; steps forward are taken at once.

    Args:
        wall: returns ns since epoch.
        steady: returns ns on a clock that never goes back.
    """

    def __init__(
        self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns
    ) -> None:  # fmt: skip
        self._wall, self._steady = wall, steady
        self._last, self._last_steady = wall(), steady()

    def __call__(self) -> int:
        """Return ns since epoch."""
        steady = self._steady()
        passed = steady - self._last_steady
        self._last_steady = steady
        self._last += max(self._wall() - self._last, passed - passed // _SLEW)
        return self._last


@dataclass
class LiveSummary:
    """What was exported.

    Attributes:
        messages: messages handed to the delivery.
        rows: rows in them, all kinds.
        lost_rows: rows shed, as the messages told.
        cut: the last second made, s since epoch.
        sources: how each source stood at the end, by name.
    """

    messages: int = 0
    rows: int = 0
    lost_rows: int = 0
    cut: int = 0
    sources: dict[str, SourceState] = field(default_factory=dict)


class NodeSeconds:
    """Sources of one node, and the messages of their seconds. All calls come from one thread.

    Args:
        sources: what is listened to.
        stream: numbers the messages.
        settings: the grace of a cut.
        clock: returns ns since epoch, never less than before.
    """

    def __init__(
        self, sources: Sequence[LiveSource], stream: MessageStream, settings: LiveSettings, clock: Callable[[], int]
    ) -> None:
        self._sources = sources
        self._stream = stream
        self._grace = settings.grace_ms * 1_000_000
        self._clock = clock
        self._cut = 0

    def open(self) -> list[EventMessage]:
        """Open every source; returns the first heartbeat.

        Raises:
            SourceError: a privilege is missing, or a source cannot begin; none is open then.
        """
        needed: set[Privilege] = set().union(*(source.needs for source in self._sources))
        lacking = missing(needed)
        if lacking:
            names = ", ".join(privilege.name for privilege in lacking)
            of = ", ".join(source.name for source in self._sources if source.needs & set(lacking))
            problem = f"{names} is missing, without which {of} cannot be exported: {remedy(lacking)}"
            raise SourceError(problem)
        try:
            for source in self._sources:
                source.open()
        except BaseException:
            self.shut()
            raise
        self.give_away()
        self._cut = self._clock() // _SECOND + 1
        return [self._stream.heartbeat(self._cut - 1)]

    def give_away(self) -> None:
        """Give away, for the calling thread, the privileges that no source needs once it is open."""
        keep_only({privilege for source in self._sources for privilege in source.keeps})

    def turn(self) -> list[EventMessage]:
        """Take in what has come, and return the messages of seconds that are over."""
        # What is over is asked before looking: a second may end while it is read what came in it, and the rest of its
        # packets still waits then.
        over = self._over()
        self._collect()
        while self.busy and over < self._cut:
            over = self._over()
            self._collect()
        out: list[EventMessage] = []
        while self._cut <= over:
            out += self._close(self._cut, heartbeat=True)
            dues = [due for source in self._sources if (due := source.next_due) is not None]
            # After a step of the clock only the seconds in which something happens are walked through.
            self._cut = max(self._cut + 1, min([*dues, over]))
        return out

    def _over(self) -> int:
        """Return the latest cut whose second is over and whose packets have come."""
        return (self._clock() - self._grace) // _SECOND

    @property
    def busy(self) -> bool:
        """Some source should be looked at again at once."""
        return any(source.busy for source in self._sources)

    def _collect(self) -> None:
        now = self._clock()
        for source in self._sources:
            source.collect(self._cut, now)

    def _close(self, cut: int, *, final: bool = False, heartbeat: bool = False) -> list[EventMessage]:
        seconds = [source.close(cut, final) for source in self._sources]
        merged, names = joined(seconds, [source.interfaces for source in self._sources])
        return list(self._stream.messages(cut, merged, names, final=final, heartbeat=heartbeat))

    def finish(self) -> list[EventMessage]:
        """End everything: what is open closes, the last message says that the end is meant."""
        self._collect()
        out = []
        over = self._clock() // _SECOND
        while self._cut <= over:
            out += self._close(self._cut)
            self._cut += 1
        return out + self._close(self._cut, final=True)

    def shut(self) -> None:
        """Let go of every source."""
        for source in self._sources:
            source.shut()

    def states(self) -> dict[str, SourceState]:
        """Return how each source stands."""
        return {source.name: source.state() for source in self._sources}


def joined(seconds: Sequence[Second], tables: Sequence[Sequence[str]]) -> tuple[Second, list[str]]:
    """Return the rows of several sources as one second, and the names that their interface columns mean.

    Args:
        seconds: one per source.
        tables: each one's names of interface numbers; the first name is empty.
    """
    if len(seconds) == 1:
        return seconds[0], list(tables[0])
    names: list[str] = []
    flows: list[RowBlock] = []
    links: list[LinkBlock] = []
    listed: dict[str, list[Row]] = {}
    for second, table in zip(seconds, tables, strict=True):
        shift = len(names)
        names += table
        if second.flows:
            flows.append(second.flows | {"interface": second.flows["interface"].astype(np.int64) + shift})
        links += [block | {"interface": block["interface"] + shift} for block in second.links]
        for kind, rows in second.listed.items():
            listed.setdefault(kind, []).extend(rows)
    counts = [(second.lost_packets, second.lost_rows, second.malformed) for second in seconds]
    lost_packets, lost_rows, malformed = (sum(column) for column in zip(*counts, strict=True))
    return Second(join_rows(flows), links, listed, lost_packets, lost_rows, malformed), names


async def run_live(
    node: NodeSeconds, delivery: Delivery, stop: asyncio.Event, settings: LiveSettings,
    progress: Callable[[LiveSummary], None] | None = None,
) -> LiveSummary:  # fmt: skip
    """Export until told to stop.

    Args:
        node: sources that are not open yet.
        delivery: opened and closed here.
        stop: set: end in order.
        settings: how often sources are looked at.
        progress: called after each turn.

    Raises:
        SourceError: a source cannot begin.
        DeliveryError: messages cannot be delivered.
    """
    summary = LiveSummary()
    loop = asyncio.get_running_loop()

    async def send(messages: Sequence[EventMessage]) -> None:
        for message in messages:
            await delivery.send(message)
            summary.messages += 1
            summary.rows += sum(message.rows(kind) for kind in message.batches)
            summary.lost_rows += message.header.lost_rows
            summary.cut = message.header.cut
        if progress is not None:
            progress(summary)

    # One thread for the sources: their work must not keep messages from leaving.
    with ThreadPoolExecutor(1, "sources") as sources:
        first = await loop.run_in_executor(sources, node.open)
        node.give_away()
        complete = False
        try:
            await delivery.open()
            try:
                await send(first)
                while not await _set_within(stop, settings.collect_ms / 1000):
                    await send(await loop.run_in_executor(sources, node.turn))
                # What came last is handed over as late as what comes at the end of any second.
                await asyncio.sleep(settings.grace_ms / 1000)
                await send(await loop.run_in_executor(sources, node.finish))
                complete = True
            finally:
                await delivery.close(complete)
        finally:
            summary.sources = node.states()
            await loop.run_in_executor(sources, node.shut)
    return summary


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
