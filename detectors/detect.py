"""Stage 1: one partition of events, all that its nodes say of their own sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.assembly import Assembler, ClosedTick
from detectors.base import Detector, KeyView, TickView
from detectors.dns_frame import DnsFrame
from detectors.features import Distinct, Feature
from detectors.frame import FlowFrame, TickBatch
from detectors.hashing import U64
from detectors.keying import SpaceInput, dns_inputs, flow_inputs
from detectors.limits_met import blind_finding, shed_finding
from detectors.minute import MinuteBook
from detectors.partials import Partials
from detectors.plan import FeaturePlan
from detectors.round_frames import RoundFrames
from detectors.settings import EngineSettings
from detectors.spaces import SPACES
from detectors.table import SpaceTable
from schemas.event_codec import EventMessage
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.rollups import RollupMessage

# A server that answers queries is remembered as a forwarder for this many seconds after its last answer.
_FORWARDER_SECONDS = 3600
_FORWARDERS = 4096


@dataclass(frozen=True)
class NodeTick:
    """One closed tick of one node and what the detectors say of it."""

    node: str
    number: int  # differs between a node and the same node played again
    tick: int
    findings: list[Finding]
    quality: DataQuality


@dataclass(frozen=True)
class DetectOutput:
    """What a call of ``feed`` led to; ticks are in log order."""

    ticks: list[NodeTick]
    rollups: list[RollupMessage]
    watermark: int | None


class DetectEngine:
    """The engine of one stage-1 partition. Messages in, findings and rollups out; the log alone decides."""

    def __init__(self, partition: int, settings: EngineSettings, detectors: Sequence[Detector],
                 identities: IdentityTable) -> None:  # fmt: skip
        self._settings = settings
        self._all = list(detectors)
        self._detectors = [d for d in detectors if d.meta.stage == 1]
        self._observers = [d for d in self._detectors if type(d).observe is not Detector.observe]
        self._skipped: dict[int, int] = {}  # claims said to be too many, by node
        self._said: dict[int, int] = {}  # capabilities last spoken of, by node
        self._shed = 0
        self._identities = identities
        self.plan = FeaturePlan(self._detectors)
        self.assembler = Assembler(settings)
        self.tables = {n: SpaceTable(SPACES[n], self.plan.features(n)) for n in sorted(self.plan.spaces())}
        self._partials = Partials(partition, settings, identities)
        self._minutes = MinuteBook(settings.workloads_per_minute, identities)
        self._forwarders: dict[int, int] = {}
        self.rows = 0

    def feed(self, messages: Sequence[EventMessage]) -> DetectOutput:
        """Take messages in log order."""
        closed: list[ClosedTick] = []
        for message in messages:
            closed += self.assembler.offer(message)
        ticks: list[tuple[int, NodeTick]] = []
        for members in _rounds(closed):
            ticks += self._round([closed[i] for i in members], members)
        ticks.sort(key=lambda pair: pair[0])
        watermark = self.assembler.watermark()
        rollups = []
        if watermark is not None and watermark > self._partials.sent:
            rollups = self._partials.take(watermark, self.assembler.cluster, idle=self.assembler.idle)
        return DetectOutput([t for _, t in ticks], rollups, watermark)

    def announce_empty(self) -> list[RollupMessage]:
        """Return what tells stage 2 not to wait for this partition; nothing where it has nodes."""
        return [] if self.assembler.nodes else self._partials.empty(self.assembler.cluster)

    def _round(self, closed: list[ClosedTick], positions: list[int]) -> list[tuple[int, NodeTick]]:
        names = [n.name for n in self.assembler.nodes]
        for item in closed:
            self._partials.note(item.tick, item.quality, item.capabilities)
            rows = self._minutes.close(item.node, item.tick)
            if rows is not None:
                self._partials.add_minute(item.tick, names[item.node], rows)
        views: dict[str, KeyView] = {}
        flows, dns = self._frames(closed)
        if flows is not None:
            for name, given in flow_inputs(flows, self.plan.spaces()).items():
                self._update(name, given, names, views)
        if dns is not None:
            for name, given in dns_inputs(dns, self.plan.spaces()).items():
                self._update(name, given, names, views)
        frames = RoundFrames(closed, names)
        for detector in self._observers:
            detector.observe(frames)
        quality = {names[c.node]: c.quality for c in closed}
        findings = self._evaluate(TickView(views, self._identities, quality)) + self._limits_met(closed, names)
        by_node: dict[str, list[Finding]] = {}
        for finding in findings:
            by_node.setdefault(finding.node, []).append(finding)
        for c in closed:
            self._partials.suspect(c.tick, by_node.get(names[c.node], ()))
        return [
            (position, NodeTick(names[c.node], c.node, c.tick, by_node.get(names[c.node], []), c.quality))
            for position, c in zip(positions, closed, strict=True)
        ]

    def _frames(self, closed: list[ClosedTick]) -> tuple[FlowFrame | None, DnsFrame | None]:
        flow_batches, dns_batches = (
            [TickBatch(c.node, c.tick, c.capabilities, b) for c in closed for b in c.batches.get(kind, ())]
            for kind in ("flow", "dns")
        )
        flows = FlowFrame(flow_batches, self._settings.seed) if flow_batches else None
        dns = DnsFrame(dns_batches, self._settings.seed) if dns_batches else None
        if flows is not None:
            self.rows += flows.rows
            self._partials.add_flows(flows)
            self._minutes.add_flows(flows)
        if dns is not None:
            self.rows += len(dns)
            now = max(c.tick for c in closed)
            dns.leave_out(self._known_forwarders(dns.answering(), now))
            self._minutes.add_dns(dns)
        return flows, dns

    def _known_forwarders(self, answering: U64, now: int) -> U64:
        for server in answering:
            self._forwarders[int(server)] = now
        if len(self._forwarders) > _FORWARDERS:
            kept = sorted(self._forwarders.items(), key=lambda pair: (-pair[1], pair[0]))[: _FORWARDERS // 2]
            self._forwarders = dict(kept)
        return np.array([h for h, t in self._forwarders.items() if t > now - _FORWARDER_SECONDS], np.uint64)

    def _update(self, name: str, given: SpaceInput, names: Sequence[str], views: dict[str, KeyView]) -> None:
        if not len(given):
            return
        table = self.tables[name]
        views[name] = update_table(table, self.plan.features(name), given, names)

    def _evaluate(self, view: TickView) -> list[Finding]:
        findings = [f for d in self._detectors for f in d.evaluate(view)]
        return sorted(findings, key=lambda f: (f.tick, f.detector, f.rule or "", f.subject))

    def _limits_met(self, closed: Sequence[ClosedTick], names: Sequence[str]) -> list[Finding]:
        """Say which detectors a source leaves blind, once per node, and that full tables refused keys."""
        out = []
        for item in closed:
            skipped = sum(d.refused(item.node) for d in self._observers)
            if skipped > self._skipped.get(item.node, 0):
                out.append(shed_finding(item.tick, names[item.node], skipped - self._skipped.get(item.node, 0)))
                self._skipped[item.node] = skipped
            if self._said.get(item.node) != item.capabilities:
                self._said[item.node] = item.capabilities
                out += blind_finding(self._all, item, names[item.node])
        shed = self.shed()
        if shed > self._shed:
            out.append(shed_finding(closed[0].tick, names[closed[0].node], shed - self._shed))
            self._shed = shed
        return out

    def shed(self) -> int:
        """Return how many keys and elements full tables refused so far."""
        return sum(t.shed for t in self.tables.values())

    def snapshot(self) -> dict[str, Any]:
        """Return the state by section: arrays and JSON values."""
        return {
            "assembler": self.assembler.snapshot(),
            "sent": self._partials.sent,
            "forwarders": sorted(self._forwarders.items()),
            "rows": self.rows,
            "said": sorted(self._said.items()),
            "skipped": sorted(self._skipped.items()),
            "shed": self._shed,
            "minutes": self._minutes.snapshot(),
            "tables": {n: t.snapshot() for n, t in self.tables.items()},
            "partials": self._partials.snapshot(),
            "detectors": {d.meta.id: d.snapshot() for d in self._detectors},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave; tables and detectors that it does not know start cold."""
        self.assembler.restore(state["assembler"])
        self._partials.restore(state["partials"])
        self._partials.sent = int(state["sent"])
        self._forwarders = {int(h): int(t) for h, t in state["forwarders"]}
        self.rows = int(state["rows"])
        self._said = {int(n): int(c) for n, c in state["said"]}
        self._skipped = {int(n): int(c) for n, c in state["skipped"]}
        self._shed = int(state["shed"])
        self._minutes.restore(state["minutes"])
        for name, table in self.tables.items():
            if name in state["tables"]:
                table.restore(state["tables"][name])
        for detector in self._detectors:
            if detector.meta.id in state["detectors"]:
                detector.restore(state["detectors"][detector.meta.id])


def update_table(table: SpaceTable, features: Sequence[Feature], given: SpaceInput, names: Sequence[str]) -> KeyView:
    """Add one round's input to a table and return the touched keys."""
    ticks = given.ticks
    slots = table.touch(given.keys, ticks, given.identity, given.admit)
    good = slots >= 0
    if not good.all():
        given, slots, ticks = given.keep(good), slots[good], ticks[good]
    view = KeyView(table, slots, ticks, names, given.nodes, given.capabilities)
    if not len(view):
        return view
    totals: dict[str, npt.NDArray[np.int64]] = {}
    amounts: dict[Feature, npt.NDArray[np.int64]] = {}
    elements: dict[Distinct, Any] = {}
    for feature in features:
        aggregate = feature.aggregate
        if isinstance(aggregate, Distinct):
            if aggregate not in elements:
                elements[aggregate] = given.elements(aggregate)
            owner, hashes, cancel = elements[aggregate]
            table.add_elements(feature, slots[owner], ticks[owner], hashes, cancel)
        else:
            if aggregate.measure not in totals:
                totals[aggregate.measure] = given.total(aggregate.measure)
            amounts[feature] = totals[aggregate.measure]
    table.add(slots, ticks, amounts)
    return view


def _rounds(closed: Sequence[ClosedTick]) -> list[list[int]]:
    """Split closed ticks, by position, into rounds that hold at most one tick per node."""
    rounds: list[list[int]] = []
    depth: dict[int, int] = {}
    for position, item in enumerate(closed):
        level = depth.get(item.node, 0)
        depth[item.node] = level + 1
        if level == len(rounds):
            rounds.append([])
        rounds[level].append(position)
    return rounds
