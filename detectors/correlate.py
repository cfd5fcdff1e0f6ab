"""Stage 2: one rollup partition, all that spans nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Detector, KeyView, TickView, WorkloadRows
from detectors.features import Distinct, Sum
from detectors.frame import address_bytes
from detectors.hashing import combine, hash_addresses
from detectors.index import I64, positions
from detectors.partials import VICTIM_SUMS
from detectors.plan import FeaturePlan
from detectors.settings import EngineSettings
from detectors.spaces import SPACES
from detectors.table import SpaceTable
from schemas.addresses import unpack
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.rollups import SCHEMAS, SECTIONS, RollupHeader, RollupMessage

Array = npt.NDArray[Any]
Columns = dict[str, Array]

_SOURCES_NAMED = 20  # most active sources of a victim that a finding may name
_SOURCE_SECONDS = 60  # for which sources are remembered to be named
_SOURCE_ROWS = 100_000  # of them at most, about 5 MB; the oldest are forgotten first
_SUSPECT_SECONDS = 120  # a model's window, and one more for what arrives after it


@dataclass
class _Sender:
    tick: int = 0
    idle: bool = True


@dataclass
class _Tick:
    sections: dict[str, list[Columns]] = field(default_factory=dict)
    headers: list[RollupHeader] = field(default_factory=list)


@dataclass(frozen=True)
class CorrelateOutput:
    """Ticks that every sender completed, ascending, with their findings; and how far that is."""

    ticks: list[tuple[int, list[Finding], DataQuality]]
    watermark: int | None


class CorrelateEngine:
    """The engine of one rollup partition.

    A tick is evaluated when all senders have passed it; idle and empty senders are not waited for. A
    message of a sender that does not go past its last tick is a repeat and is dropped.
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
        self._senders: dict[int, _Sender] = {}
        self._pending: dict[int, _Tick] = {}
        self._done = 0
        self._sources: list[tuple[int, Columns]] = []
        self._suspects: dict[str, int] = {}
        self.repeats = 0
        self.cluster = settings.cluster

    def feed(self, messages: Sequence[RollupMessage]) -> CorrelateOutput:
        """Take messages in log order."""
        for message in messages:
            self._take(message)
        watermark = self._watermark()
        if watermark is None:
            return CorrelateOutput([], None)
        ticks = [self._evaluate(t, self._pending.pop(t)) for t in sorted(self._pending) if t <= watermark]
        self._done = max(self._done, watermark)
        return CorrelateOutput(ticks, self._done)

    def _take(self, message: RollupMessage) -> None:
        header = message.header
        known = header.sender in self._senders
        sender = self._senders.setdefault(header.sender, _Sender())
        if header.kind == "empty":
            if not known:
                sender.idle = True
            return
        if header.tick <= sender.tick:
            self.repeats += 1
            return
        sender.tick, sender.idle = header.tick, header.idle
        self.cluster = self.cluster or header.cluster
        # A sender that starts late speaks of ticks that are done: they count in the next one.
        place = self._pending.setdefault(max(header.tick, self._done + 1), _Tick())
        place.headers.append(header)
        for name, batch in message.batches.items():
            place.sections.setdefault(name, []).append(_columns(name, batch))

    def _watermark(self) -> int | None:
        if len(self._senders) < self._settings.event_partitions:
            return None
        going = [s.tick for s in self._senders.values() if not s.idle]
        if going:
            return min(going)
        # Nobody has said a tick yet: there is nothing to be past, and the cluster is not known either.
        return max(s.tick for s in self._senders.values()) or None

    def _evaluate(self, tick: int, gathered: _Tick) -> tuple[int, list[Finding], DataQuality]:
        quality = _quality(tick, gathered.headers)
        capabilities = -1
        for header in gathered.headers:
            capabilities &= header.capabilities or -1
        views: dict[str, KeyView] = {}
        if "victim" in gathered.sections:
            views["victim"] = self._victims(tick, gathered, capabilities)
        self._note_sources(tick, gathered)
        rows = gathered.sections.get("workload")
        workloads = None if rows is None else WorkloadRows(_ordered(rows))
        findings: list[Finding] = []
        self._note_suspects(tick, gathered.headers, ())
        for detector in self._detectors:
            view = TickView(views, self._identities, {"": quality}, workloads, self._top_sources,
                            frozenset(self._suspects), tuple(findings))  # fmt: skip
            found = detector.evaluate(view)
            findings += found
            if detector.order == 0:
                self._note_suspects(tick, (), found)
        return tick, sorted(findings, key=lambda f: (f.detector, f.rule or "", f.subject)), quality

    def _victims(self, tick: int, gathered: _Tick, capabilities: int) -> KeyView:
        merged = _merge(gathered.sections["victim"])
        hashes = hash_addresses(merged["dst"], self._settings.seed)
        keys, first, number = np.unique(hashes, return_index=True, return_inverse=True)
        ticks = np.full(len(keys), tick, np.int64)
        best = np.lexsort((merged["top_port"], -merged["top_port_attempts"], number))
        top = best[np.searchsorted(number[best], np.arange(len(keys)))]
        slots = self.table.touch(keys, ticks, lambda rows: {"dst": merged["dst"][first[rows]]})
        good = positions(slots >= 0)
        totals = {name: _sum_by(number, merged[name], len(keys)) for name in VICTIM_SUMS}
        totals["top_port_attempts"] = merged["top_port_attempts"][top]
        sums = [(f, f.aggregate) for f in self.plan.features("victim")]
        amounts = {f: totals[a.measure][good] for f, a in sums if isinstance(a, Sum)}
        self.table.add(slots[good], ticks[good], amounts)
        self._new_sources(gathered, keys, slots, ticks)
        count = len(good)
        zeros = np.zeros(count, np.int64)
        return KeyView(self.table, slots[good], ticks[good], ("",), zeros, np.full(count, capabilities, np.int64),
                       {"top_port": merged["top_port"][top][good]})  # fmt: skip

    def _new_sources(self, gathered: _Tick, keys: Array, slots: I64, ticks: I64) -> None:
        pieces = gathered.sections.get("new_source")
        distincts = [f for f in self.plan.features("victim") if isinstance(f.aggregate, Distinct)]
        if pieces is None or not distincts:
            return
        merged = _merge(pieces)
        victims = hash_addresses(merged["dst"], self._settings.seed)
        _, first = np.unique(combine(victims, merged["src_hash"]), return_index=True)
        owner = np.searchsorted(keys, victims[first])
        kept = slots[owner] >= 0
        owner, elements = owner[kept], merged["src_hash"][first[kept]]
        for feature in distincts:
            nothing = np.zeros(len(owner), np.bool_)
            self.table.add_elements(feature, slots[owner], ticks[owner], elements, nothing)

    def _note_sources(self, tick: int, gathered: _Tick) -> None:
        """Keep the busy victims' most active sources for a minute, to name them in findings."""
        pieces = gathered.sections.get("victim_source")
        if pieces is not None:
            self._sources.append((tick, _merge(pieces)))
        kept = 0
        for place in range(len(self._sources) - 1, -1, -1):
            kept += len(self._sources[place][1]["attempts"])
            if self._sources[place][0] <= tick - _SOURCE_SECONDS or kept > _SOURCE_ROWS:
                del self._sources[: place + 1]
                break

    def _top_sources(self, dst: bytes) -> list[tuple[str, int, int]]:
        """Return (address, attempts, established) of a victim's most active sources, most active first."""
        wanted = np.frombuffer(dst, np.uint8)
        seen: dict[bytes, list[int]] = {}
        for _, columns in self._sources:
            for row in positions((columns["dst"] == wanted).all(axis=1)).tolist():
                entry = seen.setdefault(bytes(columns["src"][row]), [0, 0])
                entry[0] += int(columns["attempts"][row])
                entry[1] += int(columns["established"][row])
        best = sorted(seen, key=lambda s: (-seen[s][0], s))[:_SOURCES_NAMED]
        return [(unpack(s), seen[s][0], seen[s][1]) for s in best]

    def _note_suspects(self, tick: int, headers: Sequence[RollupHeader], findings: Sequence[Finding]) -> None:
        """Remember for a while who was part of a rule's finding: models do not learn from them."""
        for header in headers:
            for ip in header.suspects:
                self._suspects[ip] = tick
        for finding in findings:
            for end in (*finding.attackers, *finding.victims):
                self._suspects[end.ip] = tick
        self._suspects = {ip: t for ip, t in self._suspects.items() if t > tick - _SUSPECT_SECONDS}

    def shed(self) -> int:
        """Return how many keys and elements the full table refused so far."""
        return self.table.shed

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON values and arrays."""
        return {
            "cluster": self.cluster,
            "senders": [[n, s.tick, s.idle] for n, s in sorted(self._senders.items())],
            "done": self._done,
            "repeats": self.repeats,
            "suspects": sorted(self._suspects.items()),
            "sources": [[tick, columns] for tick, columns in self._sources],
            "table": self.table.snapshot(),
            "pending": {
                str(t): [[h.model_dump() for h in g.headers], {n: _merge(p) for n, p in g.sections.items()}]
                for t, g in sorted(self._pending.items())
            },
            "detectors": {d.meta.id: d.snapshot() for d in self._detectors},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave; detectors that it does not know start cold."""
        self.cluster = str(state["cluster"])
        self._senders = {n: _Sender(tick, idle) for n, tick, idle in state["senders"]}
        self._done, self.repeats = int(state["done"]), int(state["repeats"])
        self._suspects = {str(ip): int(t) for ip, t in state["suspects"]}
        self._sources = [(int(tick), columns) for tick, columns in state["sources"]]
        self.table.restore(state["table"])
        self._pending = {
            int(t): _Tick({n: [c] for n, c in sections.items()}, [RollupHeader.model_validate(h) for h in headers])
            for t, (headers, sections) in state["pending"].items()
        }
        for detector in self._detectors:
            if detector.meta.id in state["detectors"]:
                detector.restore(state["detectors"][detector.meta.id])


def _columns(name: str, batch: Any) -> Columns:
    out: Columns = {}
    for column in SECTIONS[name]:
        values = batch.column(column.name)
        if column.dtype == SCHEMAS[name].field("dst" if name != "workload" else "address").type:
            out[column.name] = address_bytes(values)
        elif column.name == "node":
            out[column.name] = np.array(values.to_pylist(), np.str_)
        else:
            out[column.name] = values.to_numpy(zero_copy_only=False)
    return out


def _merge(pieces: Sequence[Columns]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


def _ordered(pieces: Sequence[Columns]) -> Columns:
    """Return workload rows ordered by (minute, address, node): arrival order must not show."""
    merged = _merge(pieces)
    words = np.ascontiguousarray(merged["address"]).view(">u8")
    order = np.lexsort((merged["node"], words[:, 1], words[:, 0], merged["minute"]))
    return {name: values[order] for name, values in merged.items()}


def _sum_by(number: I64, values: I64, count: int) -> I64:
    out = np.zeros(count, np.int64)
    np.add.at(out, number, values)
    return out


def _quality(tick: int, headers: Sequence[RollupHeader]) -> DataQuality:
    late = sum(h.late for h in headers) + sum(h.tick < tick for h in headers)
    return DataQuality(
        sampling=max((h.sampling for h in headers), default=1),
        lost_packets=sum(h.lost_packets for h in headers),
        lost_rows=sum(h.lost_rows for h in headers),
        malformed=sum(h.malformed for h in headers),
        late=late,
        notes=tuple(sorted({note for h in headers for note in h.notes})),
    )
