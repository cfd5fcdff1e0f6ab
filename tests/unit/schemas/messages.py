"""Event and rollup messages for tests, and strategies that draw them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from schemas.event_codec import EventMessage, rows_to_batch
from schemas.events import ADDRESS, KINDS, WORD, Column, EventHeader
from schemas.rollups import POINTING, SCHEMAS, SECTIONS, RollupHeader, RollupMessage

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda a: str(a))
counts = st.integers(0, 1 << 48)


def header(**fields: Any) -> EventHeader:
    plain: dict[str, Any] = {
        "cluster": "c1", "node": "n1", "exporter": "e1", "boot": "b1", "sequence": 1, "cut": 1000,
        "source": "capture", "capabilities": 7,
    }  # fmt: skip
    return EventHeader.model_validate({**plain, **fields})


def _values(column: Column) -> st.SearchStrategy[Any]:
    if column.dtype == ADDRESS:
        return addresses.map(_plain)
    if column.dtype == WORD or pa.types.is_string(column.dtype):
        return st.text(max_size=20)
    if pa.types.is_boolean(column.dtype):
        return st.booleans()
    if pa.types.is_fixed_size_binary(column.dtype):
        return st.binary(min_size=16, max_size=16)
    bits = column.dtype.bit_width
    signed = pa.types.is_signed_integer(column.dtype)
    return st.integers(-1 if column.absent == "-1" else 0, (1 << (bits - signed)) - 1)


def _plain(text: str) -> str:
    """Return the one way in which an address is written when it is read back."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def rows(kind: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Draw rows of a kind with every column filled."""
    return st.lists(st.fixed_dictionaries({c.name: _values(c) for c in KINDS[kind]}), min_size=1, max_size=4)


headers = st.builds(
    header,
    node=st.text(min_size=1, max_size=20), sequence=counts, cut=st.integers(0, 1 << 33), capabilities=counts,
    lost_packets=counts, clock=st.sampled_from(["live", "capture"]), final=st.booleans(),
)  # fmt: skip


@st.composite
def event_messages(draw: st.DrawFn) -> EventMessage:
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True))
    return EventMessage(draw(headers), {kind: rows_to_batch(kind, draw(rows(kind)), 1000) for kind in kinds})


def rollup_header(**fields: Any) -> RollupHeader:
    plain: dict[str, Any] = {
        "cluster": "c1", "sender": 0, "senders": 2, "partition": 1, "partitions": 4, "kind": "tick", "tick": 1000,
    }  # fmt: skip
    return RollupHeader.model_validate({**plain, **fields})


@st.composite
def rollup_messages(draw: st.DrawFn) -> RollupMessage:
    sections = draw(st.lists(st.sampled_from(sorted(SECTIONS)), unique=True))
    batches: dict[str, pa.RecordBatch] = {}
    for name in sorted(sections, key=list(SECTIONS).index):
        into = POINTING.get(name)
        if into is not None and into not in batches:
            continue  # its rows would point nowhere
        last = batches[into].num_rows - 1 if into is not None else 0
        row = st.fixed_dictionaries(
            {c.name: st.integers(0, last) if c.name == into else _values(c) for c in SECTIONS[name]}
        )
        entries = draw(st.lists(row, min_size=1, max_size=4))
        batches[name] = pa.RecordBatch.from_pylist(entries, schema=SCHEMAS[name])
    return RollupMessage(draw(st.builds(rollup_header, tick=st.integers(0, 1 << 34), lost_rows=counts)), batches)


def small_event() -> EventMessage:
    """Return a message with two kinds of rows."""
    flow = [{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "interface": f"veth{i}"} for i in range(3)]
    dns = [{"client": "10.0.0.1", "server": "10.0.0.3", "qname": f"name{i}.example"} for i in range(2)]
    return EventMessage(
        header(), {kind: rows_to_batch(kind, entries, 1000) for kind, entries in (("flow", flow), ("dns", dns))}
    )


def small_rollup() -> RollupMessage:
    """Return a message with two sections, one of which holds plain text."""
    values: dict[str, Any] = {"node": "n1", "address": b"\0" * 16, "dst": b"\1" * 16}
    batches = {
        name: pa.RecordBatch.from_pylist(
            [{c.name: values.get(c.name, i) for c in SECTIONS[name]} for i in range(3)], schema=SCHEMAS[name]
        )
        for name in ("victim", "workload")
    }
    return RollupMessage(rollup_header(), batches)
