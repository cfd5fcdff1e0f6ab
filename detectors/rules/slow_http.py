"""Slow HTTP: many connections that hold a web server's workers with requests that never end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.frame import TCP
from detectors.index import I64, positions
from detectors.ledger import Entry
from detectors.round_frames import RoundFrames
from detectors.row_frame import Array, RowFrame, row_keys
from detectors.statement import count
from schemas.events import Capability, FlowMark
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding, Severity

# What web servers listen on; a slow request to another port is still seen where its head is read.
_WEB = np.zeros(1 << 16, np.bool_)
_WEB[[80, 443, 3000, 5000, 8000, 8008, 8080, 8081, 8443, 8888, 9000]] = True
_SECOND = 1_000_000_000
_PACKETS = 8  # of a client in one slow request; who only waits for an answer sends about five
_CLIENTS = 32  # remembered per server


class SlowHttpConfig(DetectorConfig):
    """Limits of ``slow_http``."""

    connections: Annotated[int, Field(ge=1)] = Field(
        100, description="slow requests to one server and port that came to light within the window (count)"
    )
    held: Annotated[int, Field(ge=2)] = Field(
        10, description="s from which a request is slow; a form of some kilobytes takes a fraction of it"
    )
    held_silent: Annotated[int, Field(ge=2)] = Field(
        90, description="s from which it is slow though the client sent a few packets only; longer than most wait"
    )
    rate: Annotated[int, Field(ge=1)] = Field(
        500, description="bytes of payload a second; an upload that is worth waiting for has more"
    )
    window: Annotated[int, Field(ge=12)] = Field(60, description="s")


@dataclass
class _Server(Entry):
    seconds: list[list[int]] = field(default_factory=list)  # tick, unfinished heads, slow connections
    clients: list[list[int]] = field(default_factory=list)  # halves of an address, slow requests


class SlowHttp(ClaimDetector):
    """Fires per server and port of a node: heads that did not end, or connections that dripped and got no answer."""

    meta = Meta(
        id="slow_http",
        title="Slow HTTP requests",
        stage=1,
        severity="high",
        techniques=("T1499.002",),
        needs=Capability.PACKETS | Capability.PAYLOAD,
        blind="slow HTTP requests are not seen: the source does not report payload bytes",
        response="block_ingress_source",
    )
    Config: ClassVar[type[DetectorConfig]] = SlowHttpConfig
    config: SlowHttpConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._servers = self.ledger("servers", _Server, 1024, self.config.window)

    def observe(self, frames: RoundFrames) -> None:
        """Count slow requests by server."""
        seen: dict[tuple[int, tuple[int, ...]], int] = {}
        for frame, chosen, place in ((frames.http, _unfinished, 1), (frames.flow, self._slow, 2)):
            if frame is None:
                continue
            rows = chosen(frame)
            for node, key, tick, clients in _by_server(frame, rows, self):
                server = self._servers.touch(node, key, tick)
                self._note(server, tick, place, clients)
                seen[node, key] = tick
        for (node, key), tick in sorted(seen.items()):
            entry = self._servers.get(node, key, tick)
            if entry is not None and max(self._sums(entry)) > self.config.connections:
                sums = self._sums(entry)
                self._noted.append((frames.names[node], tick, key, sums, [list(c) for c in entry.clients]))

    def _slow(self, flow: RowFrame) -> I64:
        """Return the flow rows that tell that a client dripped for long before the server's first word, or in vain."""
        marks = flow.numbers("marks")
        # Most rows are of young connections, which one subtraction tells.
        old = (
            flow.numbers("end") - flow.numbers("conn_start") >= min(self.config.held, self.config.held_silent) * _SECOND
        )
        rows: I64 = positions(old & (marks & np.uint8(FlowMark.CLOSED | FlowMark.EXCHANGED) != 0))
        rows = rows[(flow.numbers("proto")[rows] == TCP) & _WEB[flow.numbers("dst_port")[rows]]]
        if not len(rows):
            return rows

        def column(name: str) -> I64:
            values: I64 = flow.numbers(name)[rows].astype(np.int64)
            return values

        life = column("end") - column("conn_start")
        payload = np.maximum(column("src_payload"), column("total_src_payload"))
        packets = np.maximum(column("src_packets"), column("total_src_packets"))
        first_word = marks[rows] & int(FlowMark.EXCHANGED) != 0
        unheard = (column("total_dst_payload") == 0) & (column("dst_payload") == 0)
        held = np.where(packets >= _PACKETS, self.config.held, self.config.held_silent)
        slow: npt.NDArray[np.bool_] = (life >= held * _SECOND) & (first_word | unheard)
        slow &= (payload > 0) & (payload <= self.config.rate * (life // _SECOND))
        return rows[slow]

    def _note(self, server: _Server, tick: int, place: int, clients: list[tuple[Address, int]]) -> None:
        server.seconds = [s for s in server.seconds if s[0] > tick - self.config.window]
        if not server.seconds:
            server.clients = []
        if not server.seconds or server.seconds[-1][0] != tick:
            server.seconds.append([tick, 0, 0])
        server.seconds[-1][place] += sum(number for _, number in clients)
        for address, number in clients:
            known = next((c for c in server.clients if c[:2] == list(address)), None)
            if known is not None:
                known[2] += number
            elif len(server.clients) < _CLIENTS:
                server.clients.append([*address, number])

    @staticmethod
    def _sums(server: _Server) -> tuple[int, int]:
        """Return unfinished heads and slow connections of the window; one connection may be both."""
        return sum(s[1] for s in server.seconds), sum(s[2] for s in server.seconds)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one server."""
        node, tick, (high, low, port), (heads, drips), clients = noted
        config = self.config
        server, value = address_text((high, low)), max(heads, drips)
        # A head that does not end is an attack; a body that drips may be a bad line, or a server that does not read.
        severity: Severity = self.meta.severity if heads > config.connections else "medium"
        busiest = sorted(clients, key=lambda c: (-c[2], c[:2]))[:MAX_ENDPOINTS]
        return [Finding(
            detector=self.meta.id, kind="slow_http_dos", title=self.meta.title, severity=severity,
            confidence=confidence(value, config.connections), tick=tick, started=tick - config.window, node=node,
            subject=f"{server}:{port}@{node}",
            attackers=tuple(view.endpoint(address_text((c[0], c[1])), tick) for c in busiest),
            victims=(view.endpoint(server, tick, port=port, protocol="TCP"),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="unfinished_heads", value=heads, limit=config.connections, unit="requests",
                         window=config.window),
                Evidence(name="slow_connections", value=drips, limit=config.connections, unit="connections",
                         window=config.window),
            ),
            summary=f"{count(heads)} request heads to {server}:{port} did not end within seconds, {count(drips)} "
                    f"connections sent little for at least {config.held} s without an answer; within {config.window} "
                    f"s, limit {count(config.connections)}, by {len(clients)} clients",
            # Payload was taken in, so a handshake was completed.
            spoofable=False, data_quality=view.quality[node], response=self.meta.response, quiet=120,
        )]  # fmt: skip


def _unfinished(http: RowFrame) -> I64:
    return positions(~http.numbers("head_complete"))


def _by_server(
    frame: RowFrame, rows: I64, detector: ClaimDetector
) -> Iterator[tuple[int, tuple[int, ...], int, list[tuple[Address, int]]]]:
    """Return (node, (halves of the server's address, port), tick, clients with their numbers of rows)."""
    if not len(rows):
        return
    chosen = np.zeros(len(frame), np.bool_)
    chosen[rows] = True
    columns: tuple[Array, ...] = (*frame.addresses("dst"), frame.numbers("dst_port"), *frame.addresses("src"))
    for node, tick, own in frame.ticks(chosen):
        first = detector.pieces(columns, node, own)
        numbers = _counted(columns, own, first)
        servers: dict[tuple[int, ...], list[tuple[Address, int]]] = {}
        for row, number in zip(first.tolist(), numbers, strict=True):
            high, low, port, at_high, at_low = (int(c[row]) for c in columns)
            servers.setdefault((high, low, port), []).append(((at_high, at_low), number))
        for key, clients in servers.items():
            yield node, key, tick, clients


def _counted(columns: tuple[Array, ...], rows: I64, first: I64) -> list[int]:
    """Return how many of the rows are equal to each of the first ones."""
    keys, counts = np.unique(row_keys(columns, rows), return_counts=True)
    numbers: list[int] = counts[np.searchsorted(keys, row_keys(columns, first))].tolist()
    return numbers
