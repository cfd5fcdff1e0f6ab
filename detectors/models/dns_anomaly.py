"""DNS anomaly: a workload begins to ask for domains, or for types of records, that it never asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from detectors.base import Meta, TickView
from detectors.claim_detector import address_of
from detectors.dns_frame import DnsFrame
from detectors.frame import scoped
from detectors.hashing import combine
from detectors.index import I64
from detectors.mixing import hash_text
from detectors.models.novelty import Novelty, NoveltyConfig
from detectors.models.peers import Peer, Surprise
from detectors.names import ZONE_BYTES
from detectors.round_frames import RoundFrames
from detectors.statement import count
from detectors.tally import NodeTally, Tally
from schemas.events import Capability
from schemas.finding import Endpoint, Severity
from schemas.identity import IdentityTable

_ENDS = 5  # halves of client and server as they lie in memory, type
# A, AAAA, SVCB, HTTPS: asked together for one and the same purpose.
_ADDRESSES = (1, 28, 64, 65)
_NAMED = 3  # domains that the summary names


class DnsAnomalyConfig(NoveltyConfig):
    """Limits of ``dns_anomaly``; what is new are domains with a type of record."""


class DnsAnomaly(Novelty):
    """Judges what a workload begins to ask for, by registered domain and type of record.

    Who answers questions itself only forwards and is never judged.
    """

    meta = Meta(
        id="dns_anomaly",
        title="Unusual DNS questions of a workload",
        stage=2,
        severity="medium",
        techniques=("T1071.004",),
        needs=Capability.DNS,
        blind="unusual DNS questions are not seen: the source does not report names asked",
        response=None,
    )
    Config: ClassVar[type[NoveltyConfig]] = DnsAnomalyConfig
    measure: ClassVar[str] = "dns_domain"
    things: ClassVar[tuple[str, str, str]] = ("domains", "record_types", "top_level_domains")
    pairs: ClassVar[int] = 1 << 18
    width: ClassVar[int] = _ENDS + ZONE_BYTES // 8

    def observe(self, frames: RoundFrames) -> None:
        """Tell of domains and types that were not told of in this hour."""
        frame = frames.questions
        if frame is None:
            return
        can_see = (frame.capabilities & int(self.meta.needs)) == int(self.meta.needs)
        rows = frame.subjects
        rows = rows[can_see[rows] & frame.book.in_a_zone(frame.zone[rows]) & frame.private[frame.client[rows]]]
        kind = frame.types[rows]
        kind[np.isin(kind, _ADDRESSES)] = _ADDRESSES[0]
        asked = combine(frame.book.zone_hashes[frame.zone[rows]], kind.astype(np.uint64))
        keys = scoped(frame.node[rows], combine(frame.hashes[frame.client[rows]], asked))
        fresh = self._newcomers.new(keys, frame.tick[rows])
        rows, kind = rows[fresh], kind[fresh]
        told = self._newcomers.turns(frame.node[rows], _lined_up(frame, rows, kind), frame.columns.ticks_of_nodes())
        for node, tick, now in told:
            for row in now:
                self._tell(frames.identities, node, tick, row)

    def _tell(self, identities: IdentityTable, node: int, tick: int, row: I64) -> None:
        packed = row.tobytes()
        client, server = address_of(packed[:16]), address_of(packed[16:32])
        zone = packed[8 * _ENDS :].rstrip(b"\0").decode("ascii", "replace")
        name = self.subject(identities, packed[:16], tick)
        what = Tally(self.measure, name, client, server, int(row[_ENDS - 1]), zone)
        self._counted.append(NodeTally(node, tick, what, 1))

    def peer(self, identities: IdentityTable, what: Tally, tick: int) -> Peer:
        """Return a domain with a type of record."""
        top = what.object.rsplit(".", 1)[-1]
        return Peer(hash_text(f"{what.object} {what.port}"), hash_text(str(what.port)), hash_text(top))

    def told(self, view: TickView, tick: int, new: Sequence[Tally],
             now: Surprise) -> tuple[tuple[Endpoint, ...], tuple[str, ...], Severity, str]:  # fmt: skip
        """Return the domains that were asked for just now; they have no addresses that could be victims."""
        # Releases bring new domains along; new types of records are what tunnels and look-ups by hand bring.
        severity: Severity = self.meta.severity if now.new_ports else "low"
        named = ", ".join(f"{what.object!r}" for what in new[:_NAMED])
        words = f"began to ask for {count(now.new_peers)} new domains, lately {named}"
        return (), self.meta.techniques, severity, words


def _lined_up(frame: DnsFrame, rows: I64, kind: I64) -> I64:
    ends = (frame.addresses[end[rows]].view(np.int64) for end in (frame.client, frame.server))
    zones = frame.book.zone_bytes(frame.zone[rows]).view(np.int64).reshape(len(rows), ZONE_BYTES // 8)
    lined_up: I64 = np.concatenate([*ends, kind[:, None], zones], axis=1)
    return lined_up
