"""TLS handshakes and HTTP heads of flows, to rows.

Columns choose the packets that begin something and the other packets of flows that are followed; only
those meet Python, in order of arrival. Flows, bytes and packets per second are bounded; what is let go
or not looked at is counted. Whatever is decided depends on the packets' order alone, never on chunks.
"""

from __future__ import annotations

import heapq

import numpy as np

from exporter.chunks import I64, U8
from exporter.flow_groups import Segments
from exporter.flow_state import FOLLOWED, UNDERSTOOD
from exporter.flow_table import FlowTable, Placed
from exporter.http_exchange import HttpExchange
from exporter.network_layer import Bool
from exporter.packets import FIN, RST, TCP, Packets
from exporter.payload_starts import CLIENT_HELLO, NOTHING, PARTIAL, REQUEST, RESPONSE, SERVER_HELLO, find_starts
from exporter.settings import HeadSettings
from exporter.tls_exchange import Ends, Row, TlsExchange

_SECOND = 1_000_000_000
_NEVER = 1 << 62
_STARTS_OF = {TlsExchange.kind: (CLIENT_HELLO, SERVER_HELLO), HttpExchange.kind: (REQUEST, RESPONSE, PARTIAL)}

Exchange = TlsExchange | HttpExchange


class FlowHeads:
    """What the flows of one node say before they turn into data.

    Call ``add`` for the packets of one second, any number of times, then ``close`` with its cut.

    Attributes:
        lost: handshakes and requests that were let go, or not looked at, since the last ``close``.
        malformed: handshakes that could not be read, since the last ``close``.
        cut_short: heads of which the capture kept only the beginning, so far.
    """

    def __init__(self, settings: HeadSettings) -> None:
        self._settings = settings
        self._exchanges: dict[int, Exchange] = {}  # quiet longest first
        self._held = 0
        self._due: list[tuple[int, int]] = []
        self._noted: dict[int, int] = {}  # earliest cut noted of each flow
        self._read = 0
        self._finished: set[int] = set()  # flows that this chunk's packets ended
        self._rows: dict[str, list[Row]] = {TlsExchange.kind: [], HttpExchange.kind: []}
        self.lost = self.malformed = self.cut_short = 0

    @property
    def next_due(self) -> int | None:
        """The next cut at which something may time out; None while nothing is waited for."""
        return self._due[0][0] if self._due else None

    @staticmethod
    def select(packets: Packets) -> tuple[I64, U8]:
        """Return positions of packets that begin a handshake or head, and what they begin."""
        return find_starts(packets)

    def add(
        self, packets: Packets, span: I64, starts: tuple[I64, U8], segments: Segments, first: int, placed: Placed,
        flows: FlowTable,
    ) -> None:  # fmt: skip
        """Take in packets of one second.

        Args:
            packets: all packets of the chunk.
            span: positions of the second's packets, a range.
            starts: what ``select`` said about them.
            segments: all segments of the chunk.
            first: number of the second's first segment, ``placed`` begins with it.
            placed: where its segments went.
            flows: told which flows are followed and which are understood.
        """
        at = starts[0]
        followed = placed.heads == FOLLOWED
        if not len(at) and not followed.any():
            return
        begun = segments.of[at] - first
        # A slot holds one flow at a time, and a packet that turns out to be another's is passed over.
        followed |= np.isin(placed.slots, placed.slots[begun])
        followed &= (placed.heads != UNDERSTOOD) & (placed.slots >= 0)
        self._walk(packets, self._wanted(packets, span, segments, first, followed), starts, segments, first, placed)
        self._mark(placed, followed, flows)

    @staticmethod
    def _wanted(packets: Packets, span: I64, segments: Segments, first: int, followed: Bool) -> I64:
        if not followed.any():
            return span[:0]
        ours = followed[segments.of[span] - first]
        chosen = span[ours]
        speaks = (packets.payload[chosen] > 0) | (packets.flags[chosen] & (FIN | RST) != 0)
        kept: I64 = chosen[speaks & (packets.net.proto[chosen] == TCP) & ~packets.net.later[chosen]]
        return kept

    def _walk(
        self, packets: Packets, chosen: I64, starts: tuple[I64, U8], segments: Segments, first: int, placed: Placed
    ) -> None:
        kinds = np.zeros(len(chosen), np.uint8)
        where = np.searchsorted(chosen, starts[0])
        inside = where < len(chosen)
        inside[inside] = chosen[where[inside]] == starts[0][inside]
        kinds[where[inside]] = starts[1][inside]
        columns = (
            chosen, placed.flow_ids[segments.of[chosen] - first], segments.backward[chosen].astype(np.int64), kinds,
            packets.sequence[chosen], packets.payload[chosen], packets.flags[chosen],
        )  # fmt: skip
        exchanges = self._exchanges
        self._finished = set()
        for position, flow, side, kind, sequence, size, flags in zip(*(c.tolist() for c in columns), strict=True):
            exchange = exchanges.get(flow)
            if exchange is None:
                if kind in (NOTHING, RESPONSE) or flow in self._finished:
                    continue
                exchange = self._begin(packets, position, flow, side, kind)
                if exchange is None:
                    continue
            starting = kind in _STARTS_OF[exchange.kind]
            if size and (starting or exchange.wants(side, sequence, size)):
                self._read_packet(packets, position, flow, exchange, side, sequence, size, starting)
            if flags & (FIN | RST) and flow in exchanges:
                exchange.end() if flags & RST else exchange.finish(side, (sequence + size) % (1 << 32))
                self._settle(flow, exchange)

    def _begin(self, packets: Packets, position: int, flow: int, side: int, kind: int) -> Exchange | None:
        """Follow a flow from this packet on."""
        if self._read >= self._settings.packets_per_second:
            self.lost += 1
            return None
        net, settings = packets.net, self._settings
        raw = np.array([net.src_high[position], net.src_low[position], net.dst_high[position], net.dst_low[position]])
        wire = raw.astype(">u8").tobytes()
        addresses, ports = (wire[:16], wire[16:]), (int(packets.src_port[position]), int(packets.dst_port[position]))
        if side:
            addresses, ports = addresses[::-1], ports[::-1]
        ends, time = Ends(flow, addresses, ports), int(packets.times[position])
        exchange: Exchange
        if kind in (CLIENT_HELLO, SERVER_HELLO):
            client = side if kind == CLIENT_HELLO else 1 - side
            exchange = TlsExchange(ends, client, time, settings.hello_seconds * _SECOND, settings.tls_bytes)
        else:
            exchange = HttpExchange(ends, side, time, settings)
        if len(self._exchanges) >= settings.flows:
            self._let_go()
        self._exchanges[flow] = exchange
        return exchange

    def _read_packet(
        self, packets: Packets, position: int, flow: int, exchange: Exchange, side: int, sequence: int, size: int,
        starting: bool,
    ) -> None:  # fmt: skip
        if self._read >= self._settings.packets_per_second:
            # Without this packet the rest says nothing.
            self.lost += 1
            self._forget(flow, exchange)
            return
        self._read += 1
        start = int(packets.payload_at[position])
        data = packets.buffer[start : start + int(packets.payload_captured[position])].tobytes()
        exchange.take(side, sequence, size, data, int(packets.times[position]), starting)
        # Used last, so let go last.
        self._exchanges[flow] = self._exchanges.pop(flow)
        self._settle(flow, exchange)
        while self._held > self._settings.held_bytes:
            self._let_go()

    def _settle(self, flow: int, exchange: Exchange) -> None:
        """Take the rows that are complete; forget an exchange that is done, note the next time-out of others."""
        if exchange.rows:
            self._rows[exchange.kind] += exchange.rows
            exchange.rows.clear()
        self._held += exchange.held - exchange.accounted
        exchange.accounted = exchange.held
        if exchange.done:
            self._forget(flow, exchange)
            return
        cut = -(-exchange.due // _SECOND)
        if cut < self._noted.get(flow, _NEVER) and exchange.due < _NEVER:
            self._noted[flow] = cut
            heapq.heappush(self._due, (cut, flow))

    def _forget(self, flow: int, exchange: Exchange) -> None:
        del self._exchanges[flow]
        self._held -= exchange.accounted
        self.malformed += exchange.malformed
        self.cut_short += exchange.cut
        if exchange.kind == TlsExchange.kind:
            self._finished.add(flow)

    def _let_go(self) -> None:
        """Report what is known of the flow that was quiet longest, and follow it no longer."""
        flow = next(iter(self._exchanges))
        exchange = self._exchanges[flow]
        exchange.end()
        self.lost += 1
        self._settle(flow, exchange)
        # Only a flow's own packets may say that it is understood: they are in the chunk that is told.
        self._finished.discard(flow)

    def _mark(self, placed: Placed, followed: np.ndarray, flows: FlowTable) -> None:
        """Write down what became of the flows that were looked at."""
        rows = np.flatnonzero(followed)
        slots, flow_ids = placed.slots[rows], placed.flow_ids[rows]
        ids = flow_ids.tolist()
        values = np.array(
            [UNDERSTOOD if flow in self._finished else FOLLOWED * (flow in self._exchanges) for flow in ids], np.uint8
        )
        for value in (0, FOLLOWED, UNDERSTOOD):
            of = values == value
            flows.mark_heads(slots[of], flow_ids[of], value)

    def close(self, cut: int, final: bool = False) -> dict[str, list[Row]]:
        """End a second; returns its rows by kind, in the order of the schema's columns."""
        self._finished = set()
        now = cut * _SECOND
        due = []
        while self._due and self._due[0][0] <= cut:
            due.append(heapq.heappop(self._due))
        for noted, flow in due:
            if self._noted.get(flow) == noted:
                del self._noted[flow]
            exchange = self._exchanges.get(flow)
            if exchange is not None:
                exchange.expire(now)
                self._settle(flow, exchange)
        if final:
            for flow, exchange in list(self._exchanges.items()):
                exchange.end()
                self._settle(flow, exchange)
        self._tidy()
        self._read = 0
        rows, self._rows = self._rows, {kind: [] for kind in self._rows}
        return rows

    def _tidy(self) -> None:
        """Drop notes about flows that are followed no longer, once they are many."""
        if len(self._due) <= 4 * self._settings.flows:
            return
        self._noted = {flow: cut for flow, cut in self._noted.items() if flow in self._exchanges}
        self._due = sorted((cut, flow) for flow, cut in self._noted.items())
