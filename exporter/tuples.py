"""Both ends of connections in one direction, as connection tracking has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.mixing import mix
from exporter.chunks import I64
from exporter.gather import U64
from exporter.network_layer import Bool
from exporter.packets import ICMP, ICMP6


@dataclass(frozen=True)
class Tuples:
    """Ends, shape (n,), addresses as halves; ICMP has its identifier as source port, and 0 as the other."""

    src_high: U64
    src_low: U64
    dst_high: U64
    dst_low: U64
    src_port: I64
    dst_port: I64

    def some(self, rows: I64) -> Tuples:
        """Return the ends at some positions."""
        return Tuples(*(getattr(self, each.name)[rows] for each in fields(self)))


def tuple_keys(ends: Tuples, proto: I64, seed: int) -> U64:
    """Return a seeded hash of each tuple in its direction; shape (n,)."""
    source = mix(ends.src_low ^ mix(ends.src_high ^ np.uint64(seed) ^ ends.src_port.astype(np.uint64)))
    target = mix(ends.dst_low ^ mix(ends.dst_high ^ source ^ ends.dst_port.astype(np.uint64)))
    return mix(target ^ proto.astype(np.uint64))


def is_icmp(proto: I64) -> Bool:
    """Tell which protocols are ICMP of either family; bool (n,)."""
    found: Bool = (proto == ICMP) | (proto == ICMP6)
    return found


def flow_tuples(rows: Mapping[str, npt.NDArray[Any]], proto: I64) -> Tuples:
    """Return the tuples of flows, given by columns named like those of flow rows."""
    port = np.where(is_icmp(proto), rows["icmp_id"], rows["src_port"]).astype(np.int64)
    return Tuples(
        rows["src_high"], rows["src_low"], rows["dst_high"], rows["dst_low"], port, rows["dst_port"].astype(np.int64)
    )
