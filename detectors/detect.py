"""Stage 1: one partition of events, all that its nodes say of their own sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.answered_names import AnsweredNames
from detectors.assembly import Assembler, ClosedTick
from detectors.base import Detector, KeyView, TickView
from detectors.cold_start import ColdStart
from detectors.dns_frame import DnsFrame
from detectors.edges import EdgeBook
from detectors.entrances import entered_by, entrances
from detectors.features import Distinct, Feature
from detectors.frame import FlowFrame
from detectors.identity_keys import IdentityKeys
from detectors.identity_spaces import dns_identity_inputs, flow_identity_inputs
from detectors.identity_victims import victim_spaces
from detectors.index import I64
from detectors.keying import SpaceInput, dns_inputs, flow_inputs
from detectors.limits_met import blind_finding, shed_finding, silent_node_finding
from detectors.minute import MinuteBook
from detectors.name_book import NameBook
from detectors.partials import Partials
from detectors.plan import FeaturePlan
from detectors.pod_interfaces import PodInterfaces
from detectors.round_frames import RoundFrames
from detectors.settings import EngineSettings
from detectors.snapshot import Part, Section, SectionError, restore_parts, sections_of, usable
from detectors.spaces import SPACES
from detectors.table import SpaceTable
from detectors.watching import Watcher
from schemas.edge import Edge
from schemas.event_codec import EventMessage
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.rollups import RollupMessage
from schemas.watch import WatchRow

# A server that answers queries is remembered as a forwarder for this many seconds after its last answer.
_FORWARDER_SECONDS = 3600
_FORWARDERS = 4096
_NEVER = -(1 << 40)
_STATE_VERSION = 1
_OWN = "engine"  # the section of what no part of the engine keeps


@dataclass(frozen=True)
class NodeTick:
    """One closed tick of one node and what the detectors say of it."""

    node: str
    number: int  # differs between a node and the same node played again
    tick: int
    findings: list[Finding]
    quality: DataQuality
    first: bool  # what is kept under the number belongs to another node


@dataclass(frozen=True)
class DetectOutput:
    """What a call of ``feed`` led to; ticks are in log order."""

    ticks: list[NodeTick]
    rollups: list[RollupMessage]
    watermark: int | None
    watched: list[WatchRow] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)


class DetectEngine:
    """The engine of one stage-1 partition. Messages in, findings and rollups out; the log alone decides."""

    def __init__(self, partition: int, settings: EngineSettings, detectors: Sequence[Detector],
                 identities: IdentityTable) -> None:  # fmt: skip
        self._settings = settings
        self._all = list(detectors)
        self._detectors = [d for d in detectors if d.meta.stage == 1]
        self._observers = [d for d in detectors if type(d).observe is not Detector.observe]
        self._skipped: dict[int, int] = {}  # claims said to be too many, by node
        self._said: dict[int, int] = {}  # capabilities last spoken of, by node
        self._identities = identities
        self.plan = FeaturePlan(self._detectors)
        self.assembler = Assembler(settings)
        self.tables = {n: SpaceTable(SPACES[n], self.plan.features(n)) for n in sorted(self.plan.spaces())}
        self._partials = Partials(partition, settings, identities, _source_bucket(detectors), _asked(detectors))
        self._minutes = MinuteBook(settings.workloads_per_minute, identities, settings.seed)
        self._edges = EdgeBook(identities)
        self._book = NameBook()
        self.watcher = Watcher(identities)
        self._watched: list[WatchRow] = []
        self._said_edges: list[Edge] = []
        self._forwarders: dict[int, int] = {}
        self._cold = ColdStart()
        self._answered = AnsweredNames()
        self._interfaces = PodInterfaces()
        self._keys = IdentityKeys(identities)
        self.rows = 0

    def feed(self, messages: Sequence[EventMessage]) -> DetectOutput:
        """Take messages in log order; how many at once does not matter."""
        closed: list[ClosedTick] = []
        for message in messages:
            now = self.assembler.offer(message)
            closed += now
            if now and now[-1].passed is not None:
                self._partials.step(now[-1].passed)
        ticks: list[NodeTick] = []
        for first, last in _rounds(closed):
            ticks += self._round(closed[first:last])
        rollups = self._partials.take(self.assembler.cluster)
        watched, self._watched = self._watched, []
        edges, self._said_edges = self._said_edges, []
        return DetectOutput(ticks, rollups, self.assembler.watermark(), watched, edges)

    def announce_empty(self) -> list[RollupMessage]:
        """Return what tells stage 2 not to wait for this partition; nothing where it has nodes."""
        return [] if self.assembler.nodes else self._partials.empty(self.assembler.cluster)

    def announce_idle(self) -> list[RollupMessage]:
        """Return what tells stage 2 that nothing comes any more, or still nothing; the shell knows when.

        Changes nothing here. Nothing while a capture goes on: it has no clock by which it could be silent.
        """
        if not self.assembler.nodes:
            return self.announce_empty()
        going = self.assembler.going()
        if any(node.capture for node in going):
            return []
        return self._partials.silence(self.assembler.cluster, [node.name for node in going])

    def counts(self) -> dict[str, int]:
        """Return what the log's clocks did so far and how its nodes are now (`Assembler.counts`)."""
        nodes = self.assembler.nodes
        going = len(self.assembler.going())
        return {
            **self.assembler.counts, "nodes_going": going, "nodes_silent": self.assembler.silent,
            "nodes_ended": len(nodes) - going - self.assembler.silent,
        }  # fmt: skip

    def _round(self, closed: Sequence[ClosedTick]) -> list[NodeTick]:
        names = [n.name for n in self.assembler.nodes]
        closed = [replace(c, quality=self._cold.mark(c.quality, c.tick)) for c in closed]
        for item in closed:
            self._partials.note(item.joins, item.quality, item.capabilities)
            rows = self._minutes.close(item.node, item.tick)
            if rows is not None and not item.first:
                self._partials.add_minute(item.joins, names[item.node], rows)
            self._said_edges += self._edges.close(item.node, names[item.node], item.tick, self.assembler.cluster)
        views: dict[str, KeyView] = {}
        frames = RoundFrames(closed, names, self._identities, self._book, self._settings.seed)
        flows, dns = frames.groups, frames.questions
        self._note_frames(flows, dns)
        self._interfaces.observe(frames)
        if flows is not None:
            counted = np.array([item.joins for item in closed], np.int64)
            self._partials.add_flows(flows, counted)
            entered = entrances(flows, names, self._interfaces)
            if entered is not None:
                self._partials.add_entrances(entered, counted)
            wanted = self.plan.spaces()
            for name, given in (flow_inputs(flows, wanted) | flow_identity_inputs(flows, wanted, self._keys)).items():
                self._update(name, given, names, views)
        if dns is not None:
            wanted = self.plan.spaces()
            for name, given in (dns_inputs(dns, wanted) | dns_identity_inputs(dns, wanted, self._keys)).items():
                self._update(name, given, names, views)
            self._answered.observe(frames)
        self._watched += self.watcher.observe(frames, closed, self.assembler.cluster)
        joins = {(item.node, item.tick): item.joins for item in closed}
        for detector in self._observers:
            detector.observe(frames)
            self._partials.add_tallies(joins, detector.tallies())
        quality = {names[c.node]: c.quality for c in closed}
        view = TickView(views, self._identities, quality, behind=self._interfaces.address, leading=self._interfaces.of,
                        entered_by=partial(entered_by, flows))  # fmt: skip
        findings = self._evaluate(view) + self._limits_met(closed, names)
        by_node: dict[str, list[Finding]] = {}
        for finding in findings:
            by_node.setdefault(finding.node, []).append(finding)
        out = []
        for item in closed:
            own = self._answered.named(item.node, by_node.get(names[item.node], []))
            self._partials.suspect(item.joins, own)
            out.append(NodeTick(names[item.node], item.node, item.tick, own, item.quality, item.first))
        return out

    def _note_frames(self, flows: FlowFrame | None, dns: DnsFrame | None) -> None:
        if flows is not None:
            self.rows += flows.rows
            ours = self._minutes.are_ours(flows)
            self._minutes.add_flows(flows, ours)
            self._edges.add_flows(flows, ours)
        if dns is not None:
            self.rows += len(dns)
            dns.leave_out(self._forwarding(dns))
            self._minutes.add_dns(dns)

    def _forwarding(self, dns: DnsFrame) -> npt.NDArray[np.bool_]:
        """Tell per row whether its client has answered queries itself, lately or up to this very tick."""
        known = np.fromiter(self._forwarders, np.uint64, len(self._forwarders))
        ticks = np.fromiter(self._forwarders.values(), np.int64, len(self._forwarders))
        last = np.full(len(dns.hashes), _NEVER, np.int64)
        _, here, there = np.intersect1d(dns.hashes, known, assume_unique=True, return_indices=True)
        last[here] = ticks[there]
        server, place = dns.answering()
        since = np.full(len(dns.hashes), len(dns) + 1, np.int64)
        np.minimum.at(since, server, place)
        for number, tick in zip(server.tolist(), dns.columns.by_place("tick")[place].tolist(), strict=True):
            resolver = int(dns.hashes[number])
            self._forwarders.pop(resolver, None)
            self._forwarders[resolver] = tick
            if len(self._forwarders) > _FORWARDERS:
                del self._forwarders[next(iter(self._forwarders))]
        recent = last[dns.client] > dns.tick - _FORWARDER_SECONDS
        forwarding: npt.NDArray[np.bool_] = recent | (dns.place >= since[dns.client])
        return forwarding

    def _update(self, name: str, given: SpaceInput, names: Sequence[str], views: dict[str, KeyView]) -> None:
        if not len(given):
            return
        table = self.tables[name]
        views[name] = update_table(table, self.plan.features(name), given, names)

    def _evaluate(self, view: TickView) -> list[Finding]:
        findings = [f for d in self._detectors for f in d.evaluate(view)]
        return sorted(findings, key=lambda f: (f.tick, f.detector, f.rule or "", f.subject))

    def _limits_met(self, closed: Sequence[ClosedTick], names: Sequence[str]) -> list[Finding]:
        """Say which detectors a source leaves blind, once per node, and what crowded tables did not take."""
        out = []
        lost = self._lost(len(names))
        skipped: Counter[int] = Counter()
        for detector in self._observers:
            skipped.update(detector.refused())
        for item in closed:
            if item.silent:
                out.append(silent_node_finding(item, names[item.node], self._settings.silence_s))
            if item.first or self._said.get(item.node) != item.capabilities:
                self._said[item.node] = item.capabilities
                out += blind_finding(self._all, item, names[item.node])
            shed, deferred = lost[item.node].tolist()
            if skipped[item.node]:
                shed += skipped[item.node] - self._skipped.get(item.node, 0)
                self._skipped[item.node] = skipped[item.node]
            if shed or deferred:
                out.append(shed_finding(item.tick, names[item.node], shed, deferred))
        return out

    def _lost(self, nodes: int) -> I64:
        """Return (refused, turned away) per node since the last call; int64, shape (nodes, 2)."""
        lost = np.zeros((nodes, 2), np.int64)
        for table in self.tables.values():
            new = table.take_lost()
            lost[: len(new)] += new[:nodes]
        return lost

    def table_counts(self) -> dict[str, dict[str, int]]:
        """Return what the table of each key space holds and did not take so far."""
        return {**{name: table.counts() for name, table in self.tables.items()}, "edges": self._edges.counts()}

    def _parts(self) -> dict[str, Part]:
        return {
            "assembler": self.assembler,
            "minutes": self._minutes,
            "edges": self._edges,
            "partials": self._partials,
            "cold_start": self._cold,
            "answered_names": self._answered,
            "pod_interfaces": self._interfaces,
            **{f"table.{name}": table for name, table in self.tables.items()},
            **{f"detector.{d.meta.id}": d for d in dict.fromkeys([*self._detectors, *self._observers])},
        }

    def snapshot(self) -> dict[str, Section]:
        """Return the state by section; arrays may be live views."""
        own = {
            "forwarders": list(self._forwarders.items()),  # in order of forgetting
            "rows": self.rows,
            "said": sorted(self._said.items()),
            "skipped": sorted(self._skipped.items()),
        }
        return {_OWN: Section(_STATE_VERSION, own), **sections_of(self._parts())}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        """Take in what ``snapshot`` gave, before anything is fed; return the sections that start cold.

        Raises:
            SectionError: a section's content is not what its part keeps.
        """
        parts = self._parts()
        unknown = sorted(set(sections) - set(parts) - {_OWN})
        # Everything else refers to the assembler's numbers of nodes.
        sections = usable(sections, {_OWN: _STATE_VERSION, "assembler": self.assembler.state_version})
        cold = restore_parts(parts, sections)
        if sections:
            self._restore_own(sections[_OWN].state)
        else:
            cold.append(_OWN)
        self.note_cold(cold)
        return cold + unknown

    def note_cold(self, names: Sequence[str]) -> None:
        """Say for a while, in the quality of the data, that parts of these names began anew."""
        self._cold.begin(names)

    def _restore_own(self, state: Mapping[str, Any]) -> None:
        try:
            self._forwarders = {int(h): int(t) for h, t in state["forwarders"]}
            self.rows = int(state["rows"])
            self._said = {int(n): int(c) for n, c in state["said"]}
            self._skipped = {int(n): int(c) for n, c in state["skipped"]}
        except Exception as error:
            raise SectionError(_OWN, error) from error


def update_table(table: SpaceTable, features: Sequence[Feature], given: SpaceInput, names: Sequence[str]) -> KeyView:
    """Add one round's input to a table and return the touched keys."""
    ticks = given.ticks
    slots = table.touch(given.keys, ticks, given.identity, given.admit, given.nodes, given.weight)
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


def _source_bucket(detectors: Sequence[Detector]) -> int:
    """Return the shortest bucket over which any detector counts a victim's sources, s; 0: none does."""
    spaces = ("victim", *_asked(detectors))
    asked = [f for d in detectors for f in d.features() if f.space in spaces and isinstance(f.aggregate, Distinct)]
    return min((f.bucket for f in asked), default=0)


def _asked(detectors: Sequence[Detector]) -> tuple[str, ...]:
    """Return the spaces of victims by identity that any detector asks for."""
    return victim_spaces({f.space for d in detectors for f in d.features()})


def _rounds(closed: Sequence[ClosedTick]) -> list[tuple[int, int]]:
    """Return (first, one past the last) of the longest runs of closed ticks in which no node comes twice.

    Runs keep log order, so that a round does to every table what its ticks would do one after the other.
    """
    rounds: list[tuple[int, int]] = []
    first, seen = 0, set[int]()
    for position, item in enumerate(closed):
        if item.node in seen:
            rounds.append((first, position))
            first, seen = position, set()
        seen.add(item.node)
    if first < len(closed):
        rounds.append((first, len(closed)))
    return rounds
