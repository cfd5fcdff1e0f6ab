"""TLS certificate change: a server suddenly shows a certificate of another authority."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.issuer_class import is_public, issuer_class
from detectors.ledger import Entry
from detectors.mixing import U64, hash_text
from detectors.round_frames import RoundFrames
from detectors.row_frame import row_keys
from detectors.tls_frame import TlsFrame
from schemas.events import Capability
from schemas.finding import Evidence, Finding, Severity

_ISSUERS = 8
# What was no surprise in so many seconds is none either for the next while: what is known of a server stands.
_SEEN = 2
_PASSED_OVER = 60  # s
_CONFIDENCE: dict[Severity, float] = {"high": 0.85, "medium": 0.6, "low": 0.3}


@dataclass
class _Server(Entry):
    """One server name, or address and port, and who issued what it showed."""

    issuers: list[str] = field(default_factory=list)
    shown: list[list[int]] = field(default_factory=list)  # per issuer: [first tick, last tick, seconds seen in]
    addresses: list[list[int]] = field(default_factory=list)


class TlsCertificateChangeConfig(DetectorConfig):
    """Limits of ``tls_certificate_change``."""

    settled: Annotated[int, Field(ge=1)] = Field(
        60, description="s that a server must have shown its usual authority before another one is a change"
    )
    authorities: Annotated[int, Field(ge=1, le=_ISSUERS)] = Field(
        2, description="authorities from which on a name has many back ends and another one says nothing (count)"
    )
    adopted: Annotated[int, Field(ge=60)] = Field(
        86_400, description="s after which another authority is taken as the server's own"
    )
    memory: Annotated[int, Field(ge=3600)] = Field(
        604_800, description="s that a server's authorities are remembered; a week covers what is used on working days"
    )


class TlsCertificateChange(ClaimDetector):
    """Fires per server whose certificate is of an authority that it never used. Renewals keep their authority."""

    meta = Meta(
        id="tls_certificate_change",
        title="TLS certificate change",
        stage=1,
        severity="high",
        techniques=("T1557", "T1587.003"),
        needs=Capability.TLS,
        blind="changes of TLS certificates are not seen: the source does not report TLS",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = TlsCertificateChangeConfig
    config: TlsCertificateChangeConfig
    state_version = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._servers = self.ledger("servers", _Server, 2048, self.config.memory)
        self._usual = self.remembered("usual", 8192, _PASSED_OVER, 1)  # seconds in which one was looked at

    def observe(self, frames: RoundFrames) -> None:
        """Take in certificates."""
        tls = frames.tls
        if tls is None:
            return
        number, certificates = tls.certificate
        shown = number >= 0
        if "" in certificates:
            shown = number != certificates.index("")
        rows = positions(shown)
        if len(rows):
            self._look(frames, tls, rows)

    def _look(self, frames: RoundFrames, tls: TlsFrame, rows: I64) -> None:
        """Look at the rows of servers that did not show the same authority to nobody's surprise a moment ago."""
        keys = self._keys(tls, rows)
        shown = Grouping.equal(keys)
        first = rows[shown.first]
        keys, nodes, ticks = keys[shown.first], tls.node_of(first), tls.tick_of(first)
        slots = self._usual.find(keys, ticks)
        known = slots >= 0
        known[known] = self._usual.values[slots[known], 0] >= _SEEN
        wanted = np.zeros(len(tls), np.bool_)
        wanted[rows] = ~known[shown.number]
        quiet = [row for t in tls.ticks(wanted) for row in self._tick(tls, frames.names[t.node], *t)]
        usual = np.unique(shown.number[np.searchsorted(rows, np.array(quiet, np.int64))])
        again, new = usual[slots[usual] >= 0], usual[slots[usual] < 0]
        self._usual.touch(slots[again], ticks[again])
        self._usual.values[slots[again], 0] += 1
        slots[new] = self._usual.admit(keys[new], nodes[new], ticks[new])
        self._usual.values[slots[new][slots[new] >= 0], 0] = 1

    def _keys(self, tls: TlsFrame, rows: I64) -> U64:
        """Return what makes a node's server with its authority; of texts by a hash that nobody can aim at."""
        (sni, names), (issuer, issuers) = tls.sni, tls.issuer
        asked, by = (np.array([hash_text(text) for text in texts], np.uint64) for texts in (names, issuers))
        columns = (tls.node_of(rows), asked[sni[rows]], by[issuer[rows]], *(c[rows] for c in (*tls.dst, tls.dst_port)))
        return row_keys(columns, np.arange(len(rows)))

    def _tick(self, tls: TlsFrame, name: str, node: int, tick: int, rows: I64) -> Iterator[int]:
        """Note what the servers of a node's tick showed; return the rows that are no surprise."""
        (sni, names), (issuer, issuers) = tls.sni, tls.issuer
        columns = (*tls.dst, tls.dst_port, sni, issuer, tls.not_before, *tls.src)
        first = self.pieces((*columns[:6], *columns[7:]), node, rows)
        for row, high, low, port, asked, by, begins, at_high, at_low in zip(
            first.tolist(), *(c[first].tolist() for c in columns), strict=True
        ):
            text = names[asked]
            # By name where one was asked for: its servers share an authority, a false one may have any address.
            key = (hash_text(text),) if text else (high, low, port)
            server = self._servers.touch(node, key, tick)
            change = self._shown(server, tick, issuers[by], (high, low))
            if change is None:
                yield row
            else:
                where = ((high, low), port, text, (at_high, at_low))
                self._noted.append((name, tick, where, issuers[by], change, begins // 1_000_000_000))

    def _shown(self, server: _Server, tick: int, issuer: str, address: Address) -> tuple[list[str], bool, int] | None:
        """Note what a server showed; return its usual authorities, whether its address is known, and since when."""
        kind = issuer_class(issuer)
        moved = list(address) not in server.addresses
        if moved and len(server.addresses) < _ISSUERS:
            server.addresses.append(list(address))
        others = [(k, s) for k, s in zip(server.issuers, server.shown, strict=True) if k != kind]
        if kind in server.issuers:
            times = server.shown[server.issuers.index(kind)]
            times[2] += tick != times[1]
            times[1] = tick
            begun = times[0]
        else:
            begun = tick
            if len(server.issuers) < _ISSUERS:
                server.issuers.append(kind)
                server.shown.append([tick, tick, 1])
        usual = [(k, s) for k, s in others if s[0] + self.config.settled <= begun]
        if not usual or len([s for _, s in others if s[2] > 1]) >= self.config.authorities:
            return None
        if tick - begun > self.config.adopted:
            return None
        return [k for k, _ in usual], not moved, min(s[0] for _, s in usual)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one certificate."""
        node, tick, (address, port, name, client), issuer, (usual, known, since), begins = noted
        kind = issuer_class(issuer)
        if is_public(kind):
            # Nobody else gets a public authority's signature easily; most often the operator changed it.
            severity: Severity = "low"
        elif any(is_public(k) for k in usual) or known:
            severity = "high"
        else:
            severity = "medium"
        server = address_text(address)
        shown = f"{name!r} at {server}" if name else f"{server}:{port}"
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=_CONFIDENCE[severity], tick=tick, started=tick, node=node,
            subject=f"{name or f'{server}:{port}'}@{node}",
            attackers=(view.endpoint(server, tick, port=port, protocol="TCP"),),
            victims=(view.endpoint(address_text(client), tick),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="other_authority", value=1, limit=0, unit="authorities"),
                Evidence(name="usual_since", value=tick - since, unit="s ago"),
                Evidence(name="certificate_age", value=max(0, tick - begins), unit="s"),
            ),
            summary=f"{shown} shows a certificate by {issuer!r}; until now its authority was "
                    f"{', '.join(u.partition(':')[2] for u in usual)!r}",
            # Who stands in the middle answers under the server's own address.
            spoofable=True, data_quality=view.quality[node], response=self.meta.response, quiet=300,
        )]  # fmt: skip
