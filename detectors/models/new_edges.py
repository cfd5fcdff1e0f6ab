"""Conversations between two addresses that a node has not told of lately: what peers are learned from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectors.frame import TCP, UDP, FlowFrame, scoped
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.models.newcomers import Newcomers
from schemas.identity import IdentityTable

# What asks for names is the DNS detectors' to judge, and who answers is nobody's peer by choice.
_NAMING = np.zeros(1 << 16, np.bool_)
_NAMING[[53, 853, 5353]] = True
_FOLLOWED = np.zeros(256, np.bool_)
_FOLLOWED[[TCP, UDP]] = True
# From here up ports are drawn by chance (RFC 6335), so the peer alone says something.
_DRAWN = 49152
PAIRS = 1 << 20  # (source, destination, service) remembered
WIDTH = 5


class Edge(NamedTuple):
    """A conversation that a workload began."""

    node: int
    tick: int
    source: bytes
    target: bytes
    service: int  # protocol << 16 | port, port 0 for drawn ones


def new_edges(known: Newcomers, frame: FlowFrame, identities: IdentityTable) -> list[Edge]:
    """Return the conversations of a round whose turn it is to be told of, by node in log order."""
    groups = _following(frame, identities)
    service = frame.service[groups].copy()
    service[service & 0xFFFF >= _DRAWN] &= ~0xFFFF
    pairs = combine(frame.hashes[frame.src[groups]], frame.hashes[frame.dst[groups]])
    keys = scoped(frame.node[groups], combine(pairs, service.astype(np.uint64)))
    fresh = known.new(keys, frame.tick[groups])
    service, groups = service[fresh], groups[fresh]
    ends = (frame.addresses[end[groups]].view(np.int64) for end in (frame.src, frame.dst))
    rows = np.concatenate([*ends, service[:, None]], axis=1)
    out = []
    for node, tick, now in known.turns(frame.node[groups], rows, frame.columns.ticks_of_nodes()):
        packed = np.ascontiguousarray(now[:, :4]).tobytes()
        for start, number in zip(range(0, len(packed), 32), now[:, 4].tolist(), strict=True):
            out.append(Edge(node, tick, packed[start : start + 16], packed[start + 16 : start + 32], number))
    return out


def _following(frame: FlowFrame, identities: IdentityTable) -> I64:
    """Return the groups whose initiator is one of ours and was answered."""
    groups = positions((frame.exchanged > 0) & ~frame.copy)
    port = frame.service[groups] & 0xFFFF
    kept = _FOLLOWED[frame.proto[groups]] & ~_NAMING[port]
    kept &= ~frame.to_group[frame.dst[groups]]
    groups = groups[kept]
    ours = frame.private
    if identities.public_addresses:
        sources, ours = np.unique(frame.src[groups]), ours.copy()
        named = [int(s) for s in sources if frame.addresses[s].tobytes() in identities.public_addresses]
        ours[named] = True
    followed: I64 = groups[ours[frame.src[groups]]]
    return followed
