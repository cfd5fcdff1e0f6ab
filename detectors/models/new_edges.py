"""Which conversations between two addresses a node has not told of lately: the few rows that peers are learned from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.frame import TCP, UDP, FlowFrame, scoped
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.kernels.windows import renew
from detectors.minute import is_private
from detectors.slots import Slots
from schemas.identity import IdentityTable

AGAIN = 3600  # s after which a conversation is told of again, so that habits stay known
_PAIRS = 1 << 20  # (source, destination, service) remembered on all nodes together
_PER_TICK = 16  # told per node and tick; others wait for the next ticks
_WAITING = 1 << 14  # of one node; more are left out and counted
# What asks for names is the DNS detectors' to judge, and who answers is nobody's peer by choice.
_NAME_SERVICES = (53, 853, 5353)
# From here up ports are drawn by chance (RFC 6335), so the peer alone says something.
_DRAWN = 49152

_NONE: I64 = np.zeros((0, 5), np.int64)


class Edge(NamedTuple):
    """A conversation that a workload began."""

    node: int
    tick: int
    source: bytes
    target: bytes
    service: int  # protocol << 16 | port, port 0 for drawn ones


class NewEdges:
    """Looks at groups of flow rows and gives what is new in them, a bounded number per node and tick."""

    def __init__(self) -> None:
        self._known = Slots(_PAIRS, 2)
        self._waiting: dict[int, I64] = {}  # halves of source and target as they lie in memory, service
        self.left_out: dict[int, int] = {}

    def take(self, frame: FlowFrame, identities: IdentityTable) -> list[Edge]:
        """Return the conversations of a round that were not told of in this hour, by node in log order."""
        groups = self._following(frame, identities)
        service = frame.service[groups].copy()
        service[service & 0xFFFF >= _DRAWN] &= ~0xFFFF
        pairs = combine(frame.hashes[frame.src[groups]], frame.hashes[frame.dst[groups]])
        keys = scoped(frame.node[groups], combine(pairs, service.astype(np.uint64)))
        known, out = self._known, []
        place = frame.place[groups]
        for one in np.unique(place).tolist():
            at = positions(place == one)
            node, tick = int(frame.node[groups[at[0]]]), int(frame.tick[groups[at[0]]])
            known.make_room(len(at))
            new = renew(known.cells, known.rows, known.free, known.state, known.capacity, keys[at].view(np.int64),
                        tick // AGAIN, 2)  # fmt: skip
            fresh = at[positions(new)]
            out += self._turn(node, tick, frame, groups[fresh], service[fresh])
        return out

    @staticmethod
    def _following(frame: FlowFrame, identities: IdentityTable) -> I64:
        """Return the groups whose initiator is one of ours and was answered."""
        groups = positions((frame.exchanged > 0) & ~frame.copy)
        port = frame.service[groups] & 0xFFFF
        kept = np.isin(frame.proto[groups], (TCP, UDP)) & ~np.isin(port, _NAME_SERVICES)
        kept &= ~frame.to_group[frame.dst[groups]]
        groups = groups[kept]
        sources = np.unique(frame.src[groups])
        ours = np.zeros(len(frame.addresses), np.bool_)
        ours[sources] = is_private(frame.addresses[sources])
        if identities.public_addresses:
            named = [int(s) for s in sources if frame.addresses[s].tobytes() in identities.public_addresses]
            ours[named] = True
        followed: I64 = groups[ours[frame.src[groups]]]
        return followed

    def _turn(self, node: int, tick: int, frame: FlowFrame, groups: I64, service: I64) -> list[Edge]:
        """Put new conversations in line and return those whose turn it is."""
        waiting = self._waiting.get(node, _NONE)
        if len(groups):
            room = max(0, _WAITING - len(waiting))
            if len(groups) > room:
                self.left_out[node] = self.left_out.get(node, 0) + len(groups) - room
            groups, service = groups[:room], service[:room]
            ends = (frame.addresses[end[groups]].view(np.int64) for end in (frame.src, frame.dst))
            waiting = np.concatenate([waiting, np.concatenate([*ends, service[:, None]], axis=1)])
        now, self._waiting[node] = waiting[:_PER_TICK], waiting[_PER_TICK:]
        packed = np.ascontiguousarray(now[:, :4]).tobytes()
        return [
            Edge(node, tick, packed[at : at + 16], packed[at + 16 : at + 32], number)
            for at, number in zip(range(0, len(packed), 32), now[:, 4].tolist(), strict=True)
        ]

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is known and what waits."""
        known = {f"known.{name}": values for name, values in self._known.snapshot().items()}
        waiting = {f"waiting.{node}": rows for node, rows in sorted(self._waiting.items())}
        return known | waiting | {"left_out": np.array(sorted(self.left_out.items()), np.int64).reshape(-1, 2)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        known = {n.removeprefix("known."): v for n, v in state.items() if n.startswith("known.")}
        self._known.restore(known, np.array(known["rows"]))
        waiting = {n.removeprefix("waiting."): v for n, v in state.items() if n.startswith("waiting.")}
        self._waiting = {int(node): np.array(rows, np.int64) for node, rows in waiting.items()}
        self.left_out = {int(node): int(count) for node, count in state["left_out"]}
