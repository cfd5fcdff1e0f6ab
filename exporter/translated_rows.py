"""Flow rows with the endpoints that NAT gave them."""

from __future__ import annotations

import numpy as np

from exporter.flow_rows import RowBlock
from exporter.translations import Translations
from exporter.tuples import flow_tuples, is_icmp


def translated(rows: RowBlock, known: Translations) -> RowBlock:
    """Return the rows with ``dst`` as the responder, ``orig_dst`` as what the initiator addressed, and ``nat_src``.

    Rows without translation keep what they have; the columns are left out where no row has any.
    """
    if not rows or not len(rows["marks"]) or not len(known):
        return rows
    proto = rows["proto"].astype(np.int64)
    slots, already = known.find(flow_tuples(rows, proto), proto)
    found = slots >= 0
    if not found.any():
        return rows
    before, after = known.ends(slots)
    moved = (
        (before.dst_low != after.dst_low) | (before.dst_high != after.dst_high) | (before.dst_port != after.dst_port)
    )
    renamed = (before.src_low != after.src_low) | (before.src_high != after.src_high)
    renamed |= before.src_port != after.src_port
    made: RowBlock = {}
    for part in ("high", "low", "port"):
        # A row of ICMP has no ports; the identifier stood in for one.
        applies = found & ~(is_icmp(proto) if part == "port" else np.zeros(len(found), np.bool_))
        for name, place, values, where in (
            ("orig_dst", "dst", before, moved & applies), ("nat_src", "src", after, renamed & applies),
        ):  # fmt: skip
            column = f"{name}_{part}"
            made[column] = np.where(where, getattr(values, f"{place}_{part}"), np.uint64(0))
        own = rows[f"dst_{part}"]
        made[f"dst_{part}"] = np.where(applies & ~already, getattr(after, f"dst_{part}").astype(own.dtype), own)
    return rows | made
