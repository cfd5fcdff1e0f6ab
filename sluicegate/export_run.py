"""The work of ``sluicegate export``."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from exporter.chunks import CaptureReport
from exporter.delivery import Delivery, DeliveryError, FileDelivery, KafkaDelivery
from exporter.run import Capture, ExportSummary, Pace, export
from schemas.topics import EVENTS, INVENTORY
from sluicegate.inputs import STANDARD_INPUT, read_amounts, read_inventory
from sluicegate.node_names import node_names
from sluicegate.problems import CommandProblem
from sluicegate.publish import publish_inventory
from sluicegate.settings import Settings
from sluicegate.terminal import note
from stream.connection import client_arguments
from stream.topics_admin import check_topics


@dataclass(frozen=True)
class ExportPlan:
    """What the command line asked for."""

    files: Sequence[str]
    nodes: Sequence[str]
    cluster: str
    to: str
    output: str
    speed: str
    now: bool
    inventory: Path | None


def run_export(settings: Settings, plan: ExportPlan) -> None:
    """Export and say what was sent.

    Raises:
        CaptureError, CommandProblem, DeliveryError, ConnectionProblem, TopicMismatch: each with its remedy.
    """
    captures = [Capture(f, n) for f, n in zip(plan.files, node_names(plan.files, plan.nodes), strict=True)]
    pace = Pace(read_speed(plan.speed))
    if plan.inventory is not None and plan.to != "kafka":
        message = "--inventory is sent to the broker: use it with --to kafka"
        raise CommandProblem(message)
    started = time.perf_counter()
    with export_progress(settings, plan) as progress:
        summary = asyncio.run(_export(settings, plan, captures, pace, progress))
    _tell(summary, time.perf_counter() - started)


async def _export(
    settings: Settings,
    plan: ExportPlan,
    captures: Sequence[Capture],
    pace: Pace,
    progress: Callable[[ExportSummary], None],
) -> ExportSummary:
    first_cut = math.ceil(time.time()) if plan.now else None  # noqa: TID251 - the exporter's side of the clock
    if plan.to == "kafka":
        # A producer would wait for a missing topic until its time-out; this says at once what to do.
        await check_topics(settings.stream.kafka, settings.stream.topics)
        if plan.inventory is not None:
            await publish_inventory(settings.stream.kafka, read_inventory(plan.inventory))
    delivery = _delivery(settings, plan)
    try:
        return await export(
            captures, delivery, plan.cluster, settings=settings.exporter, pace=pace, first_cut=first_cut,
            progress=progress,
        )  # fmt: skip
    except DeliveryError as error:
        if plan.to == "kafka":
            raise
        raise CommandProblem(str(error)) from None


def _delivery(settings: Settings, plan: ExportPlan) -> Delivery:
    if plan.to != "kafka":
        return FileDelivery(plan.output, json_lines=plan.to == "jsonl")
    kafka = settings.stream.kafka
    return KafkaDelivery(client_arguments(kafka, "exporter"), EVENTS.name(kafka.prefix),
                         inventory=INVENTORY.name(kafka.prefix))  # fmt: skip


def read_speed(text: str) -> float | None:
    """Return seconds of capture per second; none: as fast as they are taken.

    Raises:
        CommandProblem: neither ``real``, ``max`` nor a positive number.
    """
    if text in ("real", "max"):
        return 1.0 if text == "real" else None
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        message = f"--speed {text[:20]}: must be real, max or a positive number"
        raise CommandProblem(message)
    return speed


def export_progress(settings: Settings, plan: ExportPlan) -> AbstractContextManager[Callable[[ExportSummary], None]]:
    """Return a progress display: a bar where somebody watches, nothing where not."""
    from sluicegate.progress import CaptureProgress

    readable = all(file != STANDARD_INPUT for file in plan.files)
    return CaptureProgress(list(plan.files) if readable else [], settings.exporter.reading)


def _tell(summary: ExportSummary, seconds: float) -> None:
    for report in summary.reports:
        for problem in report.problems:
            note(f"warning: {report.name}: {problem}")
    read = read_amounts(summary.reports)
    rate = f", {summary.rows / seconds:,.0f} rows/s" if seconds > 0 else ""
    note(f"{read}, {summary.rows:,} rows, {summary.messages:,} messages in {seconds:.1f} s{rate}")
    _tell_losses(summary.reports)


def _tell_losses(reports: Sequence[CaptureReport]) -> None:
    for report in reports:
        losses = {"malformed": report.malformed, "rows shed": report.lost_rows, "late": report.late}
        if any(losses.values()):
            note(f"{report.name}: " + ", ".join(f"{count:,} {name}" for name, count in losses.items() if count))
