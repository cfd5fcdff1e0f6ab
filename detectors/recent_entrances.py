"""By which interfaces victims were flooded within the last seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.index import positions
from schemas.addresses import unpack

Columns = dict[str, npt.NDArray[Any]]

_SECONDS = 60  # the longest window over which a flood is counted
_ROWS = 20_000  # about 5 MB; the oldest are forgotten first
_NOBODY = bytes(16)


class Entrance(NamedTuple):
    """Packets that came in by one interface of one node; ``interface`` is empty where it is not known.

    ``pod`` is the address that the node gave for the pod behind it, empty where it gave none.
    """

    node: str
    interface: str
    pod: str
    packets: int


class RecentEntrances:
    """Rows of the rollup section ``entrance`` by tick."""

    def __init__(self) -> None:
        self._ticks: list[tuple[int, Columns]] = []

    def add(self, tick: int, rows: Columns) -> None:
        """Take in a tick's rows: ``victim`` (a hash, u64), ``node``, ``interface``, ``pod`` and ``packets``."""
        self._ticks.append((tick, rows))

    def add_unknown(self, tick: int, victims: npt.NDArray[np.uint64], packets: npt.NDArray[np.int64]) -> None:
        """Take in packets of which no node told where they came in."""
        if len(victims):
            nothing = np.full(len(victims), "", np.str_)
            self.add(tick, {"victim": victims, "node": nothing, "interface": nothing,
                            "pod": np.zeros((len(victims), 16), np.uint8), "packets": packets})  # fmt: skip

    def forget(self, tick: int) -> None:
        """Let go of what is older than a minute at a tick, or too much."""
        rows = 0
        for place in range(len(self._ticks) - 1, -1, -1):
            rows += len(self._ticks[place][1]["victim"])
            if self._ticks[place][0] <= tick - _SECONDS or rows > _ROWS:
                del self._ticks[: place + 1]
                break

    def of(self, victim: int, since: int) -> list[Entrance]:
        """Return by which interfaces a victim was flooded after a tick, those with the most packets first."""
        sums: dict[tuple[str, str], list[Any]] = {}
        for tick, rows in self._ticks:
            if tick <= since:
                continue
            for at in positions(rows["victim"] == np.uint64(victim)).tolist():
                pod = bytes(rows["pod"][at])
                entry = sums.setdefault((str(rows["node"][at]), str(rows["interface"][at])), ["", 0])
                entry[0] = unpack(pod) if pod != _NOBODY else entry[0]
                entry[1] += int(rows["packets"][at])
        found = [Entrance(*key, pod, packets) for key, (pod, packets) in sums.items()]
        return sorted(found, key=lambda e: (-e.packets, e.node, e.interface))

    def snapshot(self) -> list[Any]:
        """Return the rows as arrays by tick."""
        return [[tick, rows] for tick, rows in self._ticks]

    def restore(self, state: Sequence[Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._ticks = [(int(tick), rows) for tick, rows in state]
