"""Which pairs of hosts and services were looked at lately: two arrays per node, so that most rows cost no Python."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from detectors.mixing import U64

_ROOM = 1 << 16  # keys per node; beyond, a node begins anew
_FORGET = 3600  # s; what the inventory says changes


@dataclass
class _Node:
    begun: int = 0
    keys: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))  # ascending


class JudgedPairs:
    """Keys of each node that were judged within the hour."""

    def __init__(self) -> None:
        self._nodes: dict[int, _Node] = {}

    def fresh(self, node: int, tick: int, keys: U64) -> npt.NDArray[np.bool_]:
        """Tell which keys of a node's tick were not judged lately."""
        known = self._nodes.get(node)
        if known is None or tick - known.begun >= _FORGET or not len(known.keys):
            return np.ones(len(keys), np.bool_)
        at = np.minimum(np.searchsorted(known.keys, keys), len(known.keys) - 1)
        fresh: npt.NDArray[np.bool_] = known.keys[at] != keys
        return fresh

    def add(self, node: int, tick: int, keys: list[int]) -> None:
        """Note that keys of a node were judged in a tick."""
        known = self._nodes.get(node)
        if known is None or tick - known.begun >= _FORGET or len(known.keys) + len(keys) > _ROOM:
            known = self._nodes[node] = _Node(tick)
        known.keys = np.union1d(known.keys, np.array(keys, np.uint64))

    def snapshot(self) -> dict[str, npt.NDArray[np.int64] | U64]:
        """Return everything as arrays."""
        nodes = sorted(self._nodes.items())
        rows = [(number, node.begun, len(node.keys)) for number, node in nodes]
        keys = [node.keys for _, node in nodes]
        return {
            "judged_nodes": np.array(rows, np.int64).reshape(-1, 3),
            "judged_keys": np.concatenate(keys) if keys else np.zeros(0, np.uint64),
        }

    def restore(self, state: dict[str, npt.NDArray[np.int64] | U64]) -> None:
        """Take in what ``snapshot`` gave."""
        rows, keys = state["judged_nodes"], np.array(state["judged_keys"], np.uint64)
        edges = np.cumsum([0, *rows[:, 2].tolist()]).tolist()
        self._nodes = {
            int(number): _Node(int(begun), keys[first:last])
            for (number, begun, _), first, last in zip(rows.tolist(), edges[:-1], edges[1:], strict=True)
        }
