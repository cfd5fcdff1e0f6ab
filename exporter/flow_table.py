"""Flows across seconds: segments in, rows out at each cut.

Within a second, segments only add up; marks, time-outs and rows are decided when its cut closes. So
rows do not depend on how packets were cut into chunks. Time-outs are looked at by their due cut, never
by scanning the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from detectors.index import KeyIndex
from exporter.chunks import I64, U8
from exporter.due_cuts import DueCuts
from exporter.flow_fill import add_segments, begin_flows, clear_row
from exporter.flow_groups import Segments
from exporter.flow_marks import CLOSED, ESTABLISHED, UNANSWERED, cuts_due, held_until, marks_now
from exporter.flow_origin import Resync
from exporter.flow_rows import RowBlock, chosen_rows, join_rows, take_rows
from exporter.flow_state import (
    DST_BYTES,
    DST_PACKETS,
    ICMP_REFUSED,
    JOINED,
    SRC_BYTES,
    SRC_PACKETS,
    FlowState,
)  # fmt: skip
from exporter.gather import U64
from exporter.network_layer import Bool
from exporter.packets import FIN, RST, Packets
from exporter.settings import FlowSettings
from exporter.sides import ELSEWHERE, REPORT, UNFINISHED, Locality


@dataclass(frozen=True)
class Placed:
    """Where segments went, shape (s,), in their order.

    Attributes:
        slots: int64, slot of each segment's flow; -1 where there was no room.
        flow_ids: uint64, id of the flow.
        heads: uint8, its ``heads`` before the segment.
        ours: bool, this node reports the flow.
    """

    slots: I64
    flow_ids: U64
    heads: U8
    ours: Bool


class FlowTable:
    """The flows of one node.

    Call ``add`` and ``refuse`` for the packets of one second, any number of times, then ``close`` with
    its cut; cuts ascend. Between them, ``next_due`` is the next cut at which a time-out may fire.

    Attributes:
        lost: segments that found no room since the last ``close``.
    """

    def __init__(
        self, settings: FlowSettings, node_hash: int, place: Locality | None = None, start: Resync | None = None
    ) -> None:
        self._settings = settings
        self._place = place
        self._start = start or Resync()
        self._gone: set[int] = set()
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

    def add(self, segments: Segments, chosen: I64, packets: Packets) -> Placed:
        """Add segments of one second, given by position, ascending."""
        turns = segments.turn[chosen]
        slots = np.full(len(chosen), -1, np.int64)
        flow_ids, heads = np.zeros(len(chosen), np.uint64), np.zeros(len(chosen), np.uint8)
        ours = np.ones(len(chosen), np.bool_)
        for turn in range(int(turns.max(initial=-1)) + 1):
            of = turns == turn
            slots[of] = found = self._add_turn(segments, chosen[of], packets)
            # Before the next turn, which may begin another flow in the slot.
            flow_ids[of], heads[of] = self._state.flow_id[found], self._state.heads[found]
            ours[of] = self._state.duty[found] == REPORT
        return Placed(slots, flow_ids, heads, ours)

    def mark_heads(self, slots: I64, flow_ids: U64, value: int) -> None:
        """Set ``heads`` of flows that are still in their slots; the next segments' ``Placed`` have it."""
        still = self._state.flow_id[slots] == flow_ids
        self._state.heads[slots[still]] = value

    def _add_turn(self, segments: Segments, chosen: I64, packets: Packets) -> I64:
        """Add segments of flows that all differ; returns their slots."""
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
            begin_flows(
                self._state, segments, chosen[begin], slots[begin], packets, self._node, self._place, self._start
            )
        placed = slots >= 0
        add_segments(self._state, segments, chosen[placed], slots[placed], packets)
        self._touched.append(slots[placed])
        return slots

    def _reopening(self, segments: Segments, chosen: I64, slots: I64) -> Bool:
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
        leaving = slots[~silent]
        unfinished = (state.done[leaving] | marks[~silent]) & ESTABLISHED == 0
        ours = (state.duty[leaving] == REPORT) | ((state.duty[leaving] == UNFINISHED) & unfinished)
        self._reopened.append(chosen_rows(take_rows(state, leaving, marks[~silent]), ours))
        same = state.reopen_cut[slots] == cuts
        state.reopens[slots] = np.where(same, state.reopens[slots] + 1, 1)
        state.reopen_cut[slots] = cuts

    def refuse(self, keys: U64, backward: Bool) -> None:
        """Take in ICMP errors: flows (by key) whose packet in that direction was not delivered."""
        slots = self._index.lookup(keys)
        ours = slots >= 0
        ours[ours] = self._state.flip[slots[ours]] == backward[ours]
        hit = np.unique(slots[ours])
        self._state.bits[hit] |= ICMP_REFUSED
        self._touched.append(hit)

    def forget_interfaces(self, numbers: Iterable[int]) -> None:
        """Close the flows of interfaces that are gone, with the second that is open."""
        self._gone |= set(numbers)

    def _orphans(self) -> I64:
        if not self._gone:
            return np.zeros(0, np.int64)
        live = self._index.live()
        gone = np.fromiter(self._gone, np.int64)
        self._gone.clear()
        return live[np.isin(self._state.interface[live], gone)]

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
        orphans = self._orphans()
        if len(orphans):
            slots = np.setdiff1d(slots, orphans)
            self._reopened.append(self._report(orphans, cut, True))
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
        ours = self._duties(slots, marks, cut, ending, leaves)
        rows = chosen_rows(take_rows(state, slots[leaves], marks[leaves]), ours[leaves])
        clear_row(state, slots[leaves])
        state.row_cut[slots[leaves]] = cut
        closing = slots[marks & CLOSED != 0]
        state.close_cut[closing] = cut
        self._index.remove(slots[ended])
        state.timer[slots[ended]] = 0
        self._note_due(slots[~ended], cut)
        return rows

    def _duties(self, slots: I64, marks: U8, cut: int, ending: bool, leaves: Bool) -> Bool:
        """Tell whose rows are sent; rows of flows that may still complete their handshake stay (``leaves``)."""
        state = self._state
        duty = state.duty[slots]
        arrived = duty == UNFINISHED
        if arrived.any():
            finished = arrived & ((state.done[slots] | marks) & ESTABLISHED != 0)
            state.duty[slots[finished]] = ELSEWHERE
            arrived &= ~finished
            if not ending:
                leaves &= ~arrived | (cut >= held_until(state, slots))
        ours: Bool = (duty == REPORT) | arrived
        return ours

    def _note_due(self, slots: I64, cut: int) -> None:
        state = self._state
        due = cuts_due(state, slots, np.zeros(len(slots), np.uint8), self._settings).next
        due = np.maximum(due, cut + 1)
        # A note for an earlier cut stays: it is looked at then and renewed. A later one is overtaken.
        sooner = (state.timer[slots] == 0) | (due < state.timer[slots])
        fresh, when = slots[sooner], due[sooner]
        state.timer[fresh] = when
        self._due.add(when, fresh)
