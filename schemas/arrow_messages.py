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
_BATCH_COMPRESSION = 3


def compressed(body: pa.Buffer) -> bool:
    """Tell whether any message of an IPC stream has a compressed body.

    Raises:
        pa.ArrowException: the stream is damaged.
        struct.error: the same, found here.
    """
    return any(
        message.type in ("record batch", "dictionary") and _is_compressed(message)
        for message in pa.ipc.MessageReader.open_stream(body)
    )


def _is_compressed(message: pa.ipc.Message) -> bool:
    data = memoryview(message.metadata)
    table = _table(data, struct.unpack_from("<I", data)[0], _MESSAGE_HEADER)
    if message.type == "dictionary":
        table = _table(data, table, _DICTIONARY_DATA)
    return _field(data, table, _BATCH_COMPRESSION) != 0


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
