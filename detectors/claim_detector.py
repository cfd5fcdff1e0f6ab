"""What detectors of claims share: bounded memory, rows of a tick in pieces, findings that wait for ``evaluate``."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Detector, DetectorConfig, TickView
from detectors.features import Feature
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.kernels.grouping import rank_by
from detectors.ledger import E, Ledger
from detectors.remembered_keys import RememberedKeys
from detectors.row_frame import Array, RowFrame, distinct, row_keys
from schemas.addresses import unpack
from schemas.finding import Finding

# Different claims of one node that are looked at per tick and detector. An ordinary second has some dozens;
# more are counted as shed.
_PER_TICK = 1024

Address = tuple[int, int]  # upper and lower 64 bits


class ClaimDetector(Detector):
    """A detector of stage 1 that follows claims in ``observe`` and says in ``evaluate`` what they came to.

    Subclasses remember in ledgers only and, what comes by the thousand, in ``RememberedKeys``. They keep what
    ``evaluate`` shall judge in ``self._noted``, which is empty between ticks and so is not part of the state.
    """

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._ledgers: dict[str, Ledger[Any]] = {}
        self._remembered: dict[str, RememberedKeys] = {}
        self._skipped: dict[int, int] = {}
        self._noted: list[Any] = []

    def features(self) -> Sequence[Feature]:
        """Return nothing: claims are no sums."""
        return ()

    def ledger(self, name: str, entry: type[E], capacity: int, lifetime: int) -> Ledger[E]:
        """Return a new ledger that is part of the state."""
        made = self._ledgers[name] = Ledger(entry, capacity, lifetime)
        return made

    def remembered(self, name: str, capacity: int, lifetime: int, width: int = 0) -> RememberedKeys:
        """Return new remembered keys that are part of the state."""
        made = self._remembered[name] = RememberedKeys(capacity, lifetime, width)
        return made

    def pieces(self, columns: Sequence[Array], node: int, rows: I64) -> I64:
        """Return the first of equal rows of one node's tick; what is too much for one tick is shed."""
        return self.head(node, distinct(columns, rows))

    def things(
        self, frame: RowFrame, chosen: npt.NDArray[np.bool_], columns: Sequence[Array]
    ) -> Iterator[tuple[int, int, list[tuple[int, ...]]]]:
        """Return (node, tick, its different rows of some columns) of each tick with chosen rows, ordered by node.

        What is too much for one tick is shed.
        """
        rows = positions(chosen)
        if not len(rows):
            return
        first = rows[self.first_of([column[rows] for column in columns], frame.node_of(rows))]
        values = list(zip(*(column[first].tolist() for column in columns), strict=True))
        for node, tick, mine in frame.ticks_of(first):
            begin = int(np.searchsorted(first, mine[0]))
            yield node, tick, values[begin : begin + len(mine)]

    def first_of(self, columns: Sequence[Array], nodes: I64) -> I64:
        """Return the positions of the first of equal entries of each node; what is too much for one tick is shed.

        Args:
            columns: to compare by, one entry each.
            nodes: node number of each entry; one tick of each.
        """
        keys = row_keys((nodes, *columns), np.arange(len(nodes)))
        first = Grouping.equal(keys).first
        return self.heads(nodes[first], first)

    def heads(self, nodes: I64, things: I64, most: int = _PER_TICK) -> I64:
        """Return as many of each node's things, in their order, as are looked at in a tick; the others are shed."""
        kept: I64 = things[rank_by(nodes, int(nodes.max(initial=0)) + 1) < most]
        if len(kept) < len(things):
            for node, count in enumerate(np.bincount(nodes).tolist()):
                self.skip(node, count - most)
        return kept

    def head(self, node: int, first: I64) -> I64:
        """Return as many of one node's different things as are looked at in a tick; the others are shed."""
        self.skip(node, len(first) - _PER_TICK)
        return first[:_PER_TICK]

    def skip(self, node: int, count: int) -> None:
        """Count what was too much to look at."""
        if count > 0:
            self._skipped[node] = self._skipped.get(node, 0) + count

    def refused(self) -> Mapping[int, int]:
        """Return how many claims and keys were too many so far, by node; only nodes with any."""
        total = Counter(self._skipped)
        sheds = [ledger.shed for ledger in self._ledgers.values()] + [keys.shed for keys in self._remembered.values()]
        for shed in filter(None, sheds):
            total.update(shed)
        return total

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for what was noted in these ticks."""
        noted, self._noted = self._noted, []
        found = [finding for item in noted for finding in self.judge(view, item)]
        return sorted(found, key=lambda f: (f.tick, f.subject))

    @abstractmethod
    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the findings about one thing noted."""

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the ledgers and the remembered keys."""
        kept = {name: ledger.snapshot() for name, ledger in self._ledgers.items()}
        for name, keys in self._remembered.items():
            kept |= {f"{name}.{part}": array for part, array in keys.snapshot().items()}
        return kept | {"skipped": np.array(sorted(self._skipped.items()), np.int64).reshape(-1, 2)}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave."""
        self._skipped = {int(node): int(count) for node, count in state["skipped"]}
        for name, ledger in self._ledgers.items():
            ledger.restore(state[name])
        for name, keys in self._remembered.items():
            keys.restore({part: state[f"{name}.{part}"] for part in keys.parts})


def address_of(packed: bytes) -> Address:
    """Return the halves of an address of 16 bytes."""
    return int.from_bytes(packed[:8]), int.from_bytes(packed[8:])


def address_text(address: Sequence[int]) -> str:
    """Return an address given by its halves in text."""
    return unpack(address[0].to_bytes(8) + address[1].to_bytes(8))
