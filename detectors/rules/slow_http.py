"""Slow HTTP: many connections that hold a web server's workers with requests that never end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector, address_text
from detectors.frame import TCP
from detectors.index import I64, positions
from detectors.round_frames import RoundFrames
from detectors.row_frame import Array, RowFrame, row_keys
from detectors.statement import count
from detectors.tally import Address, Counted, NodeTally, Tally, TallyWindow
from schemas.events import Capability, FlowMark
from schemas.finding import MAX_ENDPOINTS, Evidence, Finding, Severity

# What web servers listen on; a slow request to another port is still seen where its head is read.
_WEB = np.zeros(1 << 16, np.bool_)
_WEB[[80, 443, 3000, 5000, 8000, 8008, 8080, 8081, 8443, 8888, 9000]] = True
_SECOND = 1_000_000_000
_PACKETS = 8  # of a client in one slow request; who only waits for an answer sends about five
_HEADS, _DRIPS = "unfinished_heads", "slow_connections"


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


class SlowHttp(ClaimDetector):
    """Fires per server and port: heads that did not end, or connections that dripped and got no answer."""

    meta = Meta(
        id="slow_http",
        title="Slow HTTP requests",
        stage=2,
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
        servers = self.ledger("servers", Counted, 1024, self.config.window)
        self._window = TallyWindow(servers, (_HEADS, _DRIPS), self.config.window)
        self._counted: list[NodeTally] = []

    def observe(self, frames: RoundFrames) -> None:
        """Count slow requests by server."""
        for frame, chosen, measure in ((frames.http, _unfinished, _HEADS), (frames.flow, self._slow, _DRIPS)):
            if frame is None:
                continue
            for node, tick, (server, port, client), number in _by_server(frame, chosen(frame), self):
                what = Tally(measure, f"{address_text(server)}:{port}", client, server, port)
                self._counted.append(NodeTally(node, tick, what, number))

    def tallies(self) -> Sequence[NodeTally]:
        """Return slow requests by server and client."""
        counted, self._counted = self._counted, []
        return counted

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

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per server and port, of all nodes together."""
        if view.tallies is not None:
            tick, touched = view.tallies.tick, self._window.take(view.tallies)
            self._noted = [(tick, *server) for server in touched if max(server[1].sums()) > self.config.connections]
        return super().evaluate(view)

    def judge(self, view: TickView, noted: tuple[int, str, Counted]) -> list[Finding]:
        """Return the finding about one server."""
        (tick, subject, entry), config = noted, self.config
        heads, drips = entry.sums()  # one connection may be both
        value = max(heads, drips)
        high, low, port, _ = entry.hit()[0]
        server, clients = address_text((high, low)), entry.busiest()
        # A head that does not end is an attack; a body that drips may be a bad line, or a server that does not read.
        severity: Severity = self.meta.severity if heads > config.connections else "medium"
        return [Finding(
            detector=self.meta.id, kind="slow_http_dos", title=self.meta.title, severity=severity,
            confidence=confidence(value, config.connections), tick=tick, started=tick - config.window, node="",
            subject=subject,
            attackers=tuple(view.endpoint(address_text(client), tick) for client in clients[:MAX_ENDPOINTS]),
            victims=(view.endpoint(server, tick, port=port, protocol="TCP"),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="unfinished_heads", value=heads, limit=config.connections, unit="requests",
                         window=config.window),
                Evidence(name="slow_connections", value=drips, limit=config.connections, unit="connections",
                         window=config.window),
            ),
            summary=f"{count(heads)} request heads to {subject} did not end within seconds, {count(drips)} "
                    f"connections sent little for at least {config.held} s without an answer; within {config.window} "
                    f"s, limit {count(config.connections)}, by {len(clients)} clients",
            # Payload was taken in, so a handshake was completed.
            spoofable=False, data_quality=view.quality[""], response=self.meta.response, quiet=120,
        )]  # fmt: skip


def _unfinished(http: RowFrame) -> I64:
    return positions(~http.numbers("head_complete"))


def _by_server(
    frame: RowFrame, rows: I64, detector: ClaimDetector
) -> Iterator[tuple[int, int, tuple[Address, int, Address], int]]:
    """Return (node, tick, (server, port, client), rows) of each client of each server."""
    if not len(rows):
        return
    chosen = np.zeros(len(frame), np.bool_)
    chosen[rows] = True
    columns: tuple[Array, ...] = (*frame.addresses("dst"), frame.numbers("dst_port"), *frame.addresses("src"))
    for node, tick, own in frame.ticks(chosen):
        first = detector.pieces(columns, node, own)
        for row, number in zip(first.tolist(), _counted(columns, own, first), strict=True):
            high, low, port, at_high, at_low = (int(c[row]) for c in columns)
            yield node, tick, ((high, low), port, (at_high, at_low)), number


def _counted(columns: tuple[Array, ...], rows: I64, first: I64) -> list[int]:
    """Return how many of the rows are equal to each of the first ones."""
    keys, counts = np.unique(row_keys(columns, rows), return_counts=True)
    numbers: list[int] = counts[np.searchsorted(keys, row_keys(columns, first))].tolist()
    return numbers
