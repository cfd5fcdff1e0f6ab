"""The demo on a real Kafka: topics of its own, a worker, a responder, the recording played through."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from exporter.delivery import KafkaDelivery
from exporter.run import Capture, ExportSummary, Pace, export
from response.policyfile import load_policy
from schemas.topics import EVENTS
from sluicegate.demo_embedded import CLUSTER, NODE
from sluicegate.demo_processes import DemoProcess
from sluicegate.demo_reader import DemoReader, read_events, settled
from sluicegate.demo_screen import DemoScreen
from sluicegate.inputs import read_inventory
from sluicegate.publish import publish_inventory
from sluicegate.settings import Settings
from stream.connection import client_arguments
from stream.settings import KafkaSettings, StreamSettings
from stream.stages import DecideStage
from stream.topics_admin import create_topics, wanted_topics

# Without any news for this long after the last message, something is broken.
_PATIENCE_SECONDS = 20.0


def demo_stream(settings: Settings, bootstrap: str) -> StreamSettings:
    """Return the stream's settings for a broker, under a prefix that nobody else uses."""
    kafka = settings.stream.kafka.model_copy(
        update={"bootstrap": bootstrap, "prefix": f"sluicegate-demo-{uuid.uuid4().hex[:8]}"}
    )
    return settings.stream.model_copy(update={"kafka": kafka})


async def run_on_broker(settings: Settings, bootstrap: str, screen: DemoScreen, speed: float) -> bool:
    """Run the demo; tell whether every expected alert came.

    Raises:
        ConnectionProblem, CommandProblem, DeliveryError: something did not start or broke off.
    """
    stream = demo_stream(settings, bootstrap)
    async with AsyncExitStack() as stack:
        screen.progress(f"creating topics under {stream.kafka.prefix}")
        stack.push_async_callback(_delete_topics, stream, screen)
        await create_topics(stream.kafka, stream.topics)
        if screen.case.inventory is not None:
            count = await publish_inventory(stream.kafka, read_inventory(screen.case.inventory))
            screen.progress(f"published {count} inventory objects")
        processes = await _start(stream, stack, screen)
        reader = DemoReader(stream.kafka, screen, DecideStage(load_policy()))
        following = asyncio.create_task(reader.follow())
        counting = asyncio.create_task(read_events(stream.kafka, stream.topics.event_partitions, screen.counted))
        for task in (following, counting):
            stack.push_async_callback(_cancelled, task)

        def look() -> None:
            for process in processes:
                process.check()
            if following.done():
                following.result()

        summary, seconds = await _play(settings, stream, screen, speed)
        done = await _settle(screen, reader, summary.cut, look)
        appended = await asyncio.wait_for(counting, _PATIENCE_SECONDS)
        return screen.summary(_timings(screen, reader, appended), seconds) and done


async def _start(stream: StreamSettings, stack: AsyncExitStack, screen: DemoScreen) -> Sequence[DemoProcess]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-demo-")))
    environment = {
        "SLUICEGATE_STREAM__KAFKA__BOOTSTRAP": stream.kafka.bootstrap,
        "SLUICEGATE_STREAM__KAFKA__PREFIX": stream.kafka.prefix,
    }
    commands = {
        "worker": ["worker", "--log-level", "warning"],
        "responder": ["respond", "--no-cluster", "--cluster", CLUSTER, "--log-level", "warning"],
    }
    processes = []
    for name, arguments in commands.items():
        processes.append(DemoProcess(name, arguments, environment, folder))
        stack.push_async_callback(asyncio.to_thread, processes[-1].stop)
    for process in processes:
        screen.progress(f"waiting for the {process.name} to take its partitions")
        await process.ready()
    return processes


async def _play(
    settings: Settings, stream: StreamSettings, screen: DemoScreen, speed: float
) -> tuple[ExportSummary, float]:
    """Export the recording; return what was sent, and how long that took in s."""
    screen.progress(f"exporting {speed:g} times as fast as recorded: {screen.case.case.title}")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    delivery = KafkaDelivery(client_arguments(stream.kafka, "exporter"), EVENTS.name(stream.kafka.prefix))
    capture = Capture(screen.case.input, NODE)
    summary = await export([capture], delivery, CLUSTER, settings=settings.exporter, pace=Pace(speed))
    return summary, loop.time() - begun


async def _settle(screen: DemoScreen, reader: DemoReader, cut: int, look: Callable[[], None]) -> bool:
    """Wait for what the worker and the responder still have to say; tell whether all of it came."""
    if not reader.complete(cut):
        screen.progress(f"waiting for {reader.waiting_for(cut)}")
    done = await settled(reader, cut, _PATIENCE_SECONDS, look)
    if not done:
        screen.progress(f"gave up: no news for {_PATIENCE_SECONDS:.0f} s while waiting for {reader.waiting_for(cut)}")
    return done


def _timings(screen: DemoScreen, reader: DemoReader, appended: dict[int, float]) -> list[str]:
    """How long from a second's events on the broker to the alert about it on the broker, by its own clock."""
    opened = [alert for alert in screen.alerts if alert.revision == 1 and alert.tick in appended]
    delays = sorted(reader.appended[a.id, a.revision] - appended[a.tick] for a in opened)
    if not delays:
        return []
    middle, worst = delays[len(delays) // 2], delays[-1]
    return [
        f"From the append of the message that closed a second to the append of its alert: median "
        f"{middle * 1000:,.0f} ms, worst {worst * 1000:,.0f} ms ({len(delays)} alerts, broker's clock).",
        "From a packet to that message: up to 1 s more in live use, where an exporter sends whole seconds; "
        "in a replay it means nothing.",
    ]


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


async def _delete_topics(stream: StreamSettings, screen: DemoScreen) -> None:
    """Leave nothing behind on a broker that is not ours; one that is gone needs no cleaning."""
    screen.progress("cleaning up: deleting the topics")
    await delete_topics(stream.kafka, [topic.name for topic in wanted_topics(stream.kafka.prefix, stream.topics)])


async def delete_topics(kafka: KafkaSettings, names: Sequence[str]) -> None:
    """Delete topics that may or may not exist."""
    admin = AIOKafkaAdminClient(**client_arguments(kafka, "demo-cleanup"))
    with suppress(KafkaError, OSError):
        await admin.start()
        await admin.delete_topics(list(names))
    await admin.close()
