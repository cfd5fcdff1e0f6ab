"""The rows of one second, split into batches of bounded size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from exporter.event_batches import flow_batch, link_batch, row_batch
from exporter.flow_rows import RowBlock
from exporter.link_block import LinkBlock
from exporter.settings import CutSettings
from exporter.tls_exchange import Row

Batches = dict[str, pa.RecordBatch]


def split(
    flows: RowBlock, links: Sequence[LinkBlock], listed: Mapping[str, Sequence[Row]], interfaces: Sequence[str],
    settings: CutSettings,
) -> tuple[list[Batches], int]:  # fmt: skip
    """Return the batches of each part, and how many rows were shed above the limit of a second.

    A second without rows has no part.

    Args:
        flows: flow rows.
        links: blocks of link rows.
        listed: rows of other kinds, values in the order of the schema's columns.
        interfaces: names of the numbers in interface columns.
        settings: sizes.
    """
    size, most = settings.part_rows, settings.second_rows
    claims = {name: np.concatenate([block[name] for block in links]) for name in links[0]} if links else {}
    found = {"flow": len(flows["marks"]) if flows else 0, "link": len(claims["time"]) if claims else 0}
    found |= {kind: len(rows) for kind, rows in listed.items()}
    counts = {kind: min(count, most) for kind, count in found.items()}

    def made(start: int, stop: int) -> list[Batches]:
        batches = {}
        for kind, count in counts.items():
            if start >= count:
                continue
            span = slice(start, min(stop, count))
            if kind == "flow":
                batches[kind] = flow_batch({name: values[span] for name, values in flows.items()}, interfaces)
            elif kind == "link":
                batches[kind] = link_batch({name: values[span] for name, values in claims.items()}, interfaces)
            else:
                batches[kind] = row_batch(kind, listed[kind][span])
        if stop - start > 1 and sum(batch.nbytes for batch in batches.values()) > settings.part_bytes:
            middle = (start + stop) // 2
            return made(start, middle) + made(middle, stop)
        return [batches] if batches else []

    parts = [part for start in range(0, max(counts.values()), size) for part in made(start, start + size)]
    return parts, sum(found.values()) - sum(counts.values())
