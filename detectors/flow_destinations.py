"""Which flow rows go to some addresses: those that the inventory labels, for instance."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from detectors.columns import halves_of
from detectors.flow_rows import FlowRows
from detectors.hashing import combine
from detectors.index import I64


def bound_for(rows: FlowRows, at: I64, wanted: Set[bytes]) -> I64:
    """Return those of the given rows, ascending, whose responder is one of the wanted packed addresses.

    Addresses are compared by a 64-bit hash: who judges asks the inventory once more.
    """
    halves = halves_of(np.frombuffer(b"".join(sorted(wanted)), np.uint8).reshape(-1, 16))
    _, _, high, low = rows.ends(at)
    chosen: I64 = at[np.isin(combine(high, low), combine(halves[:, 0], halves[:, 1]))]
    return chosen
