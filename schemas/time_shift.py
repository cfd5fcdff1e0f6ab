"""Messages moved in time by whole seconds: an old capture sent as if it happened now, a wrong clock put right."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from schemas.event_codec import EventMessage
from schemas.events import KINDS

_SECOND = 1_000_000_000
_TIMES = {kind: {c.name for c in columns if c.unit == "ns since epoch"} for kind, columns in KINDS.items()}


def shifted(message: EventMessage, seconds: int) -> EventMessage:
    """Return the message with its cut and every time in its rows moved; 0 (absent) stays 0."""
    if seconds == 0:
        return message
    header = message.header.model_copy(update={"cut": message.header.cut + seconds})
    moved = {kind: _moved(kind, batch, seconds) for kind, batch in message.batches.items()}
    return EventMessage(header, moved, message.appended_ms)


def _moved(kind: str, batch: pa.RecordBatch, seconds: int) -> pa.RecordBatch:
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if name in _TIMES[kind]:
            values = array.to_numpy()
            array = pa.array(np.where(values == 0, 0, values + seconds * _SECOND))
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
