"""By which interfaces of which nodes a flood came in: what proves who sent it, where addresses prove nothing.

Only victims of many packets that prove no sender are looked at, so an ordinary second costs two sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.frame import ICMP, ICMPV6, TCP, UDP, FlowFrame
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.kernels.flows import ECHO_REQUEST6, ICMP_REQUESTS
from detectors.kernels.grouping import top_by
from detectors.names import hash_strings
from detectors.pod_interfaces import PodInterfaces
from schemas.addresses import pack
from schemas.events import FlowMark

Array = npt.NDArray[Any]
Columns = dict[str, Array]

FLOODED = 100  # packets of a kind that proves no sender, towards one victim in one node's tick
ENTRANCES_NAMED = 8  # per victim, node and tick; what came by others counts for no interface
_PROVEN = int(FlowMark.ESTABLISHED | FlowMark.EXCHANGED)
_NOBODY = bytes(16)


def entrances(frame: FlowFrame, names: Sequence[str], pods: PodInterfaces) -> Columns | None:
    """Return the packets towards each flooded victim by node and interface; none where nobody is flooded.

    Copies are left out: they entered where they were sent by another interface, which that node tells.

    Args:
        frame: one round.
        names: of nodes, by number.
        pods: whose interfaces they are.

    Returns:
        ``place``, ``dst_hash``, ``node`` and ``interface`` (text; empty: by others), ``pod`` (16 bytes; zero: not
        told), ``packets``.
    """
    unproven = np.maximum(frame.attempts - frame.established, 0) + frame.udp_packets + frame.icmp_packets
    amount = np.where(frame.copy, 0, unproven)
    sums = np.bincount(frame.dst, weights=amount, minlength=len(frame.hashes))
    much = sums >= FLOODED
    if not much.any():
        return None
    # Over all nodes that close together; each node's tick must be enough by itself, whatever closes beside it.
    count = len(frame.hashes)
    members = positions(much[frame.dst] & (amount > 0))
    pairs = Grouping(members, [frame.place, frame.dst])
    flooded = pairs.first[pairs.total(amount) >= FLOODED]
    keys = frame.place[flooded].astype(np.int64) * count + frame.dst[flooded]
    rows = positions(much[frame.row_dst] & ~frame.columns.values("copy"))
    rows = rows[np.isin(frame.columns.place[rows].astype(np.int64) * count + frame.row_dst[rows], keys)]
    rows = _unproven(frame, rows)
    return _by_interface(frame, rows, names, pods) if len(rows) else None


def entered_by(frame: FlowFrame | None, node: int, src: bytes, dst: bytes | None = None,
               service: int | None = None) -> list[str]:  # fmt: skip
    """Return by which interfaces of a node packets of a source entered in its tick, ordered; copies are left out.

    Args:
        frame: one round; none: no flows came.
        node: number.
        src: packed address that the packets bore.
        dst: packed address that they were for; none: any.
        service: protocol << 16 | responder port; none: any.
    """
    if frame is None:
        return []
    chosen = frame.row_src == _number_of(frame, src)
    if dst is not None:
        chosen &= frame.row_dst == _number_of(frame, dst)
    rows = positions(chosen & ~frame.columns.values("copy"))
    rows = rows[frame.columns.by_place("node")[frame.columns.place[rows]] == node]
    if service is not None:
        proto, port = (frame.columns.values(name)[rows].astype(np.int64) for name in ("proto", "dst_port"))
        rows = rows[proto << 16 | port == service]
    if not len(rows):
        return []
    words, number = frame.columns.words_of("interface", rows)
    texts = words.to_pylist()
    return sorted({texts[place] for place in np.unique(number).tolist()})


def _number_of(frame: FlowFrame, address: bytes) -> int:
    """Return an address's number in a frame, -1 where it is not in it."""
    found = positions((frame.addresses == np.frombuffer(address, np.uint8)).all(axis=1))
    return int(found[0]) if len(found) else -1


def _unproven(frame: FlowFrame, rows: I64) -> I64:
    """Return the rows whose packets prove no sender: TCP that only began, UDP without an answer, ICMP requests.

    Unasked ICMP replies are left out: who sends them was asked by somebody else in the victim's name.
    """
    proto, marks, kind = (frame.columns.values(name)[rows] for name in ("proto", "marks", "icmp_type"))
    begun = (proto == TCP) & (marks & int(FlowMark.OPENED) != 0) & (marks & _PROVEN == 0)
    unheard = (proto == UDP) & (frame.columns.values("dst_packets")[rows] == 0)
    asks = (proto == ICMP) & np.isin(kind, ICMP_REQUESTS) | (proto == ICMPV6) & (kind == ECHO_REQUEST6)
    sent = frame.columns.values("src_packets")[rows] > 0
    kept: I64 = rows[sent & (begun | unheard | asks)]
    return kept


def _by_interface(frame: FlowFrame, rows: I64, names: Sequence[str], pods: PodInterfaces) -> Columns:
    victim = frame.row_dst[rows].astype(np.int64)
    words, number = frame.columns.words_of("interface", rows)
    place, packets = frame.columns.place[rows], frame.columns.values("src_packets")[rows]
    every = np.arange(len(rows))
    pairs = Grouping(every, [place, victim, number])
    sums, first = pairs.total(packets), pairs.first
    victims = Grouping(np.arange(len(pairs)), [place[first], victim[first]])
    ties = hash_strings(words)[number[first]]
    top = top_by(victims.number, sums, ties, len(victims), ENTRANCES_NAMED)
    named = np.zeros(len(pairs), np.bool_)
    named[top] = True
    other = positions(~named)
    at = np.concatenate([top, other])
    texts = np.array(words.to_pylist() or [""], np.str_)
    interface = texts[number[first[at]]]
    interface[len(top) :] = ""
    node = [names[n] for n in frame.columns.by_place("node")[place[first[at]]].tolist()]
    behind = [pods.address(n, i) if i else "" for n, i in zip(node, interface.tolist(), strict=True)]
    told = b"".join(pack(text) if text else _NOBODY for text in behind)
    return {
        "place": place[first[at]], "dst_hash": frame.hashes[victim[first[at]]], "node": np.array(node, np.str_),
        "interface": interface, "pod": np.frombuffer(told, np.uint8).reshape(-1, 16).copy(), "packets": sums[at],
    }  # fmt: skip
