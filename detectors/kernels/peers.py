"""Peers of one workload: short rows of hashes, 0 where a place is free."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.compiled import compiled


@compiled
def place_of(keys: Any, key: Any) -> Any:
    """Return where a u64 key stands among others, -1 where it does not."""
    for at in range(len(keys)):
        if keys[at] == key:
            return at
    return -1


@compiled
def learn(peer: Any, tick: Any, peers: Any, told: Any, ports: Any, namespaces: Any) -> None:
    """Take a peer in; without room the one not told of for longest goes.

    Args:
        peer: u64: key, port and namespace of the new one; a place that is 0 is not known.
        tick: int64.
        peers, told: u64 keys and the tick in which each was told of, int64.
        ports, namespaces: u64, the newest first.
    """
    place = np.argmin(told)
    peers[place], told[place] = peer[0], tick
    _enter(ports, peer[1])
    _enter(namespaces, peer[2])


@compiled
def _enter(kept: Any, key: Any) -> None:
    if key == 0 or place_of(kept, key) >= 0:
        return
    for at in range(len(kept) - 1, 0, -1):
        kept[at] = kept[at - 1]
    kept[0] = key
