"""The columns of a flow table: one value per slot."""

from __future__ import annotations

import numpy as np

# Columns of ``FlowState.delta`` and, the first six, of ``FlowState.total``.
(
    SRC_PACKETS, DST_PACKETS, SRC_BYTES, DST_BYTES, SRC_PAYLOAD, DST_PAYLOAD,
    SRC_SYN, DST_SYNACK, SRC_FIN, DST_FIN, SRC_RST, DST_RST, BURSTS, GAP_SUM, GAP_SQUARES,
) = range(15)  # fmt: skip
TOTALS = 6

# Bits of ``FlowState.bits``.
KNOWN = 1  # the initiator is known, not guessed
ATTEMPT = 2  # its beginning was seen
JOINED = 4  # TCP seen first in mid-stream: a SYN begins another flow
ICMP_REFUSED = 8  # an ICMP error said that a packet of the initiator was not delivered
PAIRED = 16  # an answer is to be expected

# Values of ``FlowState.heads``: its payload is followed, or nothing more is wanted of it.
FOLLOWED, UNDERSTOOD = 1, 2

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("src_high", "u8"), ("src_low", "u8"), ("dst_high", "u8"), ("dst_low", "u8"), ("src_port", "u2"),
    ("dst_port", "u2"), ("proto", "u1"), ("vlan", "u2"), ("mac", "u8"), ("interface", "u2"),
    ("icmp_type", "u1"), ("icmp_code", "u1"), ("icmp_id", "u2"), ("flow_id", "u8"), ("conn_start", "i8"),
    ("last", "i8"), ("flip", "u1"), ("bits", "u1"), ("done", "u1"), ("reopens", "u1"), ("reopen_cut", "i8"),
    ("life_src", "u2"), ("life_dst", "u2"), ("row_src", "u1"), ("row_dst", "u1"), ("row_start", "i8"),
    ("row_end", "i8"), ("row_cut", "i8"), ("ttl_min", "u1"), ("ttl_max", "u1"), ("first_payload", "u1"),
    ("app", "u1"), ("close_cut", "i8"), ("timer", "i8"), ("heads", "u1"), ("duty", "u1"),
)  # fmt: skip
NAMES = tuple(name for name, _ in _COLUMNS)


class FlowState:
    """Columns of ``capacity`` slots; memory is touched only where slots are used.

    Attributes (shape (capacity,) unless said):
        delta: int64 (capacity, 15), sums since the last row.
        total: int64 (capacity, 6), sums of the rows already sent.
        flip: 1 where the initiator is the greater endpoint of the key.
        done: FlowMark bits already reported.
        life_src, life_dst: OR of the flags and facts of all packets of a side.
        row_src, row_dst: OR of TCP flags since the last row.
        row_start, row_end: ns, first and last packet since the last row.
        row_cut: cut of the last row; 0 before the first.
        close_cut: cut at which the flow closed; 0 while open.
        timer: cut at which time-outs are looked at next; 0: none noted.
        heads: what ``FlowHeads`` does with the flow's payload.
        duty: whether this node reports the flow (``exporter.sides``).
    """

    def __init__(self, capacity: int) -> None:
        self.delta = np.zeros((capacity, 15), np.int64)
        self.total = np.zeros((capacity, TOTALS), np.int64)
        for name, dtype in _COLUMNS:
            setattr(self, name, np.zeros(capacity, dtype))

    src_high: np.ndarray[tuple[int], np.dtype[np.uint64]]
    src_low: np.ndarray[tuple[int], np.dtype[np.uint64]]
    dst_high: np.ndarray[tuple[int], np.dtype[np.uint64]]
    dst_low: np.ndarray[tuple[int], np.dtype[np.uint64]]
    src_port: np.ndarray[tuple[int], np.dtype[np.uint16]]
    dst_port: np.ndarray[tuple[int], np.dtype[np.uint16]]
    proto: np.ndarray[tuple[int], np.dtype[np.uint8]]
    vlan: np.ndarray[tuple[int], np.dtype[np.uint16]]
    mac: np.ndarray[tuple[int], np.dtype[np.uint64]]
    interface: np.ndarray[tuple[int], np.dtype[np.uint16]]
    icmp_type: np.ndarray[tuple[int], np.dtype[np.uint8]]
    icmp_code: np.ndarray[tuple[int], np.dtype[np.uint8]]
    icmp_id: np.ndarray[tuple[int], np.dtype[np.uint16]]
    flow_id: np.ndarray[tuple[int], np.dtype[np.uint64]]
    conn_start: np.ndarray[tuple[int], np.dtype[np.int64]]
    last: np.ndarray[tuple[int], np.dtype[np.int64]]
    flip: np.ndarray[tuple[int], np.dtype[np.uint8]]
    bits: np.ndarray[tuple[int], np.dtype[np.uint8]]
    done: np.ndarray[tuple[int], np.dtype[np.uint8]]
    reopens: np.ndarray[tuple[int], np.dtype[np.uint8]]
    reopen_cut: np.ndarray[tuple[int], np.dtype[np.int64]]
    life_src: np.ndarray[tuple[int], np.dtype[np.uint16]]
    life_dst: np.ndarray[tuple[int], np.dtype[np.uint16]]
    row_src: np.ndarray[tuple[int], np.dtype[np.uint8]]
    row_dst: np.ndarray[tuple[int], np.dtype[np.uint8]]
    row_start: np.ndarray[tuple[int], np.dtype[np.int64]]
    row_end: np.ndarray[tuple[int], np.dtype[np.int64]]
    row_cut: np.ndarray[tuple[int], np.dtype[np.int64]]
    ttl_min: np.ndarray[tuple[int], np.dtype[np.uint8]]
    ttl_max: np.ndarray[tuple[int], np.dtype[np.uint8]]
    first_payload: np.ndarray[tuple[int], np.dtype[np.uint8]]
    app: np.ndarray[tuple[int], np.dtype[np.uint8]]
    close_cut: np.ndarray[tuple[int], np.dtype[np.int64]]
    timer: np.ndarray[tuple[int], np.dtype[np.int64]]
    heads: np.ndarray[tuple[int], np.dtype[np.uint8]]
    duty: np.ndarray[tuple[int], np.dtype[np.uint8]]
