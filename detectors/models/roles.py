"""Roles: a bounded number of kinds of workload, read off what they usually do; each has its own trees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.models.windows import NAMES

F64 = npt.NDArray[np.float64]

ROLES = ("quiet_client", "busy_client", "quiet_server", "busy_server", "quiet_mixed", "busy_mixed", "resolver")
_BUSY = 1_000_000  # IP bytes a minute, both ways, per replica
_ONE_SIDED = np.log(4.0)  # flows one way are this many times those the other way
_RESOLVER = 60  # queries a minute with hardly any other flows


def role_of(center: F64) -> npt.NDArray[np.int64]:
    """Return the role of each workload from its medians (n, COUNT), as a position in ``ROLES``."""
    flows = center[:, NAMES.index("flows_out")] - center[:, NAMES.index("flows_in")]
    side = np.where(flows > _ONE_SIDED, 0, np.where(flows < -_ONE_SIDED, 2, 4))
    volume = sum(np.expm1(center[:, NAMES.index(name)]) for name in ("bytes_out", "bytes_in"))
    role = side + (np.asarray(volume) > _BUSY)
    queries = np.expm1(center[:, NAMES.index("dns_queries")])
    asks = (queries > _RESOLVER) & (queries > 0.5 * np.expm1(center[:, NAMES.index("flows_out")]))
    return np.where(asks, len(ROLES) - 1, role).astype(np.int64)
