"""Flows across seconds: segments in, rows out at each cut.

Within a second, segments only add up; marks, time-outs and rows are decided when its cut closes. So
rows do not depend on how packets were cut into chunks. Time-outs are looked at by their due cut, never
by scanning the table.
"""

from __future__ import annotations

import numpy as np

from detectors.hashing import combine, mix
from detectors.index import KeyIndex
from exporter.app_guess import guess
from exporter.chunks import I64
from exporter.due_cuts import DueCuts
from exporter.flow_groups import BYTES, FINS, PACKETS, PAYLOAD, RSTS, SYN_ACKS, SYNS, Segments
from exporter.flow_marks import CLOSED, UNANSWERED, cuts_due, marks_now
from exporter.flow_origin import origins
from exporter.flow_rows import RowBlock, join_rows, take_rows
from exporter.flow_state import (
    BURSTS,
    DST_BYTES,
    DST_FIN,
    DST_PACKETS,
    DST_PAYLOAD,
    DST_RST,
    DST_SYNACK,
    GAP_SQUARES,
    GAP_SUM,
    ICMP_REFUSED,
    JOINED,
    SRC_BYTES,
    SRC_FIN,
    SRC_PACKETS,
    SRC_PAYLOAD,
    SRC_RST,
    SRC_SYN,
    FlowState,
)  # fmt: skip
from exporter.gather import U64
from exporter.packets import FIN, RST, Packets
from exporter.settings import FlowSettings

_SECOND = 1_000_000_000
_FROM_SRC = ((SRC_PACKETS, PACKETS), (SRC_BYTES, BYTES), (SRC_PAYLOAD, PAYLOAD), (SRC_SYN, SYNS), (SRC_FIN, FINS),
             (SRC_RST, RSTS))  # fmt: skip
_FROM_DST = ((DST_PACKETS, PACKETS), (DST_BYTES, BYTES), (DST_PAYLOAD, PAYLOAD), (DST_SYNACK, SYN_ACKS),
             (DST_FIN, FINS), (DST_RST, RSTS))  # fmt: skip


class FlowTable:
    """The flows of one node.

    Call ``add`` and ``refuse`` for the packets of one second, any number of times, then ``close`` with
    its cut; cuts ascend. Between them, ``next_due`` is the next cut at which a time-out may fire.

    Attributes:
        lost: segments that found no room since the last ``close``.
    """

    def __init__(self, settings: FlowSettings, node_hash: int) -> None:
        self._settings = settings
        self._node = np.uint64(node_hash)
        self._index = KeyIndex(settings.capacity)
        self._state = FlowState(settings.capacity)
        self._due = DueCuts()
        self._touched: list[I64] = []
        self._reopened: list[RowBlock] = []
        self.lost = 0

    def __len__(self) -> int:
        return len(self._index)

    @property
    def next_due(self) -> int | None:
        """The next cut at which a flow may time out; None without flows."""
        return self._due.next

    def add(self, segments: Segments, chosen: I64, packets: Packets) -> None:
        """Add segments of one second, given by position, ascending."""
        turns = segments.turn[chosen]
        for turn in range(int(turns.max(initial=-1)) + 1):
            self._add_turn(segments, chosen[turns == turn], packets)

    def _add_turn(self, segments: Segments, chosen: I64, packets: Packets) -> None:
        """Add segments of flows that all differ."""
        keys = segments.key[chosen]
        slots = self._index.lookup(keys)
        fresh = slots < 0
        slots[fresh] = self._index.insert(keys[fresh])
        self.lost += int((slots < 0).sum())
        fresh &= slots >= 0
        again = self._reopening(segments, chosen, slots) & ~fresh
        if again.any():
            self._finish_reopened(slots[again], segments.cut[chosen[again]])
        begin = fresh | again
        if begin.any():
            self._begin(segments, chosen[begin], slots[begin], packets)
        placed = slots >= 0
        self._accumulate(segments, chosen[placed], slots[placed], packets)

    def _reopening(self, segments: Segments, chosen: I64, slots: I64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell which segments begin another connection on known endpoints."""
        state, opens = self._state, segments.opens[chosen] & (slots >= 0)
        at = slots[opens]
        ended = ((state.life_src[at] | state.life_dst[at]) & (FIN | RST) != 0) | (state.bits[at] & JOINED != 0)
        same = state.reopen_cut[at] == segments.cut[chosen[opens]]
        opens[opens] = ended & ~(same & (state.reopens[at] >= self._settings.reopens_per_second))
        return opens

    def _finish_reopened(self, slots: I64, cuts: I64) -> None:
        state = self._state
        marks = marks_now(state, slots)
        marks |= np.uint8(CLOSED) & ~state.done[slots]
        silent = (marks == 0) & (state.delta[slots, :2].sum(axis=1) == 0)
        self._reopened.append(take_rows(state, slots[~silent], marks[~silent]))
        same = state.reopen_cut[slots] == cuts
        state.reopens[slots] = np.where(same, state.reopens[slots] + 1, 1)
        state.reopen_cut[slots] = cuts

    def _begin(self, segments: Segments, chosen: I64, slots: I64, packets: Packets) -> None:
        """Set slots to what the first packets of their flows say."""
        state, first = self._state, segments.first[chosen]
        origin = origins(packets, first)
        turned = origin.reversed
        net = packets.net
        for ours, sender, receiver in (
            ("high", net.src_high, net.dst_high), ("low", net.src_low, net.dst_low),
            ("port", packets.src_port, packets.dst_port),
        ):  # fmt: skip
            getattr(state, f"src_{ours}")[slots] = np.where(turned, receiver[first], sender[first])
            getattr(state, f"dst_{ours}")[slots] = np.where(turned, sender[first], receiver[first])
        state.flip[slots] = segments.first_backward[chosen] ^ turned
        state.bits[slots] = origin.bits
        state.proto[slots], state.vlan[slots] = net.proto[first], packets.vlan[first]
        state.mac[slots] = np.where(turned, np.uint64(0), packets.mac[first])
        state.interface[slots] = packets.interface[first]
        state.icmp_type[slots], state.icmp_code[slots] = packets.icmp_type[first], packets.icmp_code[first]
        state.icmp_id[slots] = packets.icmp_id[first]
        start = segments.start[chosen]
        state.conn_start[slots], state.last[slots] = start, start
        same = state.reopen_cut[slots] == segments.cut[chosen]
        state.reopens[slots] = np.where(same, state.reopens[slots], 0)
        number = state.reopens[slots].astype(np.uint64)
        state.flow_id[slots] = combine(combine(segments.key[chosen], mix(start.astype(np.uint64)) + number),
                                       np.full(len(slots), self._node))  # fmt: skip
        for name in ("done", "life_src", "life_dst", "row_cut", "first_payload", "app", "close_cut", "timer"):
            getattr(state, name)[slots] = 0
        state.total[slots] = 0
        self._clear_row(slots)

    def _clear_row(self, slots: I64) -> None:
        state = self._state
        state.delta[slots] = 0
        state.row_src[slots], state.row_dst[slots] = 0, 0
        state.row_start[slots], state.row_end[slots] = np.iinfo(np.int64).max, 0
        state.ttl_min[slots], state.ttl_max[slots] = 255, 0

    def _accumulate(self, segments: Segments, chosen: I64, slots: I64, packets: Packets) -> None:
        state = self._state
        side = state.flip[slots].astype(np.int64)
        src, dst = segments.sums[chosen, side], segments.sums[chosen, 1 - side]
        gained = np.zeros((len(slots), state.delta.shape[1]), np.int64)
        for target, source in _FROM_SRC:
            gained[:, target] = src[:, source]
        for target, source in _FROM_DST:
            gained[:, target] = dst[:, source]
        quiet = segments.start[chosen] - state.last[slots]
        gap = np.where(quiet >= _SECOND, quiet // 1_000_000, 0)
        gained[:, BURSTS], gained[:, GAP_SUM], gained[:, GAP_SQUARES] = gap > 0, gap, gap * gap
        state.delta[slots] += gained
        src_facts, dst_facts = segments.facts[chosen, side], segments.facts[chosen, 1 - side]
        state.life_src[slots] |= src_facts
        state.life_dst[slots] |= dst_facts
        state.row_src[slots] |= (src_facts & 255).astype(np.uint8)
        state.row_dst[slots] |= (dst_facts & 255).astype(np.uint8)
        state.ttl_min[slots] = np.minimum(state.ttl_min[slots], segments.ttl_min[chosen, side])
        state.ttl_max[slots] = np.maximum(state.ttl_max[slots], segments.ttl_max[chosen, side])
        state.row_start[slots] = np.minimum(state.row_start[slots], segments.start[chosen])
        state.row_end[slots] = np.maximum(state.row_end[slots], segments.end[chosen])
        state.last[slots] = np.maximum(state.last[slots], segments.end[chosen])
        self._first_payload(segments, chosen, slots, packets)
        self._touched.append(slots)

    def _first_payload(self, segments: Segments, chosen: I64, slots: I64, packets: Packets) -> None:
        state, positions = self._state, segments.payload_first[chosen]
        new = (positions >= 0) & (state.first_payload[slots] == 0)
        if not new.any():
            return
        positions, slots = positions[new], slots[new]
        # Told by the sender's endpoint: the segment's direction would need the key's order again.
        by_src = (packets.net.src_low[positions] == state.src_low[slots]) & (
            packets.src_port[positions] == state.src_port[slots]) & (
            packets.net.src_high[positions] == state.src_high[slots])  # fmt: skip
        state.first_payload[slots] = np.where(by_src, 1, 2)
        state.app[slots] = guess(packets, positions)

    def refuse(self, keys: U64, backward: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        """Take in ICMP errors: flows (by key) whose packet in that direction was not delivered."""
        slots = self._index.lookup(keys)
        ours = slots >= 0
        ours[ours] = self._state.flip[slots[ours]] == backward[ours]
        hit = np.unique(slots[ours])
        self._state.bits[hit] |= ICMP_REFUSED
        self._touched.append(hit)

    def close(self, cut: int, final: bool = False) -> RowBlock:
        """End a second; returns its rows, ordered by start and flow id.

        Args:
            cut: end of the second, s since epoch.
            final: no more data will come: every flow closes.
        """
        noted = self._due.take(cut)
        noted = noted[self._state.timer[noted] == cut]  # others were overtaken, or their flow is gone
        self._state.timer[noted] = 0
        slots = self._index.live() if final else np.unique(np.concatenate([*self._touched, noted]))
        self._touched.clear()
        blocks = [*self._reopened, *self._close_slots(slots, cut, final)]
        self._reopened.clear()
        return join_rows(blocks)

    def _close_slots(self, slots: I64, cut: int, final: bool) -> list[RowBlock]:
        blocks = [self._report(slots, cut, final)]
        limit = self._settings.capacity * self._settings.pressure_percent // 100
        if len(self._index) > limit and not final:
            live = self._index.live()
            done = self._state.done[live]
            blocks.append(self._report(live[done & (UNANSWERED | CLOSED) != 0], cut, True))
        return blocks

    def _report(self, slots: I64, cut: int, ending: bool) -> RowBlock:
        """Mark, take the rows that must leave, forget what has ended, and note the next time-outs."""
        state, settings = self._state, self._settings
        marks = marks_now(state, slots)
        due = cuts_due(state, slots, marks, settings)
        marks |= np.where(cut >= due.unanswered, UNANSWERED, 0).astype(np.uint8)
        ended = np.full(len(slots), ending) | (cut >= due.gone)
        marks |= np.where(ended, CLOSED, 0).astype(np.uint8) & ~state.done[slots]
        delta = state.delta[slots]
        packets, volume = delta[:, SRC_PACKETS] + delta[:, DST_PACKETS], delta[:, SRC_BYTES] + delta[:, DST_BYTES]
        row_cut = state.row_cut[slots]
        leaves = (marks != 0) | (packets >= settings.report_packets) | (volume >= settings.report_bytes)
        closed = (state.done[slots] | marks) & CLOSED != 0
        leaves |= (packets > 0) & ((row_cut == 0) | (cut >= row_cut + settings.report_seconds) | closed)
        rows = take_rows(state, slots[leaves], marks[leaves])
        self._clear_row(slots[leaves])
        state.row_cut[slots[leaves]] = cut
        closing = slots[marks & CLOSED != 0]
        state.close_cut[closing] = cut
        self._index.remove(slots[ended])
        state.timer[slots[ended]] = 0
        self._note_due(slots[~ended], cut)
        return rows

    def _note_due(self, slots: I64, cut: int) -> None:
        state = self._state
        due = cuts_due(state, slots, np.zeros(len(slots), np.uint8), self._settings).next
        due = np.maximum(due, cut + 1)
        # A note for an earlier cut stays: it is looked at then and renewed. A later one is overtaken.
        sooner = (state.timer[slots] == 0) | (due < state.timer[slots])
        fresh, when = slots[sooner], due[sooner]
        state.timer[fresh] = when
        self._due.add(when, fresh)
