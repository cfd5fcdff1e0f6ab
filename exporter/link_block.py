"""Link rows as columns, before they become an Arrow batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.chunks import I64, PacketChunk
from exporter.link_layer import Frames

# High bits of the lower half of a mapped IPv4 address.
MAPPED = np.uint64(0xFFFF << 32)

# Columns by their names in the schema, addresses as two big-endian halves; ``text`` holds str; ``position``
# is the packet's place in its chunk.
LinkBlock = dict[str, npt.NDArray[Any]]

_HALVES = ("claimed_high", "claimed_low", "target_high", "target_low", "speaker_high", "speaker_low")


def frame_columns(chunk: PacketChunk, frames: Frames, positions: I64) -> LinkBlock:
    """Return what the frames say themselves, by chunk position; what claims say is still absent."""
    count = len(positions)
    rows: LinkBlock = {name: np.zeros(count, np.uint64) for name in ("claimed_mac", *_HALVES)}
    rows |= {
        "position": positions, "time": chunk.times[positions], "claim": np.zeros(count, np.uint8),
        "mac": frames.source[positions], "destination_mac": frames.destination[positions],
        "number": np.zeros(count, np.uint32), "text": np.full(count, "", object),
        "interface": chunk.interfaces[positions].astype(np.int64), "vlan": frames.vlan[positions].astype(np.uint16),
    }  # fmt: skip
    return rows


def in_order(blocks: Sequence[LinkBlock]) -> LinkBlock:
    """Return the rows of blocks of one chunk together, in order of arrival."""
    joined = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    order = np.argsort(joined["position"], kind="stable")
    return {name: values[order] for name, values in joined.items()}
