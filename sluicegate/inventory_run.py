"""The work of ``sluicegate inventory``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from exporter.counted import registry_of
from exporter.delivery import DeliveryError, KafkaDelivery
from exporter.inventory.agent import InventoryAgent, tell_ranges
from exporter.inventory.docker import DockerSource
from exporter.inventory.kube_client import KubeClient
from exporter.inventory.kubernetes import KubernetesSource
from exporter.inventory.source import Book, InventoryProblem, InventorySource
from exporter.inventory.statements import Statements
from exporter.inventory.telemetry import InventoryCollector
from schemas.inventory import InventoryObject
from schemas.topics import EVENTS, INVENTORY
from sluicegate.problems import CommandProblem
from sluicegate.settings import Settings
from stream.connection import client_arguments
from stream.health import HealthServer
from stream.identity_feed import IdentityFeed
from stream.structured_logs import Level, configure_logs
from stream.topics_admin import check_topics

log = structlog.get_logger("sluicegate.inventory")


@dataclass(frozen=True)
class InventoryPlan:
    """What the command line asked for."""

    docker: Path | None
    kubeconfig: Path | None
    context: str | None
    cluster: str
    once: bool
    log_level: Level


def run_inventory(settings: Settings, plan: InventoryPlan) -> None:
    """Run until told to stop, or print the inventory once.

    Raises:
        CommandProblem, ConnectionProblem, TopicMismatch: each with its remedy.
    """
    configure_logs("warning" if plan.once else plan.log_level)
    try:
        asyncio.run(_print_once(settings, plan) if plan.once else _run(settings, plan))
    except (InventoryProblem, DeliveryError) as error:
        raise CommandProblem(str(error)) from None


def _now() -> float:
    return time.time()  # noqa: TID251 - when a change was seen; the exporter's side of the clock


async def _source(settings: Settings, plan: InventoryPlan, stack: AsyncExitStack) -> InventorySource:
    if plan.docker is not None:
        if plan.kubeconfig is not None or plan.context is not None:
            message = "--docker and --kubeconfig or --context exclude each other: run one agent for each"
            raise CommandProblem(message)
        engine = await DockerSource.connect(plan.docker, plan.cluster, settings.exporter.inventory, _now)
        stack.push_async_callback(engine.close)
        return engine
    client = KubeClient(settings.exporter.inventory, plan.kubeconfig, plan.context)
    stack.push_async_callback(client.close)
    return KubernetesSource(client, plan.cluster, settings.exporter.inventory, _now)


async def _print_once(settings: Settings, plan: InventoryPlan) -> None:
    inventory = settings.exporter.inventory
    # Nobody takes statements away meanwhile, so there must be room for all of them.
    book = Book(Statements(), sys.maxsize)
    async with AsyncExitStack() as stack:
        source = await _source(settings, plan, stack)
        tell_ranges(book.statements, plan.cluster, inventory, _now())
        await source.once(book)
    for item in book.statements.take(sys.maxsize):
        sys.stdout.buffer.write(item.encode() + b"\n")
    sys.stdout.buffer.flush()


async def _run(settings: Settings, plan: InventoryPlan) -> None:
    kafka = settings.stream.kafka
    await check_topics(kafka, settings.stream.topics)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _Stopper(stop).signalled)
    async with AsyncExitStack() as stack:
        source = await _source(settings, plan, stack)
        known = [i for i in await _said(settings) if i.cluster == plan.cluster and source.owns(i)]
        delivery = KafkaDelivery(client_arguments(kafka, "inventory"), EVENTS.name(kafka.prefix),
                                 inventory=INVENTORY.name(kafka.prefix))  # fmt: skip
        await delivery.open()
        stack.push_async_callback(delivery.close, complete=True)
        agent = InventoryAgent(source, delivery, plan.cluster, settings.exporter.inventory, _now, known)
        health = HealthServer(
            settings.stream.health, registry_of(InventoryCollector(agent, _now)), list, agent.problems
        )
        log.info("started", cluster=plan.cluster, known=len(agent.book.statements), health_port=await health.start())
        stack.push_async_callback(health.stop)
        await agent.run(stop)


async def _said(settings: Settings) -> Iterable[InventoryObject]:
    """Return the last statement about every object that the topic holds."""
    last: dict[str, InventoryObject] = {}

    def take(_offset: int, _appended_ms: int, item: InventoryObject | None) -> None:
        if item is None:
            return
        before = last.get(item.uid)
        if item.kind != "Watermark" and (before is None or item.valid_from >= before.valid_from):
            last[item.uid] = item
            if item.valid_to is not None:
                # What has ended is of no more use here, and there may be very much of it.
                del last[item.uid]

    feed = IdentityFeed(settings.stream.kafka, take)
    try:
        await feed.start()
    finally:
        await feed.stop()
    return last.values()


class _Stopper:
    """Stops cleanly at the first signal and at once at the second."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def signalled(self) -> None:
        """Take in a signal."""
        if self._stop.is_set():
            os._exit(1)
        self._stop.set()
