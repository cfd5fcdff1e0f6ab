"""The recorded mixed hour: ten minutes of the lab, made an hour of four nodes by a fixed transformation.

`mixed_hour/shift/events.sge.gz` holds what the exporter made of one recording (`tests/lab/scenarios/mixed_hour.py`),
`case.json` beside it what happened in it and when. A node's hour is that shift five times, 12 minutes apart:

- the rows of the shift's first 720 s are kept, later ones (what the exporter says while its flows run out) are not;
- node *k* (1 to 4) begins (*k* - 1) × 60 s later than the first, and its hour ends with everybody's: it sends empty
  seconds before, and what would come after is cut off; so the same attack runs on two nodes at different times, and
  different attacks run at the same time;
- times are moved by whole seconds, by which nothing changes but the date;
- pods get addresses of their own node: 10.244.1.x and fd00:244:1::x become 10.244.k.x and fd00:244:k::x. What is
  outside stays, so all nodes' outside hosts are the same ones. Text in DNS answers is left as it was;
- every second has a message, as a live exporter sends them, and the last, ten minutes later, is the node's end.
"""

from __future__ import annotations

import gzip
import ipaddress
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import pyarrow as pa

from schemas.event_codec import EventMessage, read_file
from schemas.events import ADDRESS, EventHeader
from schemas.time_shift import shifted
from sluicegate.cases import Expectation
from tests.torture.recut import in_sequence

FOLDER = Path(__file__).parent / "mixed_hour" / "shift"
SHIFT_S, SHIFTS, NODES, LATER_S = 720, 5, 4, 60
CLOSING_S = 600
_V4, _V6 = bytes(10) + b"\xff\xff\x0a\xf4", b"\xfd\x00\x02\x44\x00"


def messages(shifts: int = SHIFTS, nodes: int = NODES) -> Iterator[EventMessage]:
    """Yield the hour in log order: second by second, within a second node by node."""
    return in_sequence(_messages(shifts, nodes))


def _messages(shifts: int, nodes: int) -> Iterator[EventMessage]:
    by_cut, begin = _shift()
    seconds = shifts * SHIFT_S
    names = [f"node{number}" for number in range(1, nodes + 1)]
    empty = next(iter(by_cut.values()))[0].header.model_copy(update={"lost_packets": 0, "malformed": 0, "final": False})
    for second in range(seconds):
        for number, name in enumerate(names):
            number_of_shift, place = divmod(second - number * LATER_S, SHIFT_S)
            found = by_cut.get(begin + place, []) if number_of_shift >= 0 else []
            moved = second - place
            for message in found:
                yield _of_node(shifted(message, moved), name, number + 1)
            if not found:
                yield EventMessage(_header(empty, name, begin + second))
    for name in names:
        yield EventMessage(_header(empty, name, begin + seconds))
    for name in names:
        end = _header(empty, name, begin + seconds + CLOSING_S)
        yield EventMessage(end.model_copy(update={"final": True}))


def truth(shifts: int = SHIFTS, nodes: int = NODES) -> tuple[list[Expectation], str]:
    """Return what must and must not be found, and the time (ISO 8601) from which its seconds count."""
    case: dict[str, Any] = orjson.loads((FOLDER / "case.json").read_bytes())
    lines = []
    for line in (Expectation.model_validate(one) for one in case["expect"]):
        if line.start_s is None or line.end_s is None:
            lines += [line.model_copy(update={"src": _address(line.src, node)}) for node in range(1, nodes + 1)]
            continue
        for node in range(1, nodes + 1):
            for shift in range(shifts):
                moved = shift * SHIFT_S + (node - 1) * LATER_S
                if line.end_s + moved >= shifts * SHIFT_S:
                    continue
                change = {"start_s": line.start_s + moved, "end_s": line.end_s + moved,
                          "src": _address(line.src, node), "dst": _address(line.dst, node)}  # fmt: skip
                lines.append(line.model_copy(update=change))
    # Silence is said once, whatever the nodes: lines without a source are all the same.
    return list(dict.fromkeys(lines)), str(case["first"])


@cache
def _shift() -> tuple[dict[int, list[EventMessage]], int]:
    """Return the shift's messages by cut, and the first cut."""
    with gzip.open(FOLDER / "events.sge.gz") as file:
        found = list(read_file(cast(BinaryIO, file)))
    begin = found[0].header.cut
    by_cut: dict[int, list[EventMessage]] = {}
    for message in found:
        if message.header.cut < begin + SHIFT_S:
            by_cut.setdefault(message.header.cut, []).append(message)
    return by_cut, begin


def _header(empty: EventHeader, node: str, cut: int) -> EventHeader:
    return empty.model_copy(update={"node": node, "cut": cut, "part": 0, "parts": 1})


def _of_node(message: EventMessage, name: str, number: int) -> EventMessage:
    header = message.header.model_copy(update={"node": name, "final": False})
    if number == 1:
        return EventMessage(header, message.batches)
    return EventMessage(header, {kind: _readdressed(batch, number) for kind, batch in message.batches.items()})


def _readdressed(batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
    arrays = []
    for field, array in zip(batch.schema, batch.columns, strict=True):
        if field.type == ADDRESS:
            words = [_moved(word, number) for word in array.dictionary.to_pylist()]
            array = pa.DictionaryArray.from_arrays(array.indices, pa.array(words, ADDRESS.value_type))
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _moved(address: bytes, number: int) -> bytes:
    """Return a pod's address on the lab's only node as it would be on another; any other address as it is."""
    if address[:15] == _V4 + b"\x01":
        return _V4 + bytes([number]) + address[15:]
    if address[:6] == _V6 + b"\x01":
        return _V6 + bytes([number]) + address[6:]
    return address


def _address(text: str, number: int) -> str:
    """As `_moved`, for the words of a truth; ranges and words that are no address stay."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    packed = address.packed if address.version == 6 else _V4[:12] + address.packed
    moved = _moved(packed, number)
    return str(ipaddress.ip_address(moved if address.version == 6 else moved[12:]))
