"""Messages of connection tracking: what stands in them, and what NAT makes of flows by them."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.connection_rows import ConnectionRows
from exporter.event_batches import flow_batch
from exporter.sides import TO_UPLINK, Locality
from exporter.sources.ctnetlink import ASSURED, DESTROY, NEW, SEEN_REPLY, ConnectionMessages, Connections
from exporter.translated_rows import translated
from exporter.translations import Translations
from exporter.tuples import flow_tuples
from schemas.event_codec import batch_to_rows
from schemas.events import FlowMark

Ends = tuple[str, int, str, int]
POD, SERVICE, BACKEND, NODE, WORLD = "10.1.0.5", "10.96.0.1", "10.2.0.7", "192.0.2.1", "203.0.113.9"


def attribute(kind: int, value: bytes, nested: bool = False) -> bytes:
    body = struct.pack("=HH", 4 + len(value), kind | (0x8000 if nested else 0)) + value
    return body + bytes(-len(body) % 4)


def one_tuple(kind: int, ends: Ends, proto: int) -> bytes:
    source, target = (ipaddress.ip_address(text) for text in (ends[0], ends[2]))
    first = 1 if source.version == 4 else 3
    ip = attribute(first, source.packed) + attribute(first + 1, target.packed)
    transport = attribute(1, bytes([proto]))
    if proto in (1, 58):
        base = 4 if proto == 1 else 7
        transport += (
            attribute(base, struct.pack("!H", ends[1])) + attribute(base + 1, b"\x08") + attribute(base + 2, b"\0")
        )
    else:
        transport += attribute(2, struct.pack("!H", ends[1])) + attribute(3, struct.pack("!H", ends[3]))
    return attribute(kind, attribute(1, ip, True) + attribute(2, transport, True), True)


def message(
    origin: Ends, reply: Ends | None = None, *, kind: int = NEW, proto: int = 6, status: int = 8,
    counted: tuple[int, int, int, int] | None = None, number: int = 77,
) -> bytes:  # fmt: skip
    reply = reply or (origin[2], origin[3], origin[0], origin[1])
    body = one_tuple(1, origin, proto) + one_tuple(2, reply, proto)
    body += attribute(12, struct.pack("!I", number)) + attribute(3, struct.pack("!I", status))
    if counted:
        for place, side in enumerate((counted[:2], counted[2:])):
            body += attribute(
                9 + place, b"".join(attribute(n, struct.pack("!Q", v)) for n, v in enumerate(side, 1)), True
            )
    head = struct.pack("=IHHII", 20 + len(body), 1 << 8 | kind, 0, 0, 0)
    return head + b"\x02\0\0\0" + body


def slots(*messages: bytes) -> tuple[Any, Any]:
    made = np.zeros((len(messages), 1024), np.uint8)
    for row, raw in enumerate(messages):
        made[row, : len(raw)] = np.frombuffer(raw, np.uint8)
    return made, np.array([len(raw) for raw in messages], np.int64)


def read(*messages: bytes) -> Connections:
    found, unread = ConnectionMessages().parse(*slots(*messages))
    assert unread == 0
    return found


TO_SERVICE = ((POD, 40_000, SERVICE, 80), (BACKEND, 8080, POD, 40_000))
TO_WORLD = ((POD, 40_001, WORLD, 443), (WORLD, 443, NODE, 50_123))


def test_both_families_and_icmp_are_read_in_the_order_in_which_they_came() -> None:
    found = read(
        message(("fd00::1", 1000, "fd00::2", 53), proto=17),
        message(*TO_SERVICE, kind=DESTROY, status=SEEN_REPLY | ASSURED, counted=(5, 600, 4, 70_000)),
        message((POD, 4711, WORLD, 0), (WORLD, 4711, NODE, 0), proto=1),
    )
    assert found.destroyed.tolist() == [False, True, False]
    assert found.proto.tolist() == [17, 6, 1]
    assert found.origin.src_port.tolist() == [1000, 40_000, 4711]
    assert found.origin.dst_port.tolist() == [53, 80, 0]
    assert found.reply.src_port.tolist() == [53, 8080, 0]
    assert found.reply.dst_port.tolist() == [1000, 40_000, 4711]
    assert int(found.origin.src_high[0]) == int(ipaddress.ip_address("fd00::1")) >> 64
    assert int(found.origin.src_low[1]) == int(ipaddress.ip_address(POD)) | 0xFFFF << 32
    assert found.counted.tolist() == [[0] * 4, [5, 600, 4, 70_000], [0] * 4]
    assert found.icmp.tolist() == [0, 0, 0x0800]
    assert found.number.tolist() == [77] * 3
    assert found.status.tolist() == [8, SEEN_REPLY | ASSURED, 8]


def test_what_has_no_ports_is_counted_as_unread() -> None:
    plain = message((POD, 1, WORLD, 2))
    other = plain[:47] + b"\x09" + plain[48:]
    found, unread = ConnectionMessages().parse(*slots(other, plain))
    assert (len(found), unread) == (1, 1)


@given(st.lists(st.binary(min_size=0, max_size=400), max_size=8), st.data())
def test_no_bytes_at_all_break_it(raw: list[bytes], data: st.DataObject) -> None:
    whole = message(*TO_SERVICE, counted=(1, 2, 3, 4))
    for at in range(len(raw)):
        if data.draw(st.booleans()):
            cut = data.draw(st.integers(0, len(whole)))
            raw[at] = (whole[:cut] + raw[at])[:1024]
    found, unread = ConnectionMessages().parse(*slots(*raw))
    assert len(found) + unread == len(raw)


def test_what_has_been_met_changes_nothing_about_what_is_read() -> None:
    """Messages of one shape, one that is alike up to a type, and one that is cut off."""
    reader = ConnectionMessages()
    whole = [message((POD, port, WORLD, 80), proto=proto) for port, proto in ((1, 6), (2, 17), (3, 1), (4, 6))]
    alike = bytearray(whole[0])
    alike[30] = 7  # another type of attribute where the source address was
    mixed = [*whole, bytes(alike), whole[1][:90], whole[3]]
    for _ in range(3):
        found, unread = reader.parse(*slots(*mixed))
        assert (found.origin.src_port.tolist(), unread) == ([1, 2, 3, 4, 4], 2)
        assert found.proto.tolist() == [6, 17, 1, 6, 6]
    none, unread = reader.parse(*slots())
    assert (len(none), unread, none.counted.shape) == (0, 0, (0, 4))


def rows_of(*ends: Ends, proto: int = 6) -> dict[str, Any]:
    def halves(text: str) -> int:
        return int(ipaddress.ip_address(text)) | 0xFFFF << 32

    count = len(ends)
    return {
        "marks": np.ones(count, np.uint8), "proto": np.full(count, proto, np.uint8),
        "src_high": np.zeros(count, np.uint64), "dst_high": np.zeros(count, np.uint64),
        "src_low": np.array([halves(e[0]) for e in ends], np.uint64),
        "dst_low": np.array([halves(e[2]) for e in ends], np.uint64),
        "src_port": np.array([e[1] for e in ends], np.uint16), "dst_port": np.array([e[3] for e in ends], np.uint16),
        "icmp_id": np.zeros(count, np.uint16), "interface": np.zeros(count, np.int64), "app": np.zeros(count, np.int64),
        "flow_id": np.arange(count, dtype=np.uint64), "start": np.arange(count),
    }  # fmt: skip


def joined(table: Translations, *ends: Ends) -> list[dict[str, Any]]:
    return batch_to_rows("flow", flow_batch(translated(rows_of(*ends), table), [""]))


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("dst", "dst_port", "orig_dst", "orig_dst_port", "nat_src", "nat_src_port")
    return tuple(row[name] for name in names)


def test_a_flow_gets_its_endpoint_and_keeps_what_it_addressed() -> None:
    table = Translations(64, 10, 3)
    table.take(read(message(*TO_SERVICE), message(*TO_WORLD), message((POD, 40_002, BACKEND, 80))), 1)
    plain, service, world = joined(table, (POD, 40_002, BACKEND, 80), TO_SERVICE[0], TO_WORLD[0])
    none = plain["orig_dst"]
    assert told(service) == (BACKEND, 8080, SERVICE, 80, none, 0)
    assert told(world) == (WORLD, 443, none, 0, NODE, 50_123)
    assert told(plain) == (BACKEND, 80, none, 0, none, 0)


def test_the_nodes_own_flow_is_known_by_what_it_became() -> None:
    table = Translations(64, 10, 3)
    table.take(read(message((NODE, 33_000, SERVICE, 80), (BACKEND, 8080, NODE, 33_000))), 1)
    (row,) = joined(table, (NODE, 33_000, BACKEND, 8080))
    assert told(row)[:4] == (BACKEND, 8080, SERVICE, 80)


def test_it_lingers_and_is_then_forgotten_unless_told_again() -> None:
    table = Translations(64, 10, 3)
    table.take(read(message(*TO_SERVICE), message(*TO_WORLD)), 100)
    table.take(read(message(*TO_SERVICE, kind=DESTROY), message(*TO_WORLD, kind=DESTROY)), 101)
    other = (TO_WORLD[0], (WORLD, 443, NODE, 50_999))
    table.take(read(message(*other)), 105)
    table.close(110)
    assert told(joined(table, TO_SERVICE[0])[0])[0] == BACKEND
    table.close(111)
    assert len(table) == 1
    service, world = joined(table, TO_SERVICE[0], TO_WORLD[0])
    assert told(service)[0] == SERVICE
    assert told(world)[5] == 50_999


def test_after_a_loss_only_what_is_listed_again_stays() -> None:
    table = Translations(64, 10, 3)
    table.take(read(message(*TO_SERVICE), message(*TO_WORLD)), 100)
    table.start_again(120)
    table.take(read(message(*TO_WORLD)), 120)
    table.close(130)
    assert len(table) == 1
    assert told(joined(table, TO_WORLD[0])[0])[5] == 50_123


def test_above_its_capacity_new_ones_are_counted() -> None:
    table = Translations(4, 10, 3)
    table.take(read(*(message((POD, port, SERVICE, 80), (BACKEND, 8080, POD, port)) for port in range(1, 8))), 1)
    assert (len(table), table.refused) == (4, 3)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4), st.booleans()), max_size=60), st.integers(1, 9))
def test_whatever_comes_and_goes_the_last_word_holds(words: list[tuple[int, int, bool]], together: int) -> None:
    """Told one by one or together, a table knows for each connection what was said last, and forgets all at the end."""
    table = Translations(64, 5, 3)
    last: dict[int, tuple[int, bool]] = {}
    for start in range(0, len(words), together):
        part = words[start : start + together]
        table.take(
            read(*(message((POD, port, SERVICE, 80), (BACKEND, 8000 + to, POD, port), kind=DESTROY if gone else NEW)
                   for port, to, gone in part)), 100,
        )  # fmt: skip
        last |= {port: (to, gone) for port, to, gone in part}
    for port, (to, _) in last.items():
        assert told(joined(table, (POD, port, SERVICE, 80))[0])[1] == 8000 + to
    table.close(105)
    assert len(table) == sum(not gone for _, gone in last.values())


@pytest.mark.parametrize(("outside_seen", "expected"), [(True, [0, 1, 1]), (False, [0, 1, 0])])
def test_translated_packets_that_leave_are_another_flow_that_entered(outside_seen: bool, expected: list[int]) -> None:
    """The node's own connections never entered; those from outside did where an uplink is watched."""
    place = Locality([ipaddress.ip_network("10.0.0.0/8")])
    place.set_own({NODE})
    place.sees_outside = outside_seen
    place.translations = Translations(64, 10, 3)
    place.translations.take(
        read(
            message((NODE, 33_000, SERVICE, 80), (BACKEND, 8080, NODE, 33_000)), message(*TO_WORLD),
            message((WORLD, 999, NODE, 30_080), (BACKEND, 8080, NODE, 60_000)),
        ), 1,
    )  # fmt: skip
    rows = rows_of((NODE, 33_000, BACKEND, 8080), (NODE, 50_123, WORLD, 443), (NODE, 60_000, BACKEND, 8080))
    proto = rows["proto"].astype(np.int64)
    sides, turned = np.full(3, TO_UPLINK), np.zeros(3, np.bool_)
    assert place.judge(sides, turned, flow_tuples(rows, proto), proto).tolist() == expected


def connections(place: Locality | None = None) -> ConnectionRows:
    return ConnectionRows(64, 9, place or Locality(), 3)


def flows(made: ConnectionRows) -> list[dict[str, Any]]:
    block = made.close()
    return batch_to_rows("flow", flow_batch(block, [""])) if block else []


SECOND = 10**9


def test_alone_a_connection_is_a_row_at_its_beginning_and_one_at_its_end() -> None:
    made = connections()
    made.take(read(message(*TO_SERVICE)), 100 * SECOND)
    (begun,) = flows(made)
    assert (begun["marks"], begun["dst"], begun["orig_dst"]) == (FlowMark.OPENED, BACKEND, SERVICE)
    made.take(
        read(message(*TO_SERVICE, kind=DESTROY, status=SEEN_REPLY | ASSURED, counted=(5, 600, 4, 70_000))),
        220 * SECOND,
    )
    (ended,) = flows(made)
    assert ended["marks"] == FlowMark.CLOSED | FlowMark.ESTABLISHED
    assert ended["flow_id"] == begun["flow_id"]
    assert (ended["conn_start"], ended["end"]) == (100 * SECOND, 220 * SECOND)
    assert (ended["src_packets"], ended["src_bytes"], ended["dst_packets"], ended["dst_bytes"]) == (5, 600, 4, 70_000)
    assert ended["total_dst_bytes"] == 70_000
    assert not flows(made)


@pytest.mark.parametrize(
    ("proto", "status", "mark"),
    [
        (6, 8, FlowMark.UNANSWERED), (6, SEEN_REPLY, FlowMark(0)), (17, SEEN_REPLY, FlowMark.ESTABLISHED),
        (17, 8, FlowMark.UNANSWERED),
    ],
)  # fmt: skip
def test_alone_the_status_tells_how_it_ended(proto: int, status: int, mark: FlowMark) -> None:
    made = connections()
    made.take(read(message(*TO_WORLD, proto=proto)), SECOND)
    made.take(read(message(*TO_WORLD, proto=proto, kind=DESTROY, status=status)), 2 * SECOND)
    assert flows(made)[-1]["marks"] == mark | FlowMark.CLOSED


def test_alone_what_is_older_than_the_exporter_is_not_new() -> None:
    made = connections()
    made.know(read(message(*TO_WORLD)), SECOND)
    made.take(read(message(*TO_WORLD)), 2 * SECOND)
    assert not flows(made)
    made.take(read(message(*TO_WORLD, kind=DESTROY, status=SEEN_REPLY | ASSURED)), 3 * SECOND)
    assert [row["marks"] for row in flows(made)] == [FlowMark.CLOSED | FlowMark.ESTABLISHED]


def test_alone_after_a_loss_what_began_meanwhile_is_told_and_what_is_gone_is_let_go() -> None:
    made = connections()
    made.take(read(message(*TO_SERVICE), message(*TO_WORLD)), SECOND)
    flows(made)
    made.resume([read(message(*TO_WORLD), message((POD, 7, WORLD, 22)))], 5 * SECOND)
    assert [(row["src_port"], row["marks"]) for row in flows(made)] == [(7, FlowMark.OPENED)]
    # Its end may still have been on its way; when it is missing a second time, it was not.
    made.resume([read(message(*TO_WORLD), message((POD, 7, WORLD, 22)))], 6 * SECOND)
    made.take(read(message(*TO_SERVICE, kind=DESTROY)), 7 * SECOND)
    assert not flows(made)


def test_alone_an_end_that_comes_after_the_list_is_told() -> None:
    made = connections()
    made.take(read(message(*TO_SERVICE)), SECOND)
    made.resume([], 5 * SECOND)
    made.take(read(message(*TO_SERVICE, kind=DESTROY, status=SEEN_REPLY | ASSURED)), 6 * SECOND)
    assert [row["marks"] for row in flows(made)] == [FlowMark.OPENED, FlowMark.CLOSED | FlowMark.ESTABLISHED]


def test_alone_each_node_reports_its_own_pods_and_what_comes_from_outside() -> None:
    place = Locality([ipaddress.ip_network("10.0.0.0/8")], [ipaddress.ip_network("10.1.0.0/16")])
    place.set_own({"10.9.0.1"})
    made = connections(place)
    sources = (POD, "10.2.0.7", "10.9.0.1", WORLD)
    made.take(read(*(message((source, 5, "10.1.0.9", 80)) for source in sources)), SECOND)
    assert sorted(row["src"] for row in flows(made)) == sorted((POD, "10.9.0.1", WORLD))


def test_alone_above_its_capacity_connections_are_counted() -> None:
    made = ConnectionRows(2, 9, Locality(), 3)
    made.take(read(*(message((POD, port, WORLD, 80)) for port in range(1, 6))), SECOND)
    assert (len(flows(made)), made.lost) == (2, 3)


def test_alone_ends_that_are_used_again_at_once_are_two_connections() -> None:
    made = connections()
    made.know(read(message(*TO_SERVICE)), SECOND)
    gone = message(*TO_SERVICE, kind=DESTROY, status=SEEN_REPLY | ASSURED)
    made.take(read(gone, message(*TO_SERVICE), gone, message(*TO_SERVICE)), 5 * SECOND)
    assert (
        sorted(row["marks"] for row in flows(made))
        == [FlowMark.OPENED] * 2 + [FlowMark.CLOSED | FlowMark.ESTABLISHED] * 2
    )
    made.take(read(gone), 6 * SECOND)
    assert len(flows(made)) == 1
