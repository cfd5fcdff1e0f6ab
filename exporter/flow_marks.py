"""What has become of flows: marks, and the cuts at which time-outs fire."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.chunks import I64, U8
from exporter.flow_groups import NOT_RST, PLAIN_ACK, SYN_ACK
from exporter.flow_state import (
    ATTEMPT,
    DST_PACKETS,
    DST_PAYLOAD,
    ICMP_REFUSED,
    PAIRED,
    SRC_PACKETS,
    SRC_PAYLOAD,
    FlowState,
)  # fmt: skip
from exporter.packets import FIN, RST, SYN, TCP
from exporter.settings import FlowSettings
from exporter.sides import UNFINISHED
from schemas.events import FlowMark

# Plain numbers: operators of enum members cost microseconds each, several times per second and node.
OPENED, ESTABLISHED, REFUSED = int(FlowMark.OPENED), int(FlowMark.ESTABLISHED), int(FlowMark.REFUSED)
UNANSWERED, CLOSED, EXCHANGED = int(FlowMark.UNANSWERED), int(FlowMark.CLOSED), int(FlowMark.EXCHANGED)
NEVER = np.iinfo(np.int64).max
_SECOND = 1_000_000_000


def marks_now(state: FlowState, slots: I64) -> U8:
    """Return the FlowMark bits that have come true and were not reported yet; time-outs apart.

    Established: SYN-ACK from the responder and a plain ACK from the initiator; other protocols: an
    answer. Refused: a RST from a responder that said nothing else, or an ICMP error, before that.
    """
    src, dst = state.life_src[slots], state.life_dst[slots]
    tcp = state.proto[slots] == TCP
    answered = state.delta[slots, DST_PACKETS] + state.total[slots, DST_PACKETS] > 0
    said = state.delta[slots][:, [SRC_PAYLOAD, DST_PAYLOAD]] + state.total[slots][:, [SRC_PAYLOAD, DST_PAYLOAD]]
    attempt = state.bits[slots] & ATTEMPT != 0
    established = np.where(tcp, (dst & SYN_ACK != 0) & (src & PLAIN_ACK != 0), answered)
    reset = tcp & attempt & (dst & RST != 0) & (dst & NOT_RST == 0)
    refused = reset | ((state.bits[slots] & ICMP_REFUSED != 0) & ~answered)
    refused &= state.done[slots] & ESTABLISHED == 0
    closed = tcp & (((src | dst) & RST != 0) | (src & dst & FIN != 0))
    # Also when its SYN arrives after the SYN-ACK, as unordered captures show it.
    opened = attempt | (tcp & (src & SYN != 0))
    marks = opened * OPENED | established * ESTABLISHED | refused * REFUSED
    marks |= closed * CLOSED | (said > 0).all(axis=1) * EXCHANGED
    fresh: U8 = marks.astype(np.uint8) & ~state.done[slots]
    return fresh


@dataclass(frozen=True)
class CutsDue:
    """Cuts, int64 (n,), ``NEVER`` where it does not apply.

    Attributes:
        unanswered: the flow counts as unanswered from here.
        gone: the flow is forgotten here.
        next: the earliest of these and of the next periodic row.
    """

    unanswered: I64
    gone: I64
    next: I64


def _cut_at(time: I64) -> I64:
    """Return the first cut that is not before a time in ns."""
    return -(-time // _SECOND)


def cuts_due(state: FlowState, slots: I64, marks: U8, settings: FlowSettings) -> CutsDue:
    """Return when flows time out, given the marks about to be reported."""
    done = state.done[slots] | marks
    tcp = state.proto[slots] == TCP
    answered = state.delta[slots, DST_PACKETS] + state.total[slots, DST_PACKETS] > 0
    waits = (state.bits[slots] & PAIRED != 0) & ~answered
    waits &= done & (UNANSWERED | REFUSED | CLOSED) == 0
    limit = state.conn_start[slots] + settings.unanswered_seconds * _SECOND
    unanswered = np.where(waits, _cut_at(limit), NEVER)
    idle = np.where(tcp, np.where(answered, settings.tcp_idle_seconds, settings.half_open_seconds),
                    settings.udp_idle_seconds)  # fmt: skip
    closed = done & CLOSED != 0
    close_cut = state.close_cut[slots]
    lingers = np.where(close_cut > 0, close_cut + settings.linger_seconds, NEVER)
    gone = np.where(closed, lingers, _cut_at(state.last[slots] + idle * _SECOND))
    gained = state.delta[slots, SRC_PACKETS] + state.delta[slots, DST_PACKETS] > 0
    report = np.where(gained, state.row_cut[slots] + settings.report_seconds, NEVER)
    held = np.where((state.duty[slots] == UNFINISHED) & (state.row_cut[slots] == 0), held_until(state, slots), NEVER)
    return CutsDue(unanswered, gone, np.minimum(np.minimum(unanswered, gone), np.minimum(report, held)))


def held_until(state: FlowState, slots: I64) -> I64:
    """Return the cut at which a handshake that may be another node's to report has had a second to complete."""
    return _cut_at(state.conn_start[slots] + _SECOND)
