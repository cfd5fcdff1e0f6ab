"""What a frame says about floods of packets: per victim what came, and who sent the most of it.

Nothing here was asked for or answered, so an address of a sender is only what the packets claim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.frame import FlowFrame
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.kernels.grouping import best_by, sum_columns, top_by

Array = npt.NDArray[Any]
Columns = dict[str, Array]

FLOOD_SUMS = (
    "udp_packets", "udp_flows", "udp_senders", "icmp_packets", "icmp_senders", "reflected_packets", "reflected_bytes",
    "reflectors", "induced_questions", "induced_bytes", "induced_servers",
)  # fmt: skip
# Sums that are counts of senders, and the sum that a sender must have a part of to be counted.
_COUNTED_BY = (("udp_senders", "udp_packets"), ("icmp_senders", "icmp_packets"), ("reflectors", "reflected_packets"),
               ("induced_servers", "induced_questions"))  # fmt: skip
_SYNACK_BYTES = 40  # without options; what the row counts may hold more than the SYN-ACK
SENDERS_NAMED = 4  # per victim, node and tick


def _sum(name: str) -> int:
    return FLOOD_SUMS.index(name)


def flood_pieces(frame: FlowFrame) -> tuple[Columns, Columns] | None:
    """Return rows per (place, victim) and rows of the busiest (place, victim, sender); none without such packets.

    The first, copies apart, have ``place``, ``copy``, ``dst`` (16 bytes), ``port`` (the victim's most flooded UDP
    port), ``reflector_port`` and ``sums`` (int64, one column per ``FLOOD_SUMS``); the others ``place``, ``dst_hash``,
    ``src`` and ``packets``.
    """
    towards = positions((frame.udp_packets > 0) | (frame.icmp_packets > 0) | (frame.answer_packets > 0))
    instead = positions((frame.unasked_synacks > 0) | (frame.induced_questions > 0))
    if not len(towards) and not len(instead):
        return None
    # In the first kind the responder is the victim, in the other the address that seems to have asked.
    place = np.concatenate([frame.place[towards], frame.place[instead]])
    copy = np.concatenate([frame.copy[towards], frame.copy[instead]])
    victim = np.concatenate([frame.dst[towards], frame.src[instead]])
    sender = np.concatenate([frame.src[towards], frame.dst[instead]])
    sums = np.concatenate([_towards(frame, towards), _instead(frame, instead)])
    port = np.concatenate([frame.service[towards] & 0xFFFF, np.zeros(len(instead), np.int64)])
    from_port = np.concatenate([
        frame.detail("src_port", towards).astype(np.int64), frame.service[instead] & 0xFFFF,
    ])  # fmt: skip
    every = np.arange(len(place))
    pairs = Grouping(every, [place, victim, sender, copy])
    by_pair = sum_columns(pairs.number, sums, len(pairs))
    for counted, by in _COUNTED_BY:
        by_pair[:, _sum(counted)] = by_pair[:, _sum(by)] > 0
    first = pairs.first
    victims = Grouping(np.arange(len(pairs)), [place[first], victim[first], copy[first]])
    per_entry = victims.number[pairs.number]
    reflected = sums[:, _sum("reflected_packets")] + sums[:, _sum("induced_questions")]
    flooded = best_by(per_entry, sums[:, _sum("udp_packets")].copy(), port, len(victims))
    service = best_by(per_entry, reflected, from_port, len(victims))
    at = first[victims.first]
    rows = {
        "place": place[at], "copy": copy[at], "dst": frame.addresses[victim[at]], "dst_hash": frame.hashes[victim[at]],
        "port": port[flooded], "reflector_port": np.where(reflected[service] > 0, from_port[service], 0),
        "sums": sum_columns(victims.number, by_pair, len(victims)),
    }  # fmt: skip
    return rows, _busiest(frame, victims, by_pair, (place[first], victim[first], sender[first]))


def no_flood_pieces() -> Columns:
    """Return rows per victim, without a ``place``, of nobody."""
    none = np.zeros(0, np.int64)
    return {
        "dst": np.zeros((0, 16), np.uint8), "dst_hash": np.zeros(0, np.uint64), "port": none, "reflector_port": none,
        "copy": np.zeros(0, np.bool_), "sums": np.zeros((0, len(FLOOD_SUMS)), np.int64),
    }  # fmt: skip


def _towards(frame: FlowFrame, groups: I64) -> I64:
    sums = np.zeros((len(groups), len(FLOOD_SUMS)), np.int64)
    for name, measure in (("udp_packets", frame.udp_packets), ("udp_flows", frame.udp_flows),
                          ("icmp_packets", frame.icmp_packets), ("reflected_packets", frame.answer_packets),
                          ("reflected_bytes", frame.answer_bytes)):  # fmt: skip
        sums[:, _sum(name)] = measure[groups]
    return sums


def _instead(frame: FlowFrame, groups: I64) -> I64:
    sums = np.zeros((len(groups), len(FLOOD_SUMS)), np.int64)
    sums[:, _sum("reflected_packets")] = frame.unasked_synacks[groups]
    sums[:, _sum("reflected_bytes")] = _SYNACK_BYTES * frame.unasked_synacks[groups]
    sums[:, _sum("induced_questions")] = frame.induced_questions[groups]
    sums[:, _sum("induced_bytes")] = frame.induced_bytes[groups]
    return sums


def _busiest(frame: FlowFrame, victims: Grouping, sums: I64, ends: tuple[Array, Array, Array]) -> Columns:
    place, victim, sender = ends
    packets = sums[:, [_sum(by) for _, by in _COUNTED_BY]].sum(axis=1)
    top = top_by(victims.number, packets, frame.hashes[sender], len(victims), SENDERS_NAMED)
    return {
        "place": place[top], "dst_hash": frame.hashes[victim[top]], "src": frame.addresses[sender[top]],
        "packets": packets[top],
    }  # fmt: skip
