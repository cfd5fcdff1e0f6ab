"""The rows of one second, split into batches of bounded size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from exporter.arp_claims import LinkBlock
from exporter.dns_pairs import Row
from exporter.event_batches import dns_batch, flow_batch, link_batch
from exporter.flow_rows import RowBlock
from exporter.settings import CutSettings

Batches = dict[str, pa.RecordBatch]


def split(
    flows: RowBlock, dns: list[Row], links: Sequence[LinkBlock], interfaces: Sequence[str], settings: CutSettings
) -> tuple[list[Batches], int]:
    """Return the batches of each part, and how many rows were shed above the limit of a second.

    A second without rows has no part.
    """
    size, most = settings.part_rows, settings.second_rows
    claims = {name: np.concatenate([block[name] for block in links]) for name in links[0]} if links else {}
    counts = [len(flows["marks"]) if flows else 0, len(dns), len(claims["time"]) if claims else 0]
    shed = sum(max(0, count - most) for count in counts)
    counts = [min(count, most) for count in counts]
    parts = []
    for start in range(0, max(counts), size):
        batches = {}
        if start < counts[0]:
            span = slice(start, min(start + size, counts[0]))
            batches["flow"] = flow_batch({name: values[span] for name, values in flows.items()}, interfaces)
        if start < counts[1]:
            batches["dns"] = dns_batch(dns[start : min(start + size, counts[1])])
        if start < counts[2]:
            span = slice(start, min(start + size, counts[2]))
            batches["link"] = link_batch({name: values[span] for name, values in claims.items()}, interfaces)
        parts.append(batches)
    return parts, shed
