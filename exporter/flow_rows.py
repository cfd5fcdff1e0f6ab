"""Flow rows on their way from slots to an Arrow batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.chunks import I64, U8
from exporter.flow_marks import CLOSED
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
    KNOWN,
    SRC_BYTES,
    SRC_FIN,
    SRC_PACKETS,
    SRC_PAYLOAD,
    SRC_RST,
    SRC_SYN,
    TOTALS,
    FlowState,
)  # fmt: skip
from exporter.network_layer import Bool
from exporter.sides import UNFINISHED

# Columns by their names in the schema; addresses as two halves, words as numbers.
RowBlock = dict[str, npt.NDArray[Any]]

_DELTAS = {
    "src_packets": SRC_PACKETS, "dst_packets": DST_PACKETS, "src_bytes": SRC_BYTES, "dst_bytes": DST_BYTES,
    "src_payload": SRC_PAYLOAD, "dst_payload": DST_PAYLOAD, "src_syn": SRC_SYN, "dst_synack": DST_SYNACK,
    "src_fin": SRC_FIN, "dst_fin": DST_FIN, "src_rst": SRC_RST, "dst_rst": DST_RST, "bursts": BURSTS,
    "burst_gap_sum": GAP_SUM, "burst_gap_squares": GAP_SQUARES,
}  # fmt: skip
_TOTALS = ("src_packets", "dst_packets", "src_bytes", "dst_bytes", "src_payload", "dst_payload")
_PLAIN = {
    "flow_id": "flow_id", "conn_start": "conn_start", "src_high": "src_high", "src_low": "src_low",
    "dst_high": "dst_high", "dst_low": "dst_low", "src_port": "src_port", "dst_port": "dst_port", "proto": "proto",
    "src_flags": "row_src", "dst_flags": "row_dst", "first_payload": "first_payload", "icmp_type": "icmp_type",
    "icmp_code": "icmp_code", "icmp_id": "icmp_id", "interface": "interface", "vlan": "vlan", "src_mac": "mac",
    "app": "app",
}  # fmt: skip


def take_rows(state: FlowState, slots: I64, marks: U8) -> RowBlock:
    """Copy rows out of slots, add their deltas to the totals and remember the marks as reported.

    The deltas themselves stay; the caller clears them or begins another flow in the slot.
    """
    delta = state.delta[slots]
    state.total[slots] += delta[:, :TOTALS]
    state.done[slots] |= marks
    rows: RowBlock = {name: getattr(state, column)[slots] for name, column in _PLAIN.items()}
    rows |= {name: delta[:, column] for name, column in _DELTAS.items()}
    closing = (marks & CLOSED != 0)[:, None]
    totals = np.where(closing, state.total[slots], 0)
    rows |= {f"total_{name}": totals[:, column] for column, name in enumerate(_TOTALS)}
    gained = delta[:, SRC_PACKETS] + delta[:, DST_PACKETS] > 0
    last = state.last[slots]
    # A row that only reports a time-out stands at the flow's last packet.
    rows["start"] = np.where(gained, state.row_start[slots], last)
    rows["end"] = np.where(gained, state.row_end[slots], last)
    from_src = delta[:, SRC_PACKETS] > 0
    rows["ttl_min"] = np.where(from_src, state.ttl_min[slots], 0)
    rows["ttl_max"] = np.where(from_src, state.ttl_max[slots], 0)
    rows["marks"] = marks
    rows["direction_known"] = state.bits[slots] & KNOWN != 0
    rows["copy"] = state.duty[slots] == UNFINISHED
    return rows


def chosen_rows(rows: RowBlock, chosen: Bool) -> RowBlock:
    """Return some of the rows."""
    return rows if chosen.all() else {name: values[chosen] for name, values in rows.items()}


def join_rows(blocks: list[RowBlock]) -> RowBlock:
    """Return all rows in one block, ordered by start, flow id and marks, whatever slots they had."""
    filled = [block for block in blocks if len(block["marks"])] or blocks[:1]
    rows = {name: np.concatenate([block[name] for block in filled]) for name in filled[0]} if filled else {}
    if not rows or len(rows["marks"]) < 2:
        return rows
    order = np.lexsort((rows["marks"], rows["flow_id"], rows["start"]))
    return {name: values[order] for name, values in rows.items()}
