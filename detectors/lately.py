"""What was looked at lately: repeats of it need not be looked at again by Python code."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from detectors.index import I64
from detectors.kernels.windows import renew
from detectors.mixing import U64
from detectors.slots import Array, Slots


class Lately:
    """Keys seen within spans of ``seconds``. Without room a key is called fresh again, which only costs time."""

    def __init__(self, capacity: int, seconds: int) -> None:
        self._slots, self._seconds = Slots(capacity, 2), seconds

    def fresh(self, keys: U64, ticks: I64) -> npt.NDArray[np.bool_]:
        """Tell which keys were not seen yet in the span that their tick lies in; of equal ones the first is.

        Args:
            keys: that differ between nodes, u64, shape (n,).
            ticks: s since epoch, int64, shape (n,).
        """
        slots = self._slots
        slots.make_room(len(keys))
        fresh: npt.NDArray[np.bool_] = renew(
            slots.cells, slots.rows, slots.free, slots.state, slots.capacity, keys.view(np.int64),
            ticks // self._seconds, 2,
        )  # fmt: skip
        return fresh

    def snapshot(self) -> dict[str, Array]:
        """Return the keys, as arrays by name."""
        return {f"lately_{part}": values for part, values in self._slots.snapshot().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            ValueError: it is damaged.
        """
        kept = {part: state[f"lately_{part}"] for part in ("rows", "free", "state")}
        self._slots.restore(kept, np.array(kept["rows"]))
