"""Records about whole flows, as flow logs have them, to flow rows: what opened when, what ended when.

A detector wants to hear of an attempt when it begins, and a flow log tells of it when it has ended. So a
record of a flow that crosses a second becomes two rows: one at its start with the first packet, one at
its end with everything else and the totals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from detectors.mixing import combine, hash_addresses, hash_text, mix
from exporter.chunks import I64
from exporter.flow_marks import CLOSED, ESTABLISHED, EXCHANGED, OPENED, REFUSED, UNANSWERED
from exporter.gather import U64
from exporter.network_layer import Bool
from exporter.record_rows import Rows, Values, to_rows

_SECOND = 1_000_000_000
_TOTALS = ("src_packets", "dst_packets", "src_bytes", "dst_bytes", "src_payload", "dst_payload")
_COUNTS = (*_TOTALS, "src_syn", "dst_synack", "src_fin", "dst_fin", "src_rst", "dst_rst")
_SYN = 2


@dataclass(frozen=True)
class FlowRecords:
    """Columns of flow records, each with n entries.

    Attributes:
        start: int64, ns since epoch.
        end: int64, ns since epoch.
        marks: int64, all FlowMark bits of the record.
        columns: the other columns of flow rows; must hold ``src``, ``dst`` and ``proto``, and ``conn_start`` where
            a record is not about a whole flow.
    """

    start: I64
    end: I64
    marks: I64
    columns: Mapping[str, Values]


def salt(cluster: str, node: str, seed: int) -> int:
    """Return what makes flow ids of nodes differ."""
    return hash_text(f"{cluster}/{node}", seed)


def flow_ids(start: I64, columns: Mapping[str, Values], node: int) -> U64:
    """Return an id per record: hash of node, endpoints, protocol and start."""
    count = len(start)
    out = mix(start.astype(np.uint64) ^ np.uint64(node))
    for side in ("src", "dst"):
        column: pa.DictionaryArray = columns[side]
        flat = np.frombuffer(b"".join(column.dictionary.to_pylist()), np.uint8).reshape(-1, 16)
        out = combine(out, hash_addresses(flat)[column.indices.to_numpy()])
        out = combine(out, np.broadcast_to(columns.get(f"{side}_port", np.uint64(0)), count).astype(np.uint64))
    return combine(out, np.asarray(columns["proto"]).astype(np.uint64))


def event_rows(records: FlowRecords, node: int) -> Rows:
    """Return one row per record, at its end: for records that are parts of flows."""
    columns = _shared(records, node)
    return to_rows("flow", records.end, columns | {"marks": records.marks})


def life_rows(records: FlowRecords, node: int, unanswered_seconds: int) -> list[Rows]:
    """Return the rows of records about whole flows.

    Established and exchanged are said with the opening: a record does not tell when they came true, and
    in real flows it is at once.
    """
    columns = _shared(records, node)
    marks = records.marks | CLOSED
    late = (marks & UNANSWERED != 0) & (records.end - records.start < unanswered_seconds * _SECOND)
    closing = np.where(late, records.start + unanswered_seconds * _SECOND, records.end)
    two = (marks & OPENED != 0) & (closing // _SECOND > records.start // _SECOND)
    rest = dict(columns) | {f"total_{n}": columns[n] for n in _TOTALS if n in columns}
    rest["marks"] = np.where(two, marks & ~(OPENED | ESTABLISHED | EXCHANGED), marks)
    opening = _opening(columns, marks)
    for name in _COUNTS:
        if name in opening:
            rest[name] = np.asarray(rest[name]) - np.where(two, np.asarray(opening[name]), 0)
    out = [to_rows("flow", closing, rest)]
    if two.any():
        kept = {n: v.filter(pa.array(two)) if isinstance(v, pa.Array) else np.asarray(v)[two]
                for n, v in opening.items()}  # fmt: skip
        out.insert(0, to_rows("flow", records.start[two], kept))
    return out


def _shared(records: FlowRecords, node: int) -> dict[str, Values]:
    began = np.minimum(np.asarray(records.columns.get("conn_start", records.start)), records.start)
    return dict(records.columns) | {
        "flow_id": flow_ids(np.asarray(records.columns.get("conn_start", began)), records.columns, node),
        "conn_start": began, "start": records.start, "end": np.maximum(records.start, records.end),
    }  # fmt: skip


def _opening(columns: Mapping[str, Values], marks: I64) -> dict[str, Values]:
    """Return the columns of rows about the first packet alone."""
    out = dict(columns) | {"end": columns["start"], "marks": marks & (OPENED | ESTABLISHED | EXCHANGED)}
    out |= {name: np.zeros(len(marks), np.int64) for name in _COUNTS if name in columns}
    if "src_packets" in columns:
        packets = np.asarray(columns["src_packets"])
        out["src_packets"] = np.minimum(packets, 1)
        if "src_bytes" in columns:
            out["src_bytes"] = np.asarray(columns["src_bytes"]) // np.maximum(packets, 1)
    if "src_syn" in columns:
        first = out["src_syn"] = np.minimum(np.asarray(columns["src_syn"]), 1)
        out["src_flags"] = np.where(first > 0, _SYN, np.asarray(columns["src_flags"]))
        out["dst_flags"] = np.zeros(len(marks), np.int64)
    return out


def attempt_marks(attempt: Bool, refused: Bool, silent: Bool, established: Bool, exchanged: Bool) -> I64:
    """Return the marks of records about whole flows; refused, silent and established matter of attempts only."""
    marks: I64 = attempt * OPENED + (attempt & refused) * REFUSED + (attempt & silent & ~refused) * UNANSWERED
    marks += (attempt & established) * ESTABLISHED + exchanged * EXCHANGED
    return marks
