"""The work of ``sluicegate replay``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from exporter.chunks import CaptureReport
from schemas.event_codec import EventMessage
from schemas.response import ResponseDecision
from sluicegate.composition import parts
from sluicegate.inputs import identities_of, in_cut_order, learning, read_amounts, read_any, read_inventory
from sluicegate.node_names import node_names
from sluicegate.proposals import Proposals, print_proposals
from sluicegate.replay_results import ReplayResults
from sluicegate.settings import Settings
from sluicegate.terminal import cell, console, note
from stream.pipeline import Pipeline, PipelineOutput


class Replay:
    """One replay; everything that can be refused is refused before the first packet is read."""

    def __init__(
        self, settings: Settings, cluster: str, inventory: Path | None, rules: Sequence[Path], policy: Path | None
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._objects = read_inventory(inventory) if inventory is not None else []
        self._identities = identities_of(inventory, self._objects)
        self._pipeline = Pipeline(parts(settings, self._identities, rules, policy))
        self._decisions: dict[str, ResponseDecision] = {}

    def run(
        self, files: Sequence[str], nodes: Sequence[str], *, output: Path | None, as_json: bool, respond: bool
    ) -> ReplayResults:
        """Replay files and print what is found.

        Raises:
            CaptureError, CommandProblem: a file that cannot be read.
        """
        reports = [CaptureReport(name=file) for file in files]
        results, started = ReplayResults(), time.perf_counter()
        with ExitStack() as stack:
            targets: list[BinaryIO] = [stack.enter_context(output.open("wb"))] if output is not None else []
            if as_json:
                targets.append(sys.stdout.buffer)
            for batch in self._pipeline.run(self._messages(files, nodes, reports)):
                results.add(batch)
                self._write(batch, targets)
        for report in reports:
            for problem in report.problems:
                note(f"warning: {report.name}: {problem}")
        if not as_json:
            self._print(results, reports, time.perf_counter() - started, respond)
        return results

    def _messages(
        self, files: Sequence[str], nodes: Sequence[str], reports: Sequence[CaptureReport]
    ) -> Iterator[EventMessage]:
        names = node_names(files, nodes)
        exporter = self._settings.exporter
        sources = [
            learning(read_any(file, name, self._cluster, exporter, report), report, self._identities, self._objects)
            for file, name, report in zip(files, names, reports, strict=True)
        ]
        return in_cut_order(sources)

    def _write(self, batch: PipelineOutput, targets: Sequence[BinaryIO]) -> None:
        for decision in batch.responses:
            self._decisions[decision.id] = decision
        lines = b"".join(word.encode() + b"\n" for word in (*batch.alerts, *batch.incidents))
        for target in targets:
            target.write(lines)
            target.flush()

    def _print(self, results: ReplayResults, reports: Sequence[CaptureReport], seconds: float, respond: bool) -> None:
        out = console()
        results.print(out)
        if respond:
            proposals = Proposals(self._settings.response, self._cluster, self._objects)
            for decision in self._decisions.values():
                print_proposals(out, decision, proposals.about(decision))
        malformed = sum(report.malformed for report in reports)
        lost = sum(report.lost_rows for report in reports)
        rows = self._pipeline.rows
        rate = f"{rows / seconds:,.0f} rows/s" if seconds > 0 else ""
        out.print(cell(f"{read_amounts(reports)}, {rows:,} rows in {seconds:.1f} s ({rate}): {results.summary()}"))
        quality = [f"{malformed:,} malformed packets or records"] * bool(malformed) + [f"{lost:,} rows shed"] * bool(
            lost
        )
        quality += [f"{report.name}: {problem}" for report in reports for problem in report.problems]
        out.print(cell(f"Data quality: {'; '.join(quality) or 'nothing lost, nothing malformed'}"))
