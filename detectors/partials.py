"""What stage 1 keeps for stage 2 until a tick is complete on all nodes of the partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.frame import FlowFrame, Grouping
from detectors.hashing import U64, hash_addresses, hash_text
from detectors.index import I64, positions
from detectors.minute import SUMS, MinuteRows
from detectors.settings import EngineSettings
from schemas.addresses import unpack
from schemas.events import MAX_NOTE, MAX_NOTES
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.rollups import SCHEMAS, SECTIONS, RollupHeader, RollupMessage

Array = npt.NDArray[Any]
Columns = dict[str, Array]

VICTIM_SUMS = ("attempts", "established", "exchanged", "refused", "unanswered", "syn", "packets", "bytes")
_TOP_SOURCES = 4  # per victim and tick
_SUSPECTS = 256  # addresses named per tick
_BUSY = 4  # attempts in one tick from which a victim's sources are named


@dataclass
class _Tick:
    sections: dict[str, list[Columns]] = field(default_factory=dict)
    quality: list[DataQuality] = field(default_factory=list)
    suspects: set[str] = field(default_factory=set)
    capabilities: int = -1
    late: int = 0


class Partials:
    """Gathers by tick; gives the messages of ticks that are complete."""

    def __init__(self, partition: int, settings: EngineSettings, identities: IdentityTable) -> None:
        self._partition = partition
        self._settings = settings
        self._identities = identities
        self._ticks: dict[int, _Tick] = {}
        self.sent = 0  # last tick given

    def _at(self, tick: int) -> _Tick:
        """Return where a tick's partials go; one that was given already is late and joins the next."""
        if tick > self.sent:
            return self._ticks.setdefault(tick, _Tick())
        late = self._ticks.setdefault(self.sent + 1, _Tick())
        late.late += 1
        return late

    def note(self, tick: int, quality: DataQuality, capabilities: int) -> None:
        """Remember how good a node's tick was."""
        place = self._at(tick)
        place.capabilities &= capabilities
        if quality != DataQuality():
            place.quality.append(quality)

    def suspect(self, tick: int, findings: Sequence[Finding]) -> None:
        """Remember who findings name."""
        names = {end.ip for f in findings for end in (*f.attackers, *f.victims) if end.ip}
        if names:
            self._at(tick).suspects.update(names)

    def add_flows(self, frame: FlowFrame) -> None:
        """Add the victims of a frame. Copies count here: the victim's node saw them too."""
        members = positions((frame.attempts > 0) | (frame.syn > 0) | (frame.established > 0)
                                 | (frame.exchanged > 0) | (frame.failed > 0))  # fmt: skip
        if not len(members):
            return
        for tick in np.unique(frame.tick[members]):
            chosen = members[frame.tick[members] == tick]
            self._add_victims(int(tick), frame, chosen)

    def _add_victims(self, tick: int, frame: FlowFrame, members: I64) -> None:
        by_service = Grouping(members, [frame.dst, frame.service & 0xFFFF])
        victims = Grouping(by_service.members, [frame.dst], ordered=True)
        totals = {"packets": frame.src_packets, "bytes": frame.src_bytes}
        columns: Columns = {"dst": frame.addresses[frame.dst[victims.first]]}
        for name in VICTIM_SUMS:
            columns[name] = victims.total(totals[name] if name in totals else frame.measure(name))
        port_attempts = by_service.total(frame.attempts)
        owner = np.searchsorted(victims.starts, by_service.starts, side="right") - 1
        best = _best(owner, port_attempts, len(victims))
        columns["top_port"] = (frame.service & 0xFFFF)[by_service.first[best]]
        columns["top_port_attempts"] = port_attempts[best]
        self._put(tick, "victim", columns)
        self._add_sources(tick, frame, members, columns["attempts"], frame.dst[victims.first])

    def _add_sources(self, tick: int, frame: FlowFrame, members: I64, attempts: I64, victims: I64) -> None:
        chosen = members[frame.attempts[members] > 0]
        if not len(chosen):
            return
        pairs = Grouping(chosen, [frame.dst, frame.src])
        count = pairs.total(frame.attempts)
        dst, src = frame.dst[pairs.first], frame.src[pairs.first]
        order = np.lexsort((frame.hashes[src], -count, dst))
        rank = _rank_within(dst[order])
        busy = attempts[np.searchsorted(victims, dst[order])] >= _BUSY
        top = order[(rank < _TOP_SOURCES) & busy]
        self._put(tick, "victim_source", {
            "dst": frame.addresses[dst[top]], "src": frame.addresses[src[top]], "attempts": count[top],
            "established": pairs.total(frame.established)[top],
        })  # fmt: skip
        some = order[rank < self._settings.sources_per_victim]
        self._put(tick, "new_source", {"dst": frame.addresses[dst[some]], "src_hash": frame.hashes[src[some]]})

    def add_minute(self, tick: int, node: str, rows: MinuteRows) -> None:
        """Add the rows of a node's minute."""
        columns: Columns = {
            "address": rows.address,
            "node": np.full(len(rows.address), node),
            "minute": np.full(len(rows.address), rows.minute, np.int64),
            "peers_out": rows.peers_out,
            "ports_out": rows.ports_out,
        }
        for place, name in enumerate(SUMS):
            columns[name] = rows.sums[:, place]
        self._put(tick, "workload", columns)
        if rows.left_out:
            self._at(tick).quality.append(DataQuality(shed=rows.left_out))

    def _put(self, tick: int, section: str, columns: Columns) -> None:
        if len(next(iter(columns.values()))):
            self._at(tick).sections.setdefault(section, []).append(columns)

    def take(self, watermark: int, cluster: str, *, idle: bool) -> list[RollupMessage]:
        """Return the messages that bring every rollup partition up to the watermark.

        One message per partition and tick with content, and one at the watermark itself for each
        partition: it says that there is nothing more.
        """
        out = []
        count = self._settings.rollup_partitions
        for tick in sorted(t for t in self._ticks if t <= watermark):
            gathered = self._ticks.pop(tick)
            parts = self._split(gathered)
            for partition in range(count):
                if parts[partition] or tick == watermark or gathered.quality or gathered.late or gathered.suspects:
                    header = self._header(cluster, partition, tick, gathered, idle=idle and tick == watermark)
                    out.append(RollupMessage(header, parts[partition]))
        if watermark > self.sent and not any(m.header.tick == watermark for m in out):
            out += [RollupMessage(self._header(cluster, p, watermark, _Tick(), idle=idle)) for p in range(count)]
        self.sent = max(self.sent, watermark)
        return out

    def empty(self, cluster: str) -> list[RollupMessage]:
        """Return the messages that say: this partition has no node, do not wait for it."""
        return [
            RollupMessage(self._header(cluster, p, self.sent, _Tick(), idle=True).model_copy(update={"kind": "empty"}))
            for p in range(self._settings.rollup_partitions)
        ]

    def _header(self, cluster: str, partition: int, tick: int, gathered: _Tick, *, idle: bool) -> RollupHeader:
        quality = gathered.quality
        return RollupHeader(
            cluster=cluster, sender=self._partition, senders=self._settings.event_partitions, partition=partition,
            partitions=self._settings.rollup_partitions, kind="tick", tick=tick, idle=idle,
            capabilities=max(0, gathered.capabilities), late=gathered.late,
            sampling=max((q.sampling for q in quality), default=1),
            lost_packets=sum(q.lost_packets for q in quality), lost_rows=sum(q.lost_rows + q.shed for q in quality),
            malformed=sum(q.malformed for q in quality), suspects=tuple(sorted(gathered.suspects)[:_SUSPECTS]),
            notes=tuple(sorted({n[:MAX_NOTE] for q in quality for n in q.notes})[:MAX_NOTES]),
        )  # fmt: skip

    def _split(self, gathered: _Tick) -> list[dict[str, pa.RecordBatch]]:
        parts: list[dict[str, pa.RecordBatch]] = [{} for _ in range(self._settings.rollup_partitions)]
        for section in SECTIONS:
            pieces = gathered.sections.get(section)
            if not pieces:
                continue
            merged = {c.name: np.concatenate([p[c.name] for p in pieces]) for c in SECTIONS[section]}
            target = self._targets(section, merged)
            order = _canonical(merged)
            for partition in range(len(parts)):
                rows = order[target[order] == partition]
                if len(rows):
                    parts[partition][section] = to_batch(section, {n: v[rows] for n, v in merged.items()})
        return parts

    def _targets(self, section: str, columns: Columns) -> I64:
        count = np.uint64(self._settings.rollup_partitions)
        if section == "workload":
            keys = [
                self._workload(bytes(a), int(m)) for a, m in zip(columns["address"], columns["minute"], strict=True)
            ]
            hashes: U64 = np.array(keys, np.uint64)
        else:
            # Seedless: all workers must agree, also those whose seed setting differs by mistake.
            hashes = hash_addresses(columns["dst"])
        return (hashes % count).astype(np.int64)

    def _workload(self, address: bytes, at: int) -> int:
        text = unpack(address)
        item = self._identities.find(text, at)
        named = item is not None and item.workload
        return hash_text(f"{item.namespace}/{item.workload}" if item is not None and named else text)

    def snapshot(self) -> dict[str, Any]:
        """Return the ticks that are not complete yet, as arrays and JSON values."""
        return {
            str(tick): {
                "sections": {
                    name: {c.name: np.concatenate([p[c.name] for p in pieces]) for c in SECTIONS[name]}
                    for name, pieces in gathered.sections.items()
                },
                "quality": [q.model_dump(mode="json") for q in gathered.quality],
                "suspects": sorted(gathered.suspects),
                "numbers": [gathered.capabilities, gathered.late],
            }
            for tick, gathered in sorted(self._ticks.items())
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._ticks = {
            int(tick): _Tick(
                {name: [columns] for name, columns in one["sections"].items()},
                [DataQuality.model_validate(q) for q in one["quality"]],
                set(one["suspects"]),
                *one["numbers"],
            )
            for tick, one in state.items()
        }


def to_batch(section: str, columns: Columns) -> pa.RecordBatch:
    """Return a rollup section's record batch from numpy columns."""
    arrays = []
    for schema_field in SCHEMAS[section]:
        values = columns[schema_field.name]
        if pa.types.is_fixed_size_binary(schema_field.type):
            buffer = pa.py_buffer(np.ascontiguousarray(values).tobytes())
            arrays.append(pa.Array.from_buffers(schema_field.type, len(values), [None, buffer]))
        else:
            arrays.append(pa.array(values, schema_field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS[section])


def _canonical(columns: Columns) -> I64:
    """Return an order that does not depend on the order of arrival."""
    keys: list[Array] = []
    for values in columns.values():
        if values.ndim == 2:
            words = np.ascontiguousarray(values).view(">u8")
            keys += [words[:, 0], words[:, 1]]
        else:
            keys.append(values)
    return np.lexsort(keys[::-1])


def _best(owner: I64, values: I64, owners: int) -> I64:
    """Return per owner the position of its largest value, the first of equals; owners are ascending."""
    order = np.lexsort((np.arange(len(values)), -values, owner))
    starts = np.searchsorted(owner[order], np.arange(owners))
    return order[starts]


def _rank_within(groups: I64) -> I64:
    """Return each position's rank within its run of equal values."""
    starts = positions(np.concatenate([[True], groups[1:] != groups[:-1]])) if len(groups) else np.zeros(0, int)
    lengths = np.diff(np.append(starts, len(groups)))
    return np.arange(len(groups)) - np.repeat(starts, lengths)
