"""A look into Arrow IPC messages before they are read.

Arrow unpacks compressed bodies without a limit, so 4 MiB on the wire could become gigabytes in memory.
Our writers leave bodies uncompressed (the Kafka producer compresses), hence whatever is compressed is
refused. Whether it is stands in the flatbuffer of each message (format/Message.fbs of Apache Arrow),
for which there is no Python interface.
"""

from __future__ import annotations

import struct

import pyarrow as pa

# Positions of fields in their tables, from Message.fbs.
_MESSAGE_HEADER = 2
_DICTIONARY_DATA = 1
_BATCH_NODES = 1
_BATCH_COMPRESSION = 3


def inspect(body: pa.Buffer) -> tuple[bool, bool]:
    """Tell whether any message of an IPC stream has a compressed body, and whether any column claims nulls.

    Raises:
        pa.ArrowException: the stream is damaged.
        struct.error: the same, found here.
    """
    compressed = nulls = False
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type in ("record batch", "dictionary"):
            data = memoryview(message.metadata)
            batch = _table(data, struct.unpack_from("<I", data)[0], _MESSAGE_HEADER)
            if message.type == "dictionary":
                batch = _table(data, batch, _DICTIONARY_DATA)
            compressed |= _field(data, batch, _BATCH_COMPRESSION) != 0
            nulls |= _claims_nulls(data, batch)
    return compressed, nulls


def _claims_nulls(data: memoryview, batch: int) -> bool:
    """Look at the batch's field nodes: pairs of i64, rows and nulls."""
    if not _field(data, batch, _BATCH_NODES):
        return False
    nodes = _table(data, batch, _BATCH_NODES)
    count = struct.unpack_from("<I", data, nodes)[0]
    if nodes + 4 + 16 * count > len(data):
        problem = "field nodes lie outside their message"
        raise struct.error(problem)
    return any(struct.unpack_from(f"<{2 * count}q", data, nodes + 4)[1::2])


def _field(data: memoryview, table: int, number: int) -> int:
    """Return where a table's field is; 0: it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if struct.unpack_from("<H", data, vtable)[0] <= 4 + 2 * number:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _table(data: memoryview, table: int, number: int) -> int:
    """Return where the table is to which a field points."""
    place = _field(data, table, number)
    target: int = place + struct.unpack_from("<I", data, place)[0]
    return target
