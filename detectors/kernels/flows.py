"""Measures of groups of flow rows, all of one kind in one pass over the rows; `detectors.frame` says what each means.

A pass gives int64 of shape (measures, groups). Columns are those of the schema, one value per row; ``number`` is the
int32 group of each row, ``count`` the groups. Most rows have nothing to add to most measures, hence the branches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.compiled import compiled
from schemas.events import FlowMark

TCP, UDP, ICMP, SCTP, ICMPV6 = 6, 17, 1, 132, 58
# Echo, timestamp, information and address mask requests. Other types answer or announce.
ICMP_REQUESTS, ECHO_REQUEST6 = (8, 13, 15, 17), 128

_OPENS, _ESTABLISHES, _REFUSES, _GIVES_UP, _EXCHANGES = (
    int(mark) for mark in (
        FlowMark.OPENED, FlowMark.ESTABLISHED, FlowMark.REFUSED, FlowMark.UNANSWERED, FlowMark.EXCHANGED,
    )
)  # fmt: skip
_SYN, _QUIC = 2, 443

CONNECTIONS = ("opened", "attempts", "probes", "odd", "established", "refused", "unanswered", "exchanged")
_OPENED, _ATTEMPTS, _PROBES, _ODD, _ESTABLISHED, _REFUSED, _UNANSWERED, _EXCHANGED = range(len(CONNECTIONS))
VOLUMES = (
    "src_packets", "dst_packets", "src_bytes", "dst_bytes", "syn", "bursts", "burst_gap_sum", "burst_gap_squares",
)  # fmt: skip
FLOODS = (
    "udp_packets", "udp_flows", "answer_packets", "answer_bytes", "icmp_packets", "unasked_synacks",
    "induced_questions", "induced_bytes",
)  # fmt: skip
(_UDP_PACKETS, _UDP_FLOWS, _ANSWER_PACKETS, _ANSWER_BYTES, _ICMP_PACKETS, _SYNACKS, _INDUCED,
 _INDUCED_BYTES) = range(len(FLOODS))  # fmt: skip

# traceroute sends UDP to ports from 33434 up (its documented base), 64 hops at most three times each, with
# a TTL that starts at 1. A scanner that keeps below this TTL on these few ports is missed, and only there.
_TRACEROUTE_FIRST, _TRACEROUTE_LAST, _TRACEROUTE_TTL = 33434, 33625, 32

# Answers of ordinary DNS, NTP and SNMP have up to about five times the IP bytes of their questions; what is
# worth forging a question for has ten times and more (US-CERT alert TA14-017A: 28 for DNS, 556 for NTP).
_AMPLIFIED = 10


@compiled
def _is_request(proto: Any, kind: Any) -> Any:
    if proto == ICMP:
        return kind in ICMP_REQUESTS
    return proto == ICMPV6 and kind == ECHO_REQUEST6


@compiled
def _is_echo_reply(proto: Any, kind: Any) -> Any:
    return (proto == ICMP and kind == 0) or (proto == ICMPV6 and kind == 129)


@compiled
def _could_probe(proto: Any, port: Any, ttl: Any, kind: Any, certain: Any) -> Any:
    if proto == UDP:
        return certain and not (_TRACEROUTE_FIRST <= port <= _TRACEROUTE_LAST and ttl < _TRACEROUTE_TTL)
    return _is_request(proto, kind) or (proto != ICMP and proto != ICMPV6)


@compiled
def connections(number: Any, count: Any, to_group: Any, dst: Any, proto: Any, port: Any, marks: Any, src_packets: Any,
                src_flags: Any, icmp_type: Any, ttl_max: Any, direction_known: Any) -> Any:  # fmt: skip
    """Return ``CONNECTIONS``, and the row of the first flow that each group opened, -1 where it opened none.

    Args:
        to_group: by number of an address.
        dst: number of each row's responder.
        port: of the responder.
    """
    out = np.zeros((len(CONNECTIONS), count), np.int64)
    first = np.full(count, -1, np.int64)
    for i in range(len(number)):
        group, mark = number[i], marks[i]
        if mark & _ESTABLISHES:
            out[_ESTABLISHED, group] += 1
        if mark & _EXCHANGES:
            out[_EXCHANGED, group] += 1
        if mark & _REFUSES:
            out[_REFUSED, group] += 1
        if mark & _GIVES_UP:
            out[_UNANSWERED, group] += 1
        if not mark & _OPENS:
            continue
        out[_OPENED, group] += 1
        if first[group] < 0:
            first[group] = i
        if proto[i] == TCP or (proto[i] == UDP and port[i] == _QUIC):
            out[_ATTEMPTS, group] += 1
        if src_packets[i] <= 0:
            continue
        if proto[i] == TCP and src_flags[i] & _SYN == 0:
            out[_ODD, group] += 1
        if _could_probe(proto[i], port[i], ttl_max[i], icmp_type[i], direction_known[i]) and not to_group[dst[i]]:
            out[_PROBES, group] += 1
    return out, first


@compiled
def volumes(number: Any, count: Any, src_packets: Any, dst_packets: Any, src_bytes: Any, dst_bytes: Any, src_syn: Any,
            bursts: Any, gap_sum: Any, gap_squares: Any) -> Any:  # fmt: skip
    """Return ``VOLUMES``."""
    out = np.zeros((len(VOLUMES), count), np.int64)
    for i in range(len(number)):
        group = number[i]
        out[0, group] += src_packets[i]
        out[1, group] += dst_packets[i]
        out[2, group] += src_bytes[i]
        out[3, group] += dst_bytes[i]
        if src_syn[i]:
            out[4, group] += src_syn[i]
        if bursts[i] or gap_sum[i] or gap_squares[i]:
            out[5, group] += np.int64(bursts[i])
            out[6, group] += gap_sum[i]
            out[7, group] += gap_squares[i]
    return out


@compiled
def floods(number: Any, count: Any, to_group: Any, amplifies: Any, tunnels: Any, dst: Any, proto: Any, port: Any,
           src_port: Any, marks: Any, icmp_type: Any, src_packets: Any, dst_packets: Any, src_bytes: Any,
           dst_bytes: Any, src_syn: Any, dst_synack: Any, src_rst: Any, started: Any, begin: Any) -> Any:  # fmt: skip
    """Return ``FLOODS``.

    Args:
        to_group: by number of an address.
        amplifies, tunnels: by port.
        dst: number of each row's responder.
        port: of the responder.
        started, begin: first packet of the flow, and of the row.
    """
    out = np.zeros((len(FLOODS), count), np.int64)
    for i in range(len(number)):
        group = number[i]
        if proto[i] == UDP:
            if dst_packets[i] == 0 and src_packets[i] > 0 and not tunnels[port[i]] and not to_group[dst[i]]:
                # Peers of one service use the same port at both ends.
                if amplifies[src_port[i]] and src_port[i] != port[i]:
                    out[_ANSWER_PACKETS, group] += src_packets[i]
                    out[_ANSWER_BYTES, group] += src_bytes[i]
                else:
                    out[_UDP_PACKETS, group] += src_packets[i]
                    if marks[i] & _OPENS:
                        out[_UDP_FLOWS, group] += 1
            if amplifies[port[i]] and dst_bytes[i] >= _AMPLIFIED * max(src_bytes[i], 1):
                out[_INDUCED, group] += src_packets[i]
                out[_INDUCED_BYTES, group] += dst_bytes[i]
        elif proto[i] == TCP:
            # A handshake that a cut divides is no such thing: it began before, and its SYN-ACK is answered with ACK.
            unasked = dst_synack[i] > 0 and src_syn[i] == 0 and not marks[i] & _ESTABLISHES
            if unasked and (started[i] == begin[i] or src_rst[i] > 0):
                out[_SYNACKS, group] += dst_synack[i]
        elif _is_request(proto[i], icmp_type[i]) or _is_echo_reply(proto[i], icmp_type[i]):
            out[_ICMP_PACKETS, group] += src_packets[i]
    return out
