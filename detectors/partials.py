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

from detectors.assembly import Passed
from detectors.floods import SENDERS_NAMED, flood_pieces, no_flood_pieces
from detectors.frame import FlowFrame
from detectors.grouping import Grouping
from detectors.hashing import combine
from detectors.identity_keys import IdentityKeys
from detectors.identity_victims import identity_rows
from detectors.index import I64, positions
from detectors.kernels.grouping import rank_by, sum_columns, top_by
from detectors.lately import Lately
from detectors.minute import SUMS, MinuteRows
from detectors.mixing import hash_addresses, hash_text
from detectors.rollup_batches import Sections, cut, deal, to_batches
from detectors.settings import EngineSettings
from detectors.tally import NodeTally, TallyBook
from detectors.victim_rows import CONNECTIONS, flood_rows, no_services, victim_rows
from schemas.addresses import unpack
from schemas.events import MAX_NOTE, MAX_NOTES
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.rollups import RollupHeader, RollupMessage

Array = npt.NDArray[Any]
Columns = dict[str, Array]

_MEASURES = {"packets": "src_packets", "bytes": "src_bytes"}  # of the frame, where they have another name
_TOP_SOURCES = 4  # per victim and tick
_FLOODED = 100  # packets of a flood in one tick from which a victim's senders are named
_SUSPECTS = 256  # addresses named per tick
_NAMED = 16  # nodes named when a partition falls silent
_BUSY = 4  # attempts in one tick from which a victim's sources are named
_SEEN_PAIRS = 1 << 20  # (victim, source) pairs remembered as sent; without room a pair is sent again


@dataclass
class _Tick:
    victims: list[Columns] = field(default_factory=list)  # dst, dst_hash, port, copy, sums: a row per service
    sources: list[Columns] = field(default_factory=list)  # service (row of those), src, src_hash, attempts, established
    floods: list[Columns] = field(default_factory=list)  # dst, dst_hash, port, reflector_port, copy, sums
    senders: list[Columns] = field(default_factory=list)  # dst_hash, src, packets
    entrances: list[Columns] = field(default_factory=list)  # dst_hash, node, interface, pod, packets
    minutes: list[Columns] = field(default_factory=list)
    tallies: TallyBook = field(default_factory=TallyBook)
    quality: list[DataQuality] = field(default_factory=list)
    suspects: set[str] = field(default_factory=set)
    capabilities: int = -1
    frames: int = 0  # that victims and sources are from; of one, services and pairs are distinct


class Partials:
    """Gathers by tick; gives the messages of ticks that are complete."""

    state_version: ClassVar[int] = 7

    def __init__(self, partition: int, settings: EngineSettings, identities: IdentityTable, bucket: int,
                 asked: Sequence[str] = ()) -> None:  # fmt: skip
        """Start empty.

        Args:
            partition: stage-1 partition.
            settings: of the engine.
            identities: who has an address.
            bucket: for how long a victim's source need not be named again, s; 0: nobody counts sources.
            asked: key spaces of victims by identity.
        """
        self._partition = partition
        self._settings = settings
        self._identities = identities
        self._bucket = bucket
        self._asked, self._keys = tuple(asked), IdentityKeys(identities)
        self._ticks: dict[int, _Tick] = {}
        self._said = Lately(_SEEN_PAIRS, max(1, bucket))
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
        """Add the victims of a frame. Copies are told apart: stage 2 counts those that nobody else told.

        Args:
            frame: one round.
            ticks: the tick in which each place counts.
        """
        members = positions((frame.attempts > 0) | (frame.syn > 0) | (frame.established > 0)
                                 | (frame.exchanged > 0) | (frame.failed > 0))  # fmt: skip
        for tick in np.unique(ticks).tolist():
            mine = members[(ticks == tick)[frame.place[members]]]
            if len(mine):
                self._add(self._at(tick), frame, mine)
        pieces = flood_pieces(frame)
        if pieces is not None:
            self._add_pieces(ticks, floods=pieces[0], senders=pieces[1])

    def add_entrances(self, entrances: Columns, ticks: I64) -> None:
        """Add by which interfaces victims were flooded (`detectors.entrances`); ``ticks`` as for flows."""
        self._add_pieces(ticks, entrances=entrances)

    def _add_pieces(self, ticks: I64, **pieces: Columns) -> None:
        for name, columns in pieces.items():
            counted = ticks[columns["place"]]
            kept = {key: values for key, values in columns.items() if key != "place"}
            for tick in np.unique(counted).tolist():
                rows = counted == tick
                getattr(self._at(tick), name).append({key: values[rows] for key, values in kept.items()})

    def _add(self, place: _Tick, frame: FlowFrame, members: I64) -> None:
        port = frame.service & 0xFFFF
        services = Grouping(members, [frame.dst, port, frame.copy])
        sums = np.stack([frame.measure(_MEASURES.get(name, name))[members] for name in CONNECTIONS], axis=1)
        place.frames += 1
        before = sum(len(piece["port"]) for piece in place.victims)
        place.victims.append({
            "dst": frame.addresses[frame.dst[services.first]], "dst_hash": frame.hashes[frame.dst[services.first]],
            "port": port[services.first], "copy": frame.copy[services.first],
            "sums": sum_columns(services.number, sums, len(services)),
        })  # fmt: skip
        trying = frame.attempts[members] > 0
        if not trying.any():
            return
        service = np.zeros(len(frame), np.int64)
        service[members] = services.number
        pairs = Grouping(members[trying], [frame.dst, frame.src])
        src = frame.src[pairs.first]
        place.sources.append({
            "service": before + service[pairs.first], "src": frame.addresses[src],
            "src_hash": frame.hashes[src], "attempts": pairs.total(frame.attempts),
            "established": pairs.total(frame.established),
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

    def add_tallies(self, joins: Mapping[tuple[int, int], int], rows: Sequence[NodeTally]) -> None:
        """Add what detectors counted; ``joins`` gives the tick in which each (node, tick) counts."""
        for row in rows:
            self._at(joins[row.node, row.tick]).tallies.add(row.what, row.amount)

    def take(self, cluster: str) -> list[RollupMessage]:
        """Return the messages that bring every rollup partition up to the last step.

        One message per partition and tick with content (in parts where that is much), and one at each step for each
        partition: it says that there is nothing more.
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
        out = []
        for partition, sections in enumerate(self._split(step.tick, gathered)):
            header, parts = self._header(cluster, partition, step, gathered), list(cut(sections))
            for number, part in enumerate(parts):
                said = header.model_copy(update={"part": number, "parts": len(parts)})
                out.append(RollupMessage(said, to_batches(part)))
        return out

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
            lost_packets=sum(q.lost_packets for q in quality),
            lost_rows=sum(q.lost_rows + q.shed for q in quality) + gathered.tallies.left_out,
            malformed=sum(q.malformed for q in quality), inventory=self._identities.offset,
            suspects=tuple(sorted(gathered.suspects)[:_SUSPECTS]),
            notes=tuple(sorted({n[:MAX_NOTE] for q in quality for n in q.notes})[:MAX_NOTES]),
        )  # fmt: skip

    def _split(self, tick: int, gathered: _Tick) -> list[Sections]:
        """Return the sections of each rollup partition."""
        parts: list[Sections] = [{} for _ in range(self._settings.rollup_partitions)]
        if gathered.victims or gathered.floods:
            services, floods = _merged(gathered.victims) or no_services(), _merged(gathered.floods) or no_flood_pieces()
            victims, grouped, copies = victim_rows(services, floods, gathered.frames)
            # Seedless: all workers must agree, also those whose seed setting differs by mistake.
            target = (hash_addresses(victims["dst"]) % np.uint64(len(parts))).astype(np.int64)
            deal(parts, "victim", victims, target)
            sections = {"victim_flood": flood_rows(victims)}
            if gathered.sources:
                sections |= self._sources(tick, gathered, victims, grouped)
            if gathered.senders:
                sections["flood_sender"] = self._senders(gathered.senders, victims)
            if gathered.entrances:
                sections["entrance"] = self._entrances(gathered.entrances, victims)
            if copies is not None:
                sections["victim_copy"] = copies
            if self._asked:
                self._deal_identities(parts, tick, victims, sections.get("new_source"))
            row = rank_by(target, len(parts))
            for section, columns in sections.items():
                victim = columns["victim"]
                deal(parts, section, columns | {"victim": row[victim]}, target[victim])
        if gathered.minutes:
            rows = _merged(gathered.minutes)
            pairs = zip(rows["address"], rows["minute"], strict=True)
            hashes = np.array([self._workload(bytes(a), int(m)) for a, m in pairs], np.uint64)
            deal(parts, "workload", rows, (hashes % np.uint64(len(parts))).astype(np.int64))
        if gathered.tallies.amounts:
            deal(parts, "tally", gathered.tallies.columns(), gathered.tallies.partitions(len(parts)))
        return parts

    def _deal_identities(self, parts: list[Sections], tick: int, victims: Columns, new: Columns | None) -> None:
        most = self._settings.sources_per_victim
        rows, sources, hashes = identity_rows(tick, self._asked, self._keys, victims, new, most)
        target = (hashes % np.uint64(len(parts))).astype(np.int64)
        deal(parts, "identity", rows, target)
        if sources is not None:
            place = sources["identity"]
            moved = sources | {"identity": rank_by(target, len(parts))[place]}
            deal(parts, "identity_source", moved, target[place])

    @staticmethod
    def _senders(pieces: Sequence[Columns], victims: Columns) -> Columns:
        rows = _merged(pieces)
        victim = _victims_of(rows, victims)
        pairs = Grouping.equal(combine(rows["dst_hash"], hash_addresses(rows["src"])))
        src, victim, packets = rows["src"][pairs.first], victim[pairs.first], pairs.total(rows["packets"])
        busy = positions(victims["flooded"][victim] >= _FLOODED)
        top = busy[top_by(victim[busy], packets[busy], hash_addresses(src[busy]), len(victims["dst"]), SENDERS_NAMED)]
        return {"victim": victim[top], "src": src[top], "packets": packets[top]}

    @staticmethod
    def _entrances(pieces: Sequence[Columns], victims: Columns) -> Columns:
        rows = _merged(pieces)
        return rows | {"victim": _victims_of(rows, victims)}

    def _sources(self, tick: int, gathered: _Tick, victims: Columns, grouped: Grouping) -> dict[str, Columns]:
        rows = _merged(gathered.sources)
        victim = grouped.number[rows["service"]].astype(np.int64)
        keys = combine(victims["dst_hash"][victim], rows["src_hash"])
        if gathered.frames > 1:
            pairs = Grouping.equal(keys)
            keys, victim = keys[pairs.first], victim[pairs.first]
            sums = {name: pairs.total(rows[name]) for name in ("attempts", "established")}
            rows = {"src": rows["src"][pairs.first], "src_hash": rows["src_hash"][pairs.first], **sums}
        busy = positions(victims["tried"][victim] >= _BUSY)
        count = len(victims["dst_hash"])
        top = busy[top_by(victim[busy], rows["attempts"][busy], rows["src_hash"][busy], count, _TOP_SOURCES)]
        out = {"victim_source": {
            "victim": victim[top], "src": rows["src"][top], "attempts": rows["attempts"][top],
            "established": rows["established"][top],
        }}  # fmt: skip
        if self._bucket:
            new = positions(self._said.fresh(keys, np.full(len(keys), tick, np.int64)))
            new = new[rank_by(victim[new], count) < self._settings.sources_per_victim]
            out["new_source"] = {"victim": victim[new], "src_hash": rows["src_hash"][new]}
        return out

    def _workload(self, address: bytes, at: int) -> int:
        text = unpack(address)
        item = self._identities.find(text, at)
        return hash_text(f"{item.namespace}/{item.workload}" if item is not None and item.workload else text)

    def snapshot(self) -> dict[str, Any]:
        """Return the ticks that are not complete yet and what stage 2 was told, as arrays and JSON values."""
        return {
            "given": self._given,
            "bucket": self._bucket,
            "said": self._said.snapshot(),
            "ticks": {
                str(tick): {
                    "victims": _merged(gathered.victims),
                    "sources": _merged(gathered.sources),
                    "floods": _merged(gathered.floods),
                    "senders": _merged(gathered.senders),
                    "entrances": _merged(gathered.entrances),
                    "minutes": _merged(gathered.minutes),
                    "tallies": gathered.tallies.snapshot(),
                    "quality": [q.model_dump(mode="json") for q in gathered.quality],
                    "suspects": sorted(gathered.suspects),
                    "capabilities": gathered.capabilities,
                    "frames": gathered.frames,
                }
                for tick, gathered in sorted(self._ticks.items())
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._given = int(state["given"])
        if state["bucket"] == self._bucket:
            self._said.restore(state["said"])
        self._ticks = {
            int(tick): _Tick(
                victims=[one["victims"]] if one["victims"] else [],
                sources=[one["sources"]] if one["sources"] else [],
                floods=[one["floods"]] if one["floods"] else [],
                senders=[one["senders"]] if one["senders"] else [],
                entrances=[one["entrances"]] if one["entrances"] else [],
                minutes=[one["minutes"]] if one["minutes"] else [],
                tallies=TallyBook.restored(one["tallies"]),
                quality=[DataQuality.model_validate(q) for q in one["quality"]],
                suspects=set(one["suspects"]),
                capabilities=one["capabilities"],
                frames=one["frames"],
            )
            for tick, one in state["ticks"].items()
        }


def _victims_of(rows: Columns, victims: Columns) -> I64:
    """Return for each row, by its ``dst_hash``, the row of its victim in the victim section."""
    both = Grouping.equal(np.concatenate([victims["dst_hash"], rows["dst_hash"]]))
    owners: I64 = both.number[len(victims["dst_hash"]) :].astype(np.int64)
    return owners


def _merged(pieces: Sequence[Columns]) -> Columns:
    """Return pieces with the same columns as one; nothing of nothing."""
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]} if pieces else {}
