"""DNS flood: names made up below one zone until its servers drown, or simply far too many questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import Detector, DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import address_text
from detectors.columns import halves_of
from detectors.dns_frame import DnsFrame
from detectors.features import Feature
from detectors.grouping import Grouping
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.kernels.grouping import rank_by
from detectors.lately import Lately
from detectors.ledger import Ledger
from detectors.names import hash_one
from detectors.round_frames import RoundFrames
from detectors.statement import count
from detectors.tally import NOBODY, Address, Counted, NodeTally, Tally, TallyWindow
from schemas.events import Capability
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding

_NAMES, _FAILURES, _ASKED = "failed_dns_names", "dns_failures", "dns_zone_queries"
_QUERIES = "dns_client_queries"
# A name that failed is not new again for so long, to twice that: what is retried all the time is no flood.
_KNOWN = 300  # s
_PAIRS = 1 << 18  # (zone, name) pairs remembered as having failed; without room a name is new again
_ZONES = 256  # per node and tick, those with most new names first
_NAMED_FROM = 10  # new names of a zone in one tick from which clients are told apart; below, the first stands for all
_CLIENTS = 8  # told apart, those with most new names
_BUSY = 25  # questions of a client in one tick from which they count: a twentieth of the limit's rate


class DnsFloodConfig(DetectorConfig):
    """Limits of ``dns_flood``."""

    names: Annotated[int, Field(ge=1)] = Field(
        1000, description="names below one zone that do not exist, first asked within the window (count)"
    )
    failed_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="share of the zone's questions that failed; a crawler finds most of what it asks for"
    )
    own_zones: tuple[str, ...] = Field(
        ("cluster.local",), description="zones of search paths: every name outside is asked below them first, and fails"
    )
    queries: Annotated[int, Field(ge=1)] = Field(
        15_000, description="questions of one client within the window (count): 500 a second, whatever they ask"
    )
    window: Annotated[int, Field(ge=12)] = Field(30, description="s")


class DnsFlood(Detector):
    """Fires per zone for made-up names, and per client for a mass of questions, both summed over nodes.

    A client that answers queries itself only forwards and is never the subject.
    """

    meta = Meta(
        id="dns_flood",
        title="DNS flood",
        stage=2,
        severity="high",
        techniques=("T1498.001", "T1499.002"),
        needs=Capability.DNS | Capability.DNS_ANSWERS,
        blind="DNS floods are not seen: the source does not report answers to DNS queries",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = DnsFloodConfig
    config: DnsFloodConfig
    state_version: ClassVar[int] = 3

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._failed = Lately(_PAIRS, _KNOWN)
        self._counted: list[NodeTally] = []
        # What belongs to no zone counts as little as what is asked below search paths.
        self._own = np.array([hash_one(zone) for zone in ("", *self.config.own_zones)], np.uint64)
        window = self.config.window
        self._ledgers = {name: Ledger(Counted, 1024, window) for name in ("zones", "clients")}
        self._zones = TallyWindow(self._ledgers["zones"], (_NAMES, _FAILURES, _ASKED), window)
        self._clients = TallyWindow(self._ledgers["clients"], (_QUERIES,), window)

    def features(self) -> Sequence[Feature]:
        """None: zones and clients are told by tallies."""
        return ()

    def observe(self, frames: RoundFrames) -> None:
        """Count new names that failed, by zone, and the questions of busy clients."""
        frame = frames.questions
        if frame is None:
            return
        can_see = (frame.capabilities & int(self.meta.needs)) == int(self.meta.needs)
        rows = frame.subjects[can_see[frame.subjects]]
        self._count_clients(frame, rows)
        rows = rows[~np.isin(frame.book.zone_hashes[frame.zone[rows]], self._own)]
        new = self._new_failures(frame, rows)
        if new.any():
            self._count_zones(frame, rows, new)

    def _count_clients(self, frame: DnsFrame, rows: I64) -> None:
        if not len(rows) or np.bincount(frame.client[rows]).max() < _BUSY:
            return
        clients = Grouping(rows, [frame.place, frame.client])
        queries = clients.total(frame.queries)
        for at in positions(queries >= _BUSY).tolist():
            row = int(clients.first[at])
            client = _half(frame, frame.client[row])
            what = Tally(_QUERIES, address_text(client), client, _half(frame, frame.server[row]), 53)
            self._counted.append(NodeTally(int(frame.node[row]), int(frame.tick[row]), what, int(queries[at])))

    def _new_failures(self, frame: DnsFrame, rows: I64) -> I64:
        """Return 1 for each of the rows whose name fails for the first time in a while, else 0."""
        failed = positions(frame.failures[rows] > 0)
        new = np.zeros(len(rows), np.int64)
        if not len(failed):
            return new
        at = rows[failed]
        keys = combine(frame.book.zone_hashes[frame.zone[at]], frame.book.name_hashes[frame.name[at]])
        new[failed] = self._failed.fresh(keys, frame.tick[at])
        return new

    def _count_zones(self, frame: DnsFrame, rows: I64, new: I64) -> None:
        every = np.zeros(len(frame), np.int64)
        every[rows] = new
        zones = Grouping(rows, [frame.place, frame.zone])
        names, place = zones.total(every), frame.place[zones.first]
        kept = positions(names > 0)
        kept = kept[np.lexsort((-names[kept], place[kept]))]
        kept = kept[rank_by(place[kept], int(place.max()) + 1) < _ZONES]
        first = zones.first[kept]
        clients = self._clients_of(frame, zones, every, names >= _NAMED_FROM)
        texts = [zone.decode("ascii", "replace") for zone in frame.book.zone_bytes(frame.zone[first]).tolist()]
        totals = (total[kept].tolist() for total in (names, zones.total(frame.failures), zones.total(frame.queries)))
        ends = (_halves(frame, of[first]) for of in (frame.client, frame.server))
        where = (frame.node[first].tolist(), frame.tick[first].tolist())
        for at, zone, number, failures, asked, client, server, node, tick in zip(
            kept.tolist(), texts, *totals, *ends, *where, strict=True
        ):
            shares = clients.get(at) or [(client, number)]
            self._counted += [
                *(NodeTally(node, tick, Tally(_NAMES, zone, who, server, 53), share) for who, share in shares),
                NodeTally(node, tick, Tally(_FAILURES, zone, NOBODY, server, 53), failures),
                NodeTally(node, tick, Tally(_ASKED, zone, NOBODY, server, 53), asked),
            ]

    @staticmethod
    def _clients_of(
        frame: DnsFrame, zones: Grouping, names: I64, many: npt.NDArray[np.bool_]
    ) -> dict[int, list[tuple[Address, int]]]:
        """Return the clients with most new names of each zone that has many, and what is left to others."""
        if not many.any():
            return {}
        zone_of = np.zeros(len(frame), np.int64)
        zone_of[zones.members] = zones.number
        parts = Grouping(zones.members[many[zones.number] & (names[zones.members] > 0)], [zone_of, frame.client])
        found: dict[int, list[tuple[int, int]]] = {}
        for first, number in zip(parts.first.tolist(), parts.total(names).tolist(), strict=True):
            found.setdefault(int(zone_of[first]), []).append((int(frame.client[first]), number))
        out = {}
        for zone, clients in found.items():
            most = sorted(clients, key=lambda c: -c[1])
            rest = sum(number for _, number in most[_CLIENTS:])
            told = [(_half(frame, client), number) for client, number in most[:_CLIENTS]]
            out[zone] = told + ([(NOBODY, rest)] if rest else [])
        return out

    def tallies(self) -> Sequence[NodeTally]:
        """Return what was counted of zones and clients."""
        counted, self._counted = self._counted, []
        return counted

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per flooded zone and one per flooding client."""
        if view.tallies is None:
            return []
        tick, config = view.tallies.tick, self.config
        found = []
        for zone, entry in self._zones.take(view.tallies):
            names, failures, asked = entry.sums()
            if names > config.names and failures >= config.failed_share * asked:
                found.append(self._of_zone(view, tick, zone, entry))
        for client, entry in self._clients.take(view.tallies):
            (queries,) = entry.sums()
            if queries > config.queries:
                found.append(self._of_client(view, tick, client, entry))
        return sorted(found, key=lambda f: f.subject)

    def _of_zone(self, view: TickView, tick: int, zone: str, entry: Counted) -> Finding:
        config, (names, failures, asked) = self.config, entry.sums()
        evidence = (
            Evidence(name="failed_dns_names", value=names, limit=config.names, unit="names", window=config.window),
            Evidence(name="dns_failures", value=failures, unit="queries", window=config.window),
            Evidence(name="dns_queries", value=asked, unit="queries", window=config.window),
        )
        clients = len(entry.sources)
        summary = (f"{count(names)} new names below {zone!r} asked in vain within {config.window} s, limit "
                   f"{count(config.names)}, {failures / max(asked, 1):.0%} of {count(asked)} questions failed, by "
                   f"{clients} clients")  # fmt: skip
        return self._finding(view, tick, zone, entry, confidence(names, config.names), evidence, summary)

    def _of_client(self, view: TickView, tick: int, client: str, entry: Counted) -> Finding:
        config, (queries,) = self.config, entry.sums()
        evidence = (
            Evidence(name="dns_queries", value=queries, limit=config.queries, unit="queries", window=config.window),
        )
        summary = f"{count(queries)} questions by {client} within {config.window} s, limit {count(config.queries)}"
        return self._finding(view, tick, client, entry, confidence(queries, config.queries), evidence, summary)

    def _finding(self, view: TickView, tick: int, subject: str, entry: Counted, sure: float,
                 evidence: tuple[Evidence, ...], summary: str) -> Finding:  # fmt: skip
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=sure, tick=tick, started=tick - self.config.window, node="", subject=subject,
            attackers=tuple(view.endpoint(address_text(c), tick) for c in entry.busiest()[:MAX_ENDPOINTS]),
            victims=tuple(view.endpoint(address_text((t[0], t[1])), tick) for t in entry.hit()),
            techniques=self.meta.techniques, evidence=evidence, summary=summary,
            # A question over UDP may bear any address.
            spoofable=True, data_quality=view.quality[""], response=self.meta.response, quiet=60,
        )  # fmt: skip

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the names that failed lately (stage 1), zones and clients (stage 2)."""
        return self._failed.snapshot() | {name: ledger.snapshot() for name, ledger in self._ledgers.items()}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self._failed.restore(state)
        for name, ledger in self._ledgers.items():
            ledger.restore(state[name])


def _half(frame: DnsFrame, number: int) -> Address:
    (half,) = _halves(frame, np.array([number]))
    return half


def _halves(frame: DnsFrame, numbers: I64) -> list[Address]:
    return [(high, low) for high, low in halves_of(frame.addresses[numbers]).tolist()]
