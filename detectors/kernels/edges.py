"""Who talked with whom in every node's minute: rows of ``key, mark, node, next, ends, service, tick, sums ...``.

The layout and the chains of nodes are those of ``detectors.kernels.minutes``, whose ``collect`` empties them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.kernels.cells import FREE, USED, combine, find, take_slot
from detectors.kernels.compiled import compiled
from detectors.kernels.minutes import LIMIT, NEXT, NODE

SOURCE, DESTINATION, SERVICE, TICK, SUMS = 4, 6, 8, 9, 10
FLOWS, SENT, RECEIVED = SUMS, SUMS + 1, SUMS + 2
WIDTH = RECEIVED + 1


@compiled
def gather(cells: Any, rows: Any, free: Any, state: Any, nodes: Any, most: Any, places: Any, ticks: Any, owners: Any,
           src: Any, dst: Any, service: Any, left_out: Any, ours: Any, hashes: Any, words: Any,
           measures: Any) -> None:  # fmt: skip
    """Add groups of flow rows to the rows of their ends and service; new ones above a limit are refused and counted.

    A pair is entered when it talks: established in this tick, or both sides sent and nobody refused. Later rows of it
    count even where one side was silent.

    Args:
        cells, rows, free, state: the table.
        nodes: int64, shape (nodes, 4): head of the chain, rows, rows refused, limit of rows.
        most: rows in all.
        places: of each group's tick in the round; ticks, owners: tick and node by place.
        src, dst: numbers of addresses; service: protocol << 16 | port; left_out: groups that do not count.
        ours: by number of an address, whether it may be a workload's.
        hashes, words: by number, u64 and int64 of shape (n, 2).
        measures: by group: opened, bytes sent and received by the initiator, packets likewise, established, refused.
    """
    opened, sent, received, asked, replied, established, refused = measures
    for i in range(len(src)):
        if left_out[i] or not (ours[src[i]] or ours[dst[i]]) or not (asked[i] or replied[i]):
            continue
        node = owners[places[i]]
        one, other = combine(hashes[src[i]], np.uint64(node)), combine(hashes[dst[i]], np.uint64(service[i]))
        key = np.int64(combine(one, other))
        at = find(cells, rows, key)
        slot = np.int64(cells[at]) - 1
        if slot < 0:
            if established[i] == 0 and (asked[i] == 0 or replied[i] == 0 or refused[i] > 0):
                continue
            if nodes[node, 1] >= nodes[node, LIMIT] or state[USED] - state[FREE] >= most:
                nodes[node, 2] += 1
                continue
            reused = state[FREE] > 0
            slot = take_slot(free, state)
            if reused:
                rows[slot] = 0
            rows[slot, 0], rows[slot, NODE], rows[slot, NEXT] = key, node, nodes[node, 0]
            rows[slot, SOURCE], rows[slot, SOURCE + 1] = words[src[i], 0], words[src[i], 1]
            rows[slot, DESTINATION], rows[slot, DESTINATION + 1] = words[dst[i], 0], words[dst[i], 1]
            rows[slot, SERVICE] = service[i]
            nodes[node, 0] = slot + 1
            nodes[node, 1] += 1
            cells[at] = slot + 1
        rows[slot, TICK] = ticks[places[i]]
        rows[slot, FLOWS] += opened[i]
        rows[slot, SENT] += sent[i]
        rows[slot, RECEIVED] += received[i]
