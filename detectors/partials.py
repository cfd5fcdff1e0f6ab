"""What stage 1 keeps for stage 2 until a tick is complete on all nodes of the partition.

Pieces are gathered as they come and put together when the tick is complete, so it does not matter how nodes and
batches were mixed. A tick that was passed is not opened again: what comes later is late and joins the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.assembly import Passed
from detectors.floods import FLOOD_SUMS, SENDERS_NAMED, flood_pieces
from detectors.frame import FlowFrame
from detectors.grouping import Grouping
from detectors.hashing import U64, combine, hash_addresses, hash_text
from detectors.index import I64, positions
from detectors.kernels.grouping import best_by, number_words, rank_by, sum_columns
from detectors.kernels.windows import renew
from detectors.minute import SUMS, MinuteRows
from detectors.settings import EngineSettings
from detectors.slots import Slots
from schemas.addresses import unpack
from schemas.events import MAX_NOTE, MAX_NOTES
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.rollups import SCHEMAS, SECTIONS, RollupHeader, RollupMessage

Array = npt.NDArray[Any]
Columns = dict[str, Array]

_CONNECTIONS = ("attempts", "established", "exchanged", "refused", "unanswered", "syn", "packets", "bytes")
VICTIM_SUMS = (*_CONNECTIONS, *FLOOD_SUMS)
_MEASURES = {"packets": "src_packets", "bytes": "src_bytes"}  # of the frame, where they have another name
_TOP_SOURCES = 4  # per victim and tick
_NAMED_BY = ("udp_packets", "icmp_packets", "reflected_packets", "induced_questions")
_FLOODED = 100  # packets of a flood in one tick from which a victim's senders are named
_SUSPECTS = 256  # addresses named per tick
_NAMED = 16  # nodes named when a partition falls silent
_BUSY = 4  # attempts in one tick from which a victim's sources are named
_SEEN_PAIRS = 1 << 20  # (victim, source) pairs remembered as sent; without room a pair is sent again


@dataclass
class _Tick:
    victims: list[Columns] = field(default_factory=list)  # dst, port, sums
    sources: list[Columns] = field(default_factory=list)  # dst, src, src_hash, attempts, established
    floods: list[Columns] = field(default_factory=list)  # dst, port, reflector_port, sums
    senders: list[Columns] = field(default_factory=list)  # dst, src, packets
    minutes: list[Columns] = field(default_factory=list)
    quality: list[DataQuality] = field(default_factory=list)
    suspects: set[str] = field(default_factory=set)
    capabilities: int = -1


class Partials:
    """Gathers by tick; gives the messages of ticks that are complete."""

    state_version: ClassVar[int] = 3

    def __init__(self, partition: int, settings: EngineSettings, identities: IdentityTable, bucket: int) -> None:
        """Start empty.

        Args:
            partition: stage-1 partition.
            settings: of the engine.
            identities: who has an address.
            bucket: for how long a victim's source need not be named again, s; 0: nobody counts sources.
        """
        self._partition = partition
        self._settings = settings
        self._identities = identities
        self._bucket = bucket
        self._ticks: dict[int, _Tick] = {}
        self._seen = Slots(_SEEN_PAIRS, 2)
        self._steps: list[Passed] = []
        self._given = 0  # last tick given

    def step(self, passed: Passed) -> None:
        """Tell how far the partition's nodes have come."""
        self._steps.append(passed)

    def _at(self, tick: int) -> _Tick:
        return self._ticks.setdefault(tick, _Tick())

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

    def add_flows(self, frame: FlowFrame, ticks: I64) -> None:
        """Add the victims of a frame. Copies count here: the victim's node saw them too.

        Args:
            frame: one round.
            ticks: the tick in which each place counts.
        """
        members = positions((frame.attempts > 0) | (frame.syn > 0) | (frame.established > 0)
                                 | (frame.exchanged > 0) | (frame.failed > 0))  # fmt: skip
        counted = ticks[frame.place[members]]
        for tick in np.unique(counted).tolist():
            self._add(self._at(tick), frame, members[counted == tick])
        pieces = flood_pieces(frame)
        if pieces is not None:
            self._add_floods(ticks, *pieces)

    def _add_floods(self, ticks: I64, floods: Columns, senders: Columns) -> None:
        for name, columns in (("floods", floods), ("senders", senders)):
            counted = ticks[columns["place"]]
            kept = {key: values for key, values in columns.items() if key != "place"}
            for tick in np.unique(counted).tolist():
                rows = counted == tick
                getattr(self._at(tick), name).append({key: values[rows] for key, values in kept.items()})

    def _add(self, place: _Tick, frame: FlowFrame, members: I64) -> None:
        port = frame.service & 0xFFFF
        services = Grouping(members, [frame.dst, port])
        sums = np.stack([frame.measure(_MEASURES.get(name, name)) for name in _CONNECTIONS], axis=1)[members]
        place.victims.append({
            "dst": frame.addresses[frame.dst[services.first]], "port": port[services.first],
            "sums": sum_columns(services.number, sums, len(services)),
        })  # fmt: skip
        trying = members[frame.attempts[members] > 0]
        if not len(trying):
            return
        pairs = Grouping(trying, [frame.dst, frame.src])
        dst, src = frame.dst[pairs.first], frame.src[pairs.first]
        place.sources.append({
            "dst": frame.addresses[dst], "src": frame.addresses[src], "src_hash": frame.hashes[src],
            "attempts": pairs.total(frame.attempts), "established": pairs.total(frame.established),
        })  # fmt: skip

    def add_minute(self, tick: int, node: str, rows: MinuteRows) -> None:
        """Add the rows of a node's minute."""
        if not len(rows.address):
            return
        columns: Columns = {
            "address": rows.address,
            "node": np.full(len(rows.address), node),
            "minute": np.full(len(rows.address), rows.minute, np.int64),
            "peers_out": rows.peers_out,
            "ports_out": rows.ports_out,
        }
        for place, name in enumerate(SUMS):
            columns[name] = rows.sums[:, place]
        self._at(tick).minutes.append(columns)
        if rows.left_out:
            self._at(tick).quality.append(DataQuality(shed=rows.left_out))

    def take(self, cluster: str) -> list[RollupMessage]:
        """Return the messages that bring every rollup partition up to the last step.

        One message per partition and tick with content, and one at each step for each partition: it says that
        there is nothing more.
        """
        out: list[RollupMessage] = []
        for step in self._steps:
            for tick in sorted(t for t in self._ticks if t < step.tick):
                out += self._messages(cluster, Passed(tick, step.silent, idle=False))
            out += self._messages(cluster, step)
            self._given = step.tick
        self._steps = []
        return out

    def _messages(self, cluster: str, step: Passed) -> list[RollupMessage]:
        gathered = self._ticks.pop(step.tick, None) or _Tick()
        parts = self._split(step.tick, gathered)
        return [
            RollupMessage(self._header(cluster, partition, step, gathered), batches)
            for partition, batches in enumerate(parts)
        ]

    def empty(self, cluster: str) -> list[RollupMessage]:
        """Return the messages that say: this partition has no node, do not wait for it."""
        return self._left_out(cluster, kind="empty")

    def silence(self, cluster: str, nodes: Sequence[str]) -> list[RollupMessage]:
        """Return the messages that say: nothing comes any more, though these nodes have not ended."""
        return self._left_out(cluster, kind="idle", silent_nodes=len(nodes), silent=tuple(nodes[:_NAMED]))

    def _left_out(self, cluster: str, **fields: Any) -> list[RollupMessage]:
        step = Passed(self._given, 0, idle=True)
        headers = [self._header(cluster, p, step, _Tick()) for p in range(self._settings.rollup_partitions)]
        return [RollupMessage(h.model_copy(update=fields)) for h in headers]

    def _header(self, cluster: str, partition: int, step: Passed, gathered: _Tick) -> RollupHeader:
        quality = gathered.quality
        return RollupHeader(
            cluster=cluster, sender=self._partition, senders=self._settings.event_partitions, partition=partition,
            partitions=self._settings.rollup_partitions, kind="tick", tick=step.tick, idle=step.idle,
            capabilities=max(0, gathered.capabilities), late=sum(q.late for q in quality), silent_nodes=step.silent,
            lost_messages=sum(q.lost_messages for q in quality), restamped=sum(q.restamped for q in quality),
            sampling=max((q.sampling for q in quality), default=1),
            lost_packets=sum(q.lost_packets for q in quality), lost_rows=sum(q.lost_rows + q.shed for q in quality),
            malformed=sum(q.malformed for q in quality), inventory=self._identities.offset,
            suspects=tuple(sorted(gathered.suspects)[:_SUSPECTS]),
            notes=tuple(sorted({n[:MAX_NOTE] for q in quality for n in q.notes})[:MAX_NOTES]),
        )  # fmt: skip

    def _split(self, tick: int, gathered: _Tick) -> list[dict[str, pa.RecordBatch]]:
        """Return the batches of each rollup partition."""
        parts: list[dict[str, pa.RecordBatch]] = [{} for _ in range(self._settings.rollup_partitions)]
        if gathered.victims or gathered.floods:
            victims = self._victims(gathered)
            # Seedless: all workers must agree, also those whose seed setting differs by mistake.
            target = (hash_addresses(victims["dst"]) % np.uint64(len(parts))).astype(np.int64)
            _deal(parts, "victim", victims, target)
            sections = self._sources(tick, gathered.sources, victims) if gathered.sources else {}
            if gathered.senders:
                sections["flood_sender"] = self._senders(gathered.senders, victims)
            row = rank_by(target, len(parts))
            for section, columns in sections.items():
                victim = columns["victim"]
                _deal(parts, section, columns | {"victim": row[victim]}, target[victim])
        if gathered.minutes:
            rows = _merged(gathered.minutes)
            pairs = zip(rows["address"], rows["minute"], strict=True)
            hashes = np.array([self._workload(bytes(a), int(m)) for a, m in pairs], np.uint64)
            _deal(parts, "workload", rows, (hashes % np.uint64(len(parts))).astype(np.int64))
        return parts

    @classmethod
    def _victims(cls, gathered: _Tick) -> Columns:
        dst, port, connections = cls._services(gathered.victims)
        flood = _merged(gathered.floods) or _no_floods()
        both = np.concatenate([dst, flood["dst"]])
        victims = Grouping(np.arange(len(both)), [_numbered(both.view(np.int64))])
        sums = np.zeros((len(both), len(VICTIM_SUMS)), np.int64)
        sums[: len(dst), : len(_CONNECTIONS)] = connections
        sums[len(dst) :, len(_CONNECTIONS) :] = flood["sums"]
        attempts = sums[:, 0].copy()
        attempts[len(dst) :] = -1  # a port that connections were opened to goes before one that was flooded
        best = best_by(victims.number, attempts, np.concatenate([port, flood["port"]]), len(victims))
        services = np.concatenate([np.zeros(len(dst), np.int64), flood["reflector_port"]])
        answers = sums[:, VICTIM_SUMS.index("reflected_packets")] + sums[:, VICTIM_SUMS.index("induced_questions")]
        service = best_by(victims.number, answers, services, len(victims))
        totals = sum_columns(victims.number, sums, len(victims))
        columns = {
            "dst": both[victims.first], "top_port": np.concatenate([port, flood["port"]])[best],
            "top_port_attempts": np.maximum(attempts[best], 0), "reflector_port": services[service],
        }  # fmt: skip
        return columns | {name: totals[:, i] for i, name in enumerate(VICTIM_SUMS)}

    @staticmethod
    def _services(pieces: Sequence[Columns]) -> tuple[Array, I64, I64]:
        """Return (dst, port, sums) of each service that connections were opened to."""
        rows = _merged(pieces)
        if not rows:
            return np.zeros((0, 16), np.uint8), np.zeros(0, np.int64), np.zeros((0, len(_CONNECTIONS)), np.int64)
        words = rows["dst"].view(np.int64)
        services = Grouping(np.arange(len(words)), [_numbered(words), rows["port"]])
        sums = sum_columns(services.number, rows["sums"], len(services))
        return rows["dst"][services.first], rows["port"][services.first], sums

    @staticmethod
    def _senders(pieces: Sequence[Columns], victims: Columns) -> Columns:
        rows = _merged(pieces)
        both = np.concatenate([victims["dst"], rows["dst"]])
        victim = _numbered(both.view(np.int64))[len(victims["dst"]) :]
        pairs = Grouping(np.arange(len(victim)), [victim, _numbered(rows["src"].view(np.int64))])
        src, victim, packets = rows["src"][pairs.first], victim[pairs.first], pairs.total(rows["packets"])
        flooded = sum(victims[name] for name in _NAMED_BY)
        busy = positions(np.asarray(flooded)[victim] >= _FLOODED)
        busy = busy[np.lexsort((hash_addresses(src[busy]), -packets[busy]))]
        top = busy[rank_by(victim[busy], len(victims["dst"])) < SENDERS_NAMED]
        return {"victim": victim[top], "src": src[top], "packets": packets[top]}

    def _sources(self, tick: int, pieces: Sequence[Columns], victims: Columns) -> dict[str, Columns]:
        rows = _merged(pieces)
        # Numbered together with the victims, which come first: a source's victim has the victim's own number.
        both = np.concatenate([victims["dst"], rows["dst"]])
        victim = _numbered(both.view(np.int64))[len(victims["dst"]) :]
        pairs = Grouping(np.arange(len(victim)), [victim, _numbered(rows["src"].view(np.int64))])
        first = pairs.first
        victim, attempts = victim[first], pairs.total(rows["attempts"])
        established, hashes = pairs.total(rows["established"]), rows["src_hash"][first]
        busy = positions(victims["attempts"][victim] >= _BUSY)
        busy = busy[np.lexsort((hashes[busy], -attempts[busy]))]
        top = busy[rank_by(victim[busy], len(victims["dst"])) < _TOP_SOURCES]
        out = {"victim_source": {
            "victim": victim[top], "src": rows["src"][first[top]], "attempts": attempts[top],
            "established": established[top],
        }}  # fmt: skip
        if self._bucket:
            new = self._unsaid(tick, combine(hash_addresses(rows["dst"][first]), hashes))
            new = new[rank_by(victim[new], len(victims["dst"])) < self._settings.sources_per_victim]
            out["new_source"] = {"victim": victim[new], "src_hash": hashes[new]}
        return out

    def _unsaid(self, tick: int, keys: U64) -> I64:
        """Return which pairs stage 2 has not been told of lately, and remember that it is told now."""
        seen = self._seen
        seen.make_room(len(keys))
        new = renew(seen.cells, seen.rows, seen.free, seen.state, seen.capacity, keys.view(np.int64),
                    tick // self._bucket, 2)  # fmt: skip
        return positions(new)

    def _workload(self, address: bytes, at: int) -> int:
        text = unpack(address)
        item = self._identities.find(text, at)
        named = item is not None and item.workload
        return hash_text(f"{item.namespace}/{item.workload}" if item is not None and named else text)

    def snapshot(self) -> dict[str, Any]:
        """Return the ticks that are not complete yet and what stage 2 was told, as arrays and JSON values."""
        return {
            "given": self._given,
            "bucket": self._bucket,
            "seen": self._seen.snapshot(),
            "ticks": {
                str(tick): {
                    "victims": _merged(gathered.victims),
                    "sources": _merged(gathered.sources),
                    "floods": _merged(gathered.floods),
                    "senders": _merged(gathered.senders),
                    "minutes": _merged(gathered.minutes),
                    "quality": [q.model_dump(mode="json") for q in gathered.quality],
                    "suspects": sorted(gathered.suspects),
                    "capabilities": gathered.capabilities,
                }
                for tick, gathered in sorted(self._ticks.items())
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._given = int(state["given"])
        if state["bucket"] == self._bucket:
            self._seen.restore(state["seen"], np.array(state["seen"]["rows"]))
        self._ticks = {
            int(tick): _Tick(
                victims=[one["victims"]] if one["victims"] else [],
                sources=[one["sources"]] if one["sources"] else [],
                floods=[one["floods"]] if one["floods"] else [],
                senders=[one["senders"]] if one["senders"] else [],
                minutes=[one["minutes"]] if one["minutes"] else [],
                quality=[DataQuality.model_validate(q) for q in one["quality"]],
                suspects=set(one["suspects"]),
                capabilities=one["capabilities"],
            )
            for tick, one in state["ticks"].items()
        }


def _merged(pieces: Sequence[Columns]) -> Columns:
    """Return pieces with the same columns as one; nothing of nothing."""
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]} if pieces else {}


def _no_floods() -> Columns:
    none = np.zeros(0, np.int64)
    return {"dst": np.zeros((0, 16), np.uint8), "port": none, "reflector_port": none,
            "sums": np.zeros((0, len(FLOOD_SUMS)), np.int64)}  # fmt: skip


def _numbered(words: I64) -> I64:
    """Number equal addresses, given as two words each, in order of first appearance."""
    number, _ = number_words(words[:, 0].copy(), words[:, 1].copy())
    wide: I64 = number.astype(np.int64)
    return wide


def _deal(parts: list[dict[str, pa.RecordBatch]], section: str, columns: Columns, target: I64) -> None:
    """Give each rollup partition its rows of a section, in their order."""
    for partition, batches in enumerate(parts):
        rows = positions(target == partition)
        if len(rows):
            batches[section] = to_batch(section, {c.name: columns[c.name][rows] for c in SECTIONS[section]})


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
