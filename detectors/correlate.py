"""Stage 2: one rollup partition, all that spans nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.base import Detector, KeyView, TickView, WorkloadRows
from detectors.cold_start import ColdStart
from detectors.columns import address_bytes
from detectors.copies import Copies
from detectors.features import Distinct, Sum
from detectors.grouping import Grouping
from detectors.identity_victims import IdentityVictims
from detectors.index import I64, positions
from detectors.kernels.grouping import best_by, sum_columns
from detectors.limits_met import silent_sender_finding
from detectors.mixing import U64, hash_addresses
from detectors.plan import FeaturePlan
from detectors.recent_entrances import Entrance, RecentEntrances
from detectors.recent_sources import RecentSources
from detectors.senders import Senders
from detectors.settings import EngineSettings
from detectors.snapshot import Part, Section, SectionError, restore_parts, sections_of, usable
from detectors.spaces import SPACES
from detectors.table import SpaceTable
from detectors.tally import TallyRows
from detectors.victim_rows import COPY_SUMS, VICTIM_SUMS, with_floods
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.rollups import POINTING, SECTIONS, RollupHeader, RollupMessage

Array = npt.NDArray[Any]
Columns = dict[str, Array]

# What a victim is worth a slot for when there are too many.
_WEIGHING = ("attempts", "udp_packets", "icmp_packets", "reflected_packets", "induced_questions")
_STATE_VERSION = 5
_OWN = "engine"  # the section of what no part of the engine keeps
_SUSPECT_SECONDS = 120  # a model's window, and one more for what arrives after it


@dataclass
class _Tick:
    messages: list[tuple[RollupHeader, dict[str, Columns]]] = field(default_factory=list)

    @property
    def headers(self) -> list[RollupHeader]:
        return [header for header, _ in self.messages]

    def merged(self) -> dict[str, Columns]:
        """Return the sections of all messages as one, by sender: which came first must not show."""
        pieces: dict[str, list[Columns]] = {}
        base = {"victim": 0, "identity": 0}
        for _, sections in sorted(self.messages, key=lambda message: _order(message[0])):
            for name, columns in sections.items():
                target = POINTING.get(name)
                moved = {target: columns[target] + base[target]} if target is not None else {}
                pieces.setdefault(name, []).append(columns | moved)
            for name in base:
                base[name] += len(sections[name]["attempts"]) if name in sections else 0
        return {name: _merge(columns) for name, columns in pieces.items()}


@dataclass(frozen=True)
class Advance:
    """Ticks that every sender has now completed, ascending, with their findings; and how far that is."""

    ticks: list[tuple[int, list[Finding], DataQuality]]
    watermark: int


class CorrelateEngine:
    """The engine of one rollup partition.

    A tick is evaluated when all senders that are waited for have passed it (`detectors.senders`).
    """

    def __init__(self, partition: int, settings: EngineSettings, detectors: Sequence[Detector],
                 identities: IdentityTable) -> None:  # fmt: skip
        self.partition = partition
        # Models come last: they do not learn from what rules call an attack in the same tick.
        stage2 = [d for d in detectors if d.meta.stage == 2]
        self._detectors = sorted(stage2, key=lambda d: d.order)
        self._settings = settings
        self._identities = identities
        self.plan = FeaturePlan(self._detectors)
        self.table = SpaceTable(SPACES["victim"], self.plan.features("victim"))
        self._identified = IdentityVictims(self.plan)
        self.senders = Senders(settings.event_partitions, partition, settings.rollup_partitions)
        self._pending: dict[int, _Tick] = {}
        self._sources = RecentSources(("attempts", "established"))
        self._senders = RecentSources(("packets",))
        self._entrances = RecentEntrances()
        self._copies = Copies(COPY_SUMS)
        self._cold = ColdStart()
        self._suspects: dict[str, int] = {}
        self.cluster = settings.cluster

    def feed(self, messages: Sequence[RollupMessage]) -> list[Advance]:
        """Take messages in log order; how many at once does not matter."""
        out = []
        for message in messages:
            self._take(message)
            if self.senders.advance():
                due = sorted(t for t in self._pending if t <= self.senders.done)
                out.append(Advance([self._evaluate(t, self._pending.pop(t)) for t in due], self.senders.done))
        return out

    def _take(self, message: RollupMessage) -> None:
        tick = self.senders.take(message.header, message.appended_ms)
        if tick is None:
            return
        self.cluster = self.cluster or message.header.cluster
        sections = {name: _columns(name, batch) for name, batch in message.batches.items()}
        self._pending.setdefault(tick, _Tick()).messages.append((message.header, sections))

    def _evaluate(self, tick: int, gathered: _Tick) -> tuple[int, list[Finding], DataQuality]:
        self._identities.pair(max((header.inventory for header in gathered.headers), default=0))
        capabilities = -1
        for header in gathered.headers:
            capabilities &= header.capabilities or -1
        sections = gathered.merged()
        views: dict[str, KeyView] = {}
        if "victim" in sections:
            views["victim"] = self._victims(tick, sections, capabilities)
        views |= self._identified.take(tick, sections, capabilities)
        self._sources.forget(tick)
        self._senders.forget(tick)
        self._entrances.forget(tick)
        silent = self.senders.silent()
        quality = self._cold.mark(_quality(tick, gathered.headers, silent), tick)
        if lost := sum(int(table.take_lost().sum()) for table in (self.table, *self._identified.tables.values())):
            quality = quality.model_copy(update={"shed": quality.shed + lost})
        workloads = WorkloadRows(_ordered(sections["workload"])) if "workload" in sections else None
        tallies = TallyRows.of(tick, sections["tally"]) if "tally" in sections else None
        findings: list[Finding] = []
        self._note_suspects(tick, gathered.headers, ())
        for detector in self._detectors:
            view = TickView(views, self._identities, {"": quality}, workloads, self._top_sources,
                            frozenset(self._suspects), tuple(findings), self._top_senders, tallies,
                            entrances=self._entered)  # fmt: skip
            found = detector.evaluate(view)
            findings += found
            if detector.order == 0:
                self._note_suspects(tick, (), found)
        partitions = self._settings.rollup_partitions
        # Every rollup partition is told; one of them tells.
        told = [h for h in silent if h.sender % partitions == self.partition]
        findings += [silent_sender_finding(tick, header, quality) for header in told]
        return tick, sorted(findings, key=lambda f: (f.detector, f.rule or "", f.subject)), quality

    def _victims(self, tick: int, sections: Mapping[str, Columns], capabilities: int) -> KeyView:
        rows = with_floods(sections["victim"], sections.get("victim_flood"))
        hashes = hash_addresses(rows["dst"], self._settings.seed)
        victims = Grouping.equal(hashes)
        count, first, number = len(victims), victims.first, victims.number
        top = best_by(number, rows["top_port_attempts"], rows["top_port"], count)
        sums = sum_columns(number, np.stack([rows[n] for n in VICTIM_SUMS], axis=1), count)
        own: I64 = np.column_stack([sums, rows["top_port_attempts"][top]])
        counted = own + self._copied(tick, sections.get("victim_copy"), hashes[first], own, number)
        totals = {name: counted[:, place] for place, name in enumerate(COPY_SUMS)}
        answers = rows["reflected_packets"] + rows["induced_questions"]
        service = best_by(number, answers, rows["reflector_port"], count)
        ticks = np.full(count, tick, np.int64)
        weight = np.sum([totals[name] for name in _WEIGHING], axis=0)
        slots = self.table.touch(hashes[first], ticks, lambda new: {"dst": rows["dst"][first[new]]}, weight=weight)
        good = positions(slots >= 0)
        wanted = [(f, f.aggregate) for f in self.plan.features("victim")]
        amounts = {f: totals[a.measure][good] for f, a in wanted if isinstance(a, Sum)}
        self.table.add(slots[good], ticks[good], amounts)
        if "new_source" in sections:
            self._new_sources(tick, sections["new_source"], slots[number])
        if "victim_source" in sections:
            sources = sections["victim_source"]
            self._sources.add(tick, {**sources, "victim": hashes[sources["victim"]]})
        if "flood_sender" in sections:
            senders = sections["flood_sender"]
            self._senders.add(tick, {**senders, "victim": hashes[senders["victim"]]})
        if "entrance" in sections:
            entrances = sections["entrance"]
            self._entrances.add(tick, {**entrances, "victim": hashes[entrances["victim"]]})
        zeros = np.zeros(len(good), np.int64)
        return KeyView(self.table, slots[good], ticks[good], ("",), zeros, np.full(len(good), capabilities, np.int64),
                       {"top_port": rows["top_port"][top][good],
                        "reflector_port": rows["reflector_port"][service][good]})  # fmt: skip

    def _copied(self, tick: int, rows: Columns | None, victims: U64, sums: I64, number: Array) -> I64:
        """Return what copies add that nobody else told; by which interface that came in is not known.

        ``number`` gives the victim of each row of the victim section.
        """
        copied = None if rows is None else {**rows, "victim": number[rows["victim"]]}
        added = self._copies.count(tick, victims, sums, copied)
        packets = sum(added[:, COPY_SUMS.index(name)] for name in _WEIGHING)
        lone = positions(np.asarray(packets) > 0)
        self._entrances.add_unknown(tick, victims[lone], np.asarray(packets)[lone])
        return added

    def _new_sources(self, tick: int, sources: Columns, slots: I64) -> None:
        """Count sources; ``slots`` are by row of the victim section."""
        owners = slots[sources["victim"]]
        kept = owners >= 0
        owners, elements = owners[kept], sources["src_hash"][kept]
        for feature in self.plan.features("victim"):
            if isinstance(feature.aggregate, Distinct):
                ticks, nothing = np.full(len(owners), tick, np.int64), np.zeros(len(owners), np.bool_)
                self.table.add_elements(feature, owners, ticks, elements, nothing)

    def _top_sources(self, dst: bytes) -> list[tuple[str, int, int]]:
        """Return (address, attempts, established) of a victim's most active sources, most active first."""
        return [(src, attempts, established) for src, (attempts, established) in self._sources.busiest(self._hash(dst))]

    def _top_senders(self, dst: bytes) -> list[tuple[str, int]]:
        """Return (address, packets) of those who flood a victim the most, most active first."""
        return [(src, packets) for src, (packets,) in self._senders.busiest(self._hash(dst))]

    def _entered(self, dst: bytes, since: int) -> list[Entrance]:
        """Return by which interfaces a victim was flooded after a tick, the busiest first."""
        return self._entrances.of(self._hash(dst), since)

    def _hash(self, dst: bytes) -> int:
        return int(hash_addresses(np.frombuffer(dst, np.uint8).reshape(1, 16), self._settings.seed)[0])

    def _note_suspects(self, tick: int, headers: Sequence[RollupHeader], findings: Sequence[Finding]) -> None:
        """Remember for a while who was part of a rule's finding: models do not learn from them."""
        for header in headers:
            for ip in header.suspects:
                self._suspects[ip] = tick
        for finding in findings:
            for end in (*finding.attackers, *finding.victims):
                self._suspects[end.ip] = tick
        self._suspects = {ip: t for ip, t in self._suspects.items() if t > tick - _SUSPECT_SECONDS}

    def table_counts(self) -> dict[str, dict[str, int]]:
        """Return what the table of each key space holds and did not take so far."""
        return {"victim": self.table.counts(), **{n: t.counts() for n, t in self._identified.tables.items()}}

    def _parts(self) -> dict[str, Part]:
        return {
            "cold_start": self._cold,
            "table.victim": self.table,
            **{f"table.{name}": table for name, table in self._identified.tables.items()},
            **{f"detector.{d.meta.id}": d for d in self._detectors},
        }

    def snapshot(self) -> dict[str, Section]:
        """Return the state by section; arrays may be live views."""
        own = {
            "cluster": self.cluster,
            "senders": self.senders.snapshot(),
            "suspects": sorted(self._suspects.items()),
            "sources": self._sources.snapshot(),
            "flood_senders": self._senders.snapshot(),
            "entrances": self._entrances.snapshot(),
            "copies": self._copies.snapshot(),
            "pending": {
                str(t): [[header.model_dump(), sections] for header, sections in g.messages]
                for t, g in sorted(self._pending.items())
            },
        }
        return {_OWN: Section(_STATE_VERSION, own), **sections_of(self._parts())}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        """Take in what ``snapshot`` gave, before anything is fed; return the sections that start cold.

        Raises:
            SectionError: a section's content is not what its part keeps.
        """
        parts = self._parts()
        unknown = sorted(set(sections) - set(parts) - {_OWN})
        # Without the senders' ticks repeats would be counted again in whatever else was kept.
        sections = usable(sections, {_OWN: _STATE_VERSION})
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
            self.cluster = str(state["cluster"])
            self.senders.restore(state["senders"])
            self._suspects = {str(ip): int(t) for ip, t in state["suspects"]}
            self._sources.restore(state["sources"])
            self._senders.restore(state["flood_senders"])
            self._entrances.restore(state["entrances"])
            self._copies.restore(state["copies"])
            self._pending = {
                int(t): _Tick([(RollupHeader.model_validate(header), sections) for header, sections in messages])
                for t, messages in state["pending"].items()
            }
        except Exception as error:
            raise SectionError(_OWN, error) from error


def _order(header: RollupHeader) -> tuple[int, int, int]:
    return header.sender, header.tick, header.part


def _columns(name: str, batch: Any) -> Columns:
    out: Columns = {}
    for column in SECTIONS[name]:
        values = batch.column(column.name)
        if pa.types.is_fixed_size_binary(column.dtype):
            out[column.name] = address_bytes(values)
        elif pa.types.is_string(column.dtype):
            out[column.name] = np.array(values.to_pylist(), np.str_)
        else:
            # Writable: loops would be compiled a second time for read-only views.
            out[column.name] = values.to_numpy(zero_copy_only=False, writable=True)
    return out


def _merge(pieces: Sequence[Columns]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


def _ordered(rows: Columns) -> Columns:
    """Return workload rows ordered by (minute, address, node): arrival order must not show."""
    words = np.ascontiguousarray(rows["address"]).view(">u8")
    order = np.lexsort((rows["node"], words[:, 1], words[:, 0], rows["minute"]))
    return {name: values[order] for name, values in rows.items()}


def _quality(tick: int, headers: Sequence[RollupHeader], silent: Sequence[RollupHeader]) -> DataQuality:
    said = [h for h in headers if h.kind == "tick" and h.part == 0]
    notes = [f"event partition {h.sender} is silent and left out" for h in silent]
    if any(h.silent_nodes for h in said):
        notes.append("nodes are silent and left out")
    notes += sorted({note for h in said for note in h.notes})
    return DataQuality(
        sampling=max((h.sampling for h in said), default=1),
        lost_packets=sum(h.lost_packets for h in said),
        lost_rows=sum(h.lost_rows for h in said),
        malformed=sum(h.malformed for h in said),
        late=sum(h.late for h in said) + sum(h.tick < tick for h in said),
        lost_messages=sum(h.lost_messages for h in said),
        restamped=sum(h.restamped for h in said),
        notes=tuple(notes),
    )
