"""By which interfaces victims were flooded within the last seconds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.index import positions
from detectors.recent_rows import RecentRows
from schemas.addresses import unpack

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


class RecentEntrances(RecentRows):
    """Rows of the rollup section ``entrance`` by tick, with ``victim`` as a hash."""

    def __init__(self) -> None:
        super().__init__(_SECONDS, _ROWS)

    def add_unknown(self, tick: int, victims: npt.NDArray[np.uint64], packets: npt.NDArray[np.int64]) -> None:
        """Take in packets of which no node told where they came in."""
        if len(victims):
            nothing = np.full(len(victims), "", np.str_)
            self.add(tick, {"victim": victims, "node": nothing, "interface": nothing,
                            "pod": np.zeros((len(victims), 16), np.uint8), "packets": packets})  # fmt: skip

    def of(self, victim: int, since: int) -> list[Entrance]:
        """Return by which interfaces a victim was flooded after a tick, those with the most packets first."""
        sums: dict[tuple[str, str], list[Any]] = {}
        for tick, rows in self.ticks:
            if tick <= since:
                continue
            for at in positions(rows["victim"] == np.uint64(victim)).tolist():
                pod = bytes(rows["pod"][at])
                entry = sums.setdefault((str(rows["node"][at]), str(rows["interface"][at])), ["", 0])
                entry[0] = unpack(pod) if pod != _NOBODY else entry[0]
                entry[1] += int(rows["packets"][at])
        found = [Entrance(*key, pod, packets) for key, (pod, packets) in sums.items()]
        return sorted(found, key=lambda e: (-e.packets, e.node, e.interface))
