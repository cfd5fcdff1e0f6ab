"""Event rows as columns, for traffic that no lab could make fast enough: attempts, conversations, lookups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.generate import filled_batch
from schemas.events import FlowMark

SECOND = 1_000_000_000
TCP, UDP = 6, 17
_OPENED = int(FlowMark.OPENED)
_SPOKE = int(FlowMark.OPENED | FlowMark.ESTABLISHED | FlowMark.EXCHANGED)

Array = npt.NDArray[Any]
Hosts = Array | np.uint32


def ip4(first: int, second: int, third: int | Array, fourth: int | Array) -> Array:
    """Return IPv4 addresses as numbers, uint32; arrays broadcast."""
    number = (first << 24) + (second << 16) + (np.asarray(third, np.int64) << 8) + np.asarray(fourth, np.int64)
    return number.astype(np.uint32)


def attempts(cut: int, src: Array, dst: Hosts, port: Array | int, dice: np.random.Generator) -> pa.RecordBatch:
    """Return flow rows of bare SYNs, one per source: the first packet of flows that nobody answered yet.

    Args:
        cut: end of the second, s since epoch.
        src: uint32, shape (n,).
        dst: uint32, shape (n,) or one.
        port: destination ports, shape (n,) or one.
        dice: makes source ports, flow ids and the moment within the second.
    """
    rows = len(src)
    once = np.ones(rows, np.int64)
    given = {"src_packets": once, "src_bytes": 60 * once, "src_syn": once, "src_flags": 2 * once}
    return _flows(cut, src, dst, port, dice, np.full(rows, _OPENED), given)


def conversations(cut: int, src: Array, dst: Hosts, port: Array | int, dice: np.random.Generator) -> pa.RecordBatch:
    """Return flow rows of connections that were made and carried payload both ways; arguments as `attempts`."""
    once = np.ones(len(src), np.int64)
    given = {
        "src_packets": 6 * once, "dst_packets": 5 * once, "src_bytes": 700 * once, "dst_bytes": 1800 * once,
        "src_payload": 380 * once, "dst_payload": 1500 * once, "src_syn": once, "dst_synack": once,
        "src_flags": 26 * once, "dst_flags": 26 * once,
    }  # fmt: skip
    return _flows(cut, src, dst, port, dice, np.full(len(src), _SPOKE), given)


def _flows(cut: int, src: Array, dst: Hosts, port: Array | int, dice: np.random.Generator, marks: Array,
           given: Mapping[str, Array]) -> pa.RecordBatch:  # fmt: skip
    rows = len(src)
    end = cut * SECOND - dice.integers(1, SECOND, rows)
    return filled_batch("flow", rows, {
        "src": _address(src), "dst": _address(np.broadcast_to(dst, rows)), "marks": marks,
        "src_port": dice.integers(32_768, 61_000, rows), "dst_port": np.broadcast_to(port, rows),
        "proto": np.full(rows, TCP), "flow_id": dice.integers(0, 1 << 63, rows),
        "direction_known": np.ones(rows, np.bool_), "conn_start": end - 1_000_000, "start": end - 1_000_000, "end": end,
        "ttl_min": np.full(rows, 63), "ttl_max": np.full(rows, 64), **given,
    })  # fmt: skip


def lookups(cut: int, client: Hosts, server: Hosts, names: Sequence[str], dice: np.random.Generator) -> pa.RecordBatch:
    """Return DNS rows of answered TXT queries, one per name."""
    rows = len(names)
    return filled_batch("dns", rows, {
        "time": cut * SECOND - dice.integers(1, SECOND, rows), "client": _address(np.broadcast_to(client, rows)),
        "server": _address(np.broadcast_to(server, rows)), "client_port": dice.integers(32_768, 61_000, rows),
        "transport": np.full(rows, UDP), "id": dice.integers(0, 1 << 16, rows),
        "qname": pa.array(names, pa.string()).dictionary_encode(), "qtype": np.full(rows, 16),
        "rcode": np.zeros(rows), "answer_number": np.ones(rows), "query_bytes": np.full(rows, 90),
        "answer_bytes": np.full(rows, 210), "latency": dice.integers(100_000, 20_000_000, rows),
    })  # fmt: skip


def random_names(count: int, letters: int, zone: str, dice: np.random.Generator) -> list[str]:
    """Return names of so many random letters and digits below a zone."""
    alphabet = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz234567", np.uint8)
    text = alphabet[dice.integers(0, 32, (count, letters))].tobytes().decode()
    return [f"{text[at : at + letters]}.{zone}" for at in range(0, count * letters, letters)]


def _address(numbers: Array) -> pa.DictionaryArray:
    used, indices = np.unique(np.asarray(numbers, np.uint32), return_inverse=True)
    mapped = np.zeros((len(used), 16), np.uint8)
    mapped[:, 10:12] = 255
    mapped[:, 12:] = used.astype(">u4").view(np.uint8).reshape(-1, 4)
    distinct = pa.Array.from_buffers(pa.binary(16), len(used), [None, pa.py_buffer(mapped.tobytes())])
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), distinct)
