"""The work of ``sluicegate export`` without files: this node, live, until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import reduce
from operator import or_

import pyarrow as pa

from detectors.mixing import hash_text
from exporter.backlog import Backlog
from exporter.counted import registry_of
from exporter.delivery import Delivery, FileDelivery, KafkaDelivery
from exporter.live import LiveSummary, NodeSeconds, SteadyClock, run_live
from exporter.live_source import LiveSource
from exporter.live_sources import LIVE_SOURCES, make_sources
from exporter.message_stream import Identity, MessageStream
from exporter.settings import ExporterSettings
from exporter.telemetry import ExporterCollector
from schemas.topics import EVENTS
from sluicegate.node_settings import NodeSettings
from sluicegate.problems import CommandProblem
from sluicegate.terminal import note
from stream.connection import ConnectionProblem, client_arguments
from stream.health import HealthServer
from stream.topics_admin import check_topics

_EXPORTER = "exporter"


@dataclass(frozen=True)
class LivePlan:
    """What the command line asked for; ``node`` empty: the host's name."""

    sources: Sequence[str]
    node: str
    cluster: str
    to: str
    output: str


def run_live_export(settings: NodeSettings, plan: LivePlan) -> None:
    """Export until SIGTERM or SIGINT, and say what was sent.

    Raises:
        CommandProblem, SourceError, DeliveryError, TopicMismatch: each with its remedy.
    """
    # Arrow's own allocator keeps a tenth of the memory of this process that the system's gives back.
    pa.set_memory_pool(pa.system_memory_pool())
    node = plan.node or socket.gethostname()
    chosen = live_sources(plan.sources, settings.exporter, plan.cluster, node)
    capabilities = reduce(or_, (source.capabilities for source in chosen))
    identity = Identity(
        plan.cluster, node, _EXPORTER, uuid.uuid4().hex, "+".join(source.name for source in chosen), int(capabilities),
        "live", tuple(text for source in chosen for text in source.notes),
    )  # fmt: skip
    stream = MessageStream(identity, settings.exporter.cut)
    seconds = NodeSeconds(chosen, stream, settings.exporter.live, SteadyClock())
    asyncio.run(_run(settings, plan, seconds))


def live_sources(names: Sequence[str], settings: ExporterSettings, cluster: str, node: str) -> list[LiveSource]:
    """Return the sources of these names, not open yet.

    Raises:
        CommandProblem: a name is unknown, or given twice.
    """
    unknown = [name for name in names if name not in LIVE_SOURCES]
    if unknown or len(set(names)) != len(names):
        what = f"no such source: {unknown[0][:40]}" if unknown else "a source is given twice"
        message = f"--source: {what}; there are {', '.join(LIVE_SOURCES)}"
        raise CommandProblem(message)
    node_hash = hash_text(f"{cluster}/{node}", settings.flow.seed)
    began = time.time_ns()
    return make_sources(names, settings, node_hash, began)


async def _run(settings: NodeSettings, plan: LivePlan, seconds: NodeSeconds) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    delivery = await _delivery(settings, plan)
    teller = _Teller(delivery)
    async with AsyncExitStack() as stack:
        if isinstance(delivery, Backlog):
            # Only who sends for others to read is looked after; who looks at rows himself needs no port.
            collector = ExporterCollector(seconds.states, lambda: delivery.state, lambda: time.time_ns() / 1e9)
            teller.tells = collector
            server = HealthServer(settings.stream.health, registry_of(collector), collector.problems, list)
            note(f"health port {await server.start()}")
            stack.push_async_callback(server.stop)
        summary = await run_live(seconds, delivery, stop, settings.exporter.live, teller.tell)
    for name, state in summary.sources.items():
        note(f"{name}: {state.packets:,} packets, {state.lost_packets:,} lost by the kernel")
    note(f"{summary.rows:,} rows, {summary.messages:,} messages")
    dropped = delivery.state.dropped if isinstance(delivery, Backlog) else 0
    if dropped:
        note(f"{dropped:,} messages were dropped for want of room; readers see gaps in the sequence")


async def _delivery(settings: NodeSettings, plan: LivePlan) -> Delivery:
    if plan.to != "kafka":
        return FileDelivery(plan.output, json_lines=plan.to == "jsonl")
    kafka = settings.stream.kafka
    try:
        await check_topics(kafka, settings.stream.topics)
    except ConnectionProblem as error:
        # A node's exporter starts whatever the broker does; what it sees meanwhile waits.
        note(f"warning: {error}")
    arguments, topic = client_arguments(kafka, "exporter"), EVENTS.name(kafka.prefix)
    return Backlog(lambda: KafkaDelivery(arguments, topic), settings.exporter.live)


class _Teller:
    """Says on standard error when the broker goes away and comes back, once each, and hands on what was exported.

    Attributes:
        tells: who shows it as metrics; None: nobody.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._problem = ""
        self.tells: ExporterCollector | None = None

    def tell(self, summary: LiveSummary) -> None:
        if self.tells is not None:
            self.tells.summary = summary
        if not isinstance(self._delivery, Backlog):
            return
        problem = self._delivery.state.problem
        if bool(problem) != bool(self._problem):
            note(f"warning: {problem}" if problem else "the broker takes messages again")
        self._problem = problem
