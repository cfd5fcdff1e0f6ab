"""Runs agents until told to stop: start order, watch, stop order, exit codes. Shared by worker and responder."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog

from schemas.topics import EVENTS, ROLLUPS
from stream.collector import calm_collector
from stream.connection import ConnectionProblem
from stream.deadletters import DeadLetterLimit
from stream.faust_shell import FaustShell
from stream.health import HealthServer
from stream.host import PartitionHost
from stream.identity_feed import IdentityFeed
from stream.offset_view import OffsetView
from stream.outbox import Outbox
from stream.quiet import QuietWatch
from stream.roles import AnyRole
from stream.settings import StreamSettings
from stream.state_store import StateStore
from stream.telemetry import Telemetry
from stream.topic_feed import TopicFeed
from stream.topics_admin import TopicMismatch, check_topics, wanted_topics
from stream.watchdog import OUTBOX, LagWatchdog

log = structlog.get_logger("stream.service")

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_TOPICS = 2
EXIT_UNREACHABLE = 3
EXIT_STUCK = 70


class AgentFailed(Exception):
    """An agent met something it may not go on after; the message is one line."""


class Service:
    """One process's agents and what they share.

    Args:
        settings: all of the stream's settings.
        roles: the agents to run.
        telemetry: where they count.
        identity: reads inventory.v1 before any agent starts; None where nobody needs names.
        feeds: further topics that are read before any agent starts, and followed; nobody waits for their news.
    """

    def __init__(
        self, settings: StreamSettings, roles: Sequence[AnyRole], telemetry: Telemetry, identity: IdentityFeed | None,
        feeds: Sequence[TopicFeed[Any]] = (),
    ) -> None:  # fmt: skip
        self._settings = settings
        self._roles = roles
        self._telemetry = telemetry
        self._identity = identity
        self._feeds = [*filter(None, (identity,)), *feeds]
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._watchdog = LagWatchdog(settings.health.stall_s)
        self._shells: list[FaustShell] = []
        self.health_port = 0

    def request_stop(self) -> None:
        """Stop cleanly: last checkpoints, then leave the groups. Idempotent."""
        self._stop.set()

    async def serve(self) -> None:
        """Run until `request_stop` or a failure.

        Raises:
            ConnectionProblem: the broker does not answer at the start.
            TopicMismatch: topics are missing or differ.
            AgentFailed: an agent had to stop; what it had not claimed will be done again by its successor.
        """
        settings = self._settings
        await check_topics(settings.kafka, settings.topics)
        async with AsyncExitStack() as stack:
            outbox = Outbox(settings.kafka, settings.worker, self._telemetry)
            await outbox.start()
            stack.push_async_callback(outbox.stop)
            offsets = OffsetView(settings.kafka)
            await offsets.start()
            stack.push_async_callback(offsets.stop)
            health = HealthServer(settings.health, self._telemetry.registry, self._unhealthy, self._unready)
            self.health_port = await health.start()
            stack.push_async_callback(health.stop)
            log.info("health", port=self.health_port)
            for feed in self._feeds:
                stack.push_async_callback(feed.stop)
                await feed.start()
            stack.push_async_callback(self._close_shells)
            await self._start_shells(outbox, offsets)
            watching = asyncio.create_task(self._watch(offsets, outbox))
            watching.add_done_callback(self._watched)
            stack.callback(watching.cancel)
            log.info("started", agents=[role.name for role in self._roles])
            await self._stop.wait()
            log.info("stopping")
        if self._failure is not None:
            raise AgentFailed(str(self._failure) or type(self._failure).__name__) from self._failure

    def _failed(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            log.error("agent failed", error=str(error), kind=type(error).__name__, exc_info=error)
        self._stop.set()

    async def _start_shells(self, outbox: Outbox, offsets: OffsetView) -> None:
        kafka = self._settings.kafka
        partitions = {t.name: t.partitions for t in wanted_topics(kafka.prefix, self._settings.topics)}
        states = StateStore(kafka, self._settings.topics.state_partitions, outbox, self._settings.worker)
        for role in self._roles:
            topic = f"{kafka.prefix}.{role.topic}"
            shell = FaustShell(role.name, topic, partitions[topic], self._settings, offsets, self._failed)
            limit = DeadLetterLimit(role.name, self._settings.dead_letters, time.monotonic)
            named = self._identity is not None and role.topic in (EVENTS.word, ROLLUPS.word)
            host = PartitionHost(
                role, partitions[topic], outbox, states, shell, limit, self._settings.worker, self._telemetry,
                self._identity.reach if self._identity is not None and named else None,
            )  # fmt: skip
            self._shells.append(shell)
            await shell.start(host)

    async def _close_shells(self) -> None:
        # All last checkpoints first: leaving a group can take seconds, and the grace period is one for all.
        await asyncio.gather(*(shell.close() for shell in self._shells))
        log.info("checkpointed")
        await asyncio.gather(*(shell.stop() for shell in self._shells), return_exceptions=True)

    def _watched(self, task: "asyncio.Task[None]") -> None:
        # Without the watch nobody would say that partitions are quiet, nor notice a stall.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _watch(self, offsets: OffsetView, outbox: Outbox) -> None:
        quiet = {shell.name: QuietWatch(self._settings.worker.quiet_s) for shell in self._shells}
        while True:
            await asyncio.sleep(self._settings.health.check_interval_s)
            for shell in self._shells:
                positions = shell.host.positions() if shell.host is not None else {}
                try:
                    _, ends = await offsets.spans(shell.topic, positions) if positions else ({}, {})
                except ConnectionProblem as error:
                    # Without the broker nobody progresses; restarting us would not bring it back.
                    log.warning("lag unknown", error=str(error))
                    self._watchdog.unreachable(time.monotonic())
                    quiet[shell.name].forget()
                    continue
                now = time.monotonic()
                shell.quiet(quiet[shell.name].observe(positions, ends, now))
                lags = self._watchdog.observe(shell.name, positions, ends, now)
                if shell.host is not None:
                    self._watchdog.observe_checkpoints(shell.name, shell.host.overdue(now), now)
                    self._telemetry.checkpoint_age_seconds.labels(shell.name).set(shell.host.oldest_uncovered(now))
                for partition, lag in lags.items():
                    self._telemetry.lag.labels(shell.name, str(partition)).set(lag)
            self._watchdog.observe_outbox(outbox.oldest(), time.monotonic())
            stalled = self._watchdog.stalled(time.monotonic())
            for shell in self._shells:
                self._telemetry.stalled.labels(shell.name).set(shell.name in stalled)
            self._telemetry.stalled.labels(OUTBOX).set(OUTBOX in stalled)

    def _unhealthy(self) -> list[str]:
        lines = list(self._watchdog.stalled(time.monotonic()).values())
        return [str(self._failure), *lines] if self._failure is not None else lines

    def _unready(self) -> list[str]:
        if self._stop.is_set():
            return ["stopping"]
        waiting = [shell.name for shell in self._shells if shell.host is None or not shell.host.ready]
        if len(self._shells) < len(self._roles):
            return ["starting"]
        return [f"{name}: waiting for partitions" for name in waiting] + self._unhealthy()


def run_service(name: str, settings: StreamSettings, make: Callable[[], Service]) -> int:
    """Run a service in a loop of its own with signal handling; returns the process's exit code.

    SIGTERM and SIGINT stop cleanly; a second one, or the stop deadline, ends the process at once (what was
    not claimed is done again by its successor). 0 stopped as asked; 1 an agent failed; 2 topics differ;
    3 the broker does not answer; 70 the deadline passed.

    Args:
        name: command named in error lines on standard error.
        settings: for the stop deadline.
        make: builds the service inside the running loop.
    """

    async def main() -> None:
        service = make()
        calm_collector()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _Stopper(service, settings.worker.stop_deadline_s).signalled)
        await service.serve()

    try:
        asyncio.run(main())
    except ConnectionProblem as error:
        return _complain(name, error, EXIT_UNREACHABLE)
    except TopicMismatch as error:
        return _complain(name, error, EXIT_TOPICS)
    except AgentFailed as error:
        return _complain(name, error, EXIT_FAILED)
    return EXIT_OK


class _Stopper:
    """Turns a signal into a clean stop that cannot hang: a thread ends the process at the deadline."""

    def __init__(self, service: Service, deadline_s: float) -> None:
        self._service = service
        self._deadline_s = deadline_s
        self._asked = False

    def signalled(self) -> None:
        """First: stop. Again: end now."""
        if self._asked:
            os._exit(EXIT_STUCK)
        self._asked = True
        # A thread, because a blocked event loop is what it is there for.
        timer = threading.Timer(self._deadline_s, os._exit, (EXIT_STUCK,))
        timer.daemon = True
        timer.start()
        self._service.request_stop()


def _complain(name: str, error: Exception, code: int) -> int:
    for line in str(error).splitlines():
        sys.stderr.write(f"{name}: {line}\n")
    return code
