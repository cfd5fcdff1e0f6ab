from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from exporter.chunks import Interface, PacketChunk
from schemas.event_codec import EventMessage, rows_to_batch
from schemas.events import CAPTURE_CAPABILITIES, EventHeader, FlowMark
from sluicegate.clock_summary import ClockSummary
from sluicegate.traffic_groups import Grouped
from sluicegate.traffic_summary import TrafficSummary, mac_text, protocol_name

CUT = 1_700_000_001


def message(sequence: int = 0, cut: int = CUT, **rows: list[dict[str, Any]]) -> EventMessage:
    header = EventHeader(
        cluster="c", node="n", exporter="e", boot="b", sequence=sequence, cut=cut, source="capture",
        capabilities=int(CAPTURE_CAPABILITIES), clock="capture",
    )  # fmt: skip
    return EventMessage(header, {kind: rows_to_batch(kind, entries, cut) for kind, entries in rows.items()})


def flow(src: str, dst: str, port: int = 80, proto: int = 6, *marks: FlowMark, **more: int) -> dict[str, Any]:
    return {"src": src, "dst": dst, "dst_port": port, "proto": proto, "marks": int(sum(marks)), **more}


def test_rows_of_one_flow_are_one_flow_of_a_pair() -> None:
    summary = TrafficSummary()
    opened = flow("10.0.0.1", "10.0.0.2", 80, 6, FlowMark.OPENED, src_bytes=100, dst_bytes=50, src_packets=2, src_syn=1)
    later = flow("10.0.0.1", "10.0.0.2", 80, 6, FlowMark.CLOSED, src_bytes=10, dst_packets=1)
    summary.add(message(0, flow=[opened, flow("10.0.0.3", "10.0.0.2", 53, 17, FlowMark.OPENED, src_bytes=60)]))
    summary.add(message(1, CUT + 1, flow=[later]))
    result = summary.result(5)
    assert result["talkers"]["top"][0] == {"src": "10.0.0.1", "dst": "10.0.0.2", "bytes": 160, "packets": 3, "flows": 1}
    assert [(row["protocol"], row["dst_port"], row["flows"]) for row in result["ports"]] == [
        ("TCP", 80, 1),
        ("UDP", 53, 1),
    ]
    assert result["tcp"]["flows"]["opened"] == 1
    assert result["tcp"]["flows"]["closed"] == 1
    assert result["tcp"]["packets"]["src_syn"] == 1
    assert result["rows"]["flow"] == 3


def test_an_answer_with_several_records_is_one_query() -> None:
    first = {"client": "10.0.0.1", "server": "10.0.0.53", "qname": "a.example", "qtype": 1, "rcode": 0}
    rows = [
        {**first, "answer_number": 1, "query_bytes": 30, "answer_bytes": 90, "latency": 2_000_000},
        {**first, "answer_number": 2},
        {
            **first,
            "qname": "b.example",
            "rcode": 3,
            "answer_number": 1,
            "query_bytes": 30,
            "answer_bytes": 40,
            "latency": 2_000_000,
        },
        {**first, "qname": "c.example", "rcode": -1, "answer_number": 0, "query_bytes": 30},
    ]
    summary = TrafficSummary()
    summary.add(message(dns=rows))
    dns = summary.result(5)["dns"]
    assert (dns["queries"], dns["names"], dns["unanswered"]) == (3, 3, 1)
    assert dns["failing"] == [{"qname": "b.example", "queries": 1, "failures": 1}]
    assert dns["codes"] == [{"rcode": 0, "answers": 1}, {"rcode": 3, "answers": 1}]
    assert 2 / 2**0.25 <= dns["latency_ms"]["p50"] <= 2 * 2**0.25


def test_an_address_that_two_machines_claim_is_named() -> None:
    claims = [{"claim": 2, "claimed": "10.0.0.1", "claimed_mac": mac} for mac in (0x020000000001, 0x020000000002)]
    claims.append({"claim": 2, "claimed": "10.0.0.9", "claimed_mac": 0x020000000009})
    summary = TrafficSummary()
    summary.add(message(link=claims))
    assert summary.result(5)["arp"] == {
        "claims": 3, "addresses": 2,
        "claimed_by_several": [{"address": "10.0.0.1", "macs": ["02:00:00:00:00:01", "02:00:00:00:00:02"]}],
    }  # fmt: skip


def test_a_source_says_what_it_sees_and_what_was_missed() -> None:
    summary = TrafficSummary()
    for sequence, cut in ((0, CUT), (1, CUT + 30), (4, CUT + 29)):
        summary.add(message(sequence, cut))
    (source,) = summary.result(5)["sources"]
    assert (source["gaps"], source["longest_gap_s"], source["backwards"], source["missing_messages"]) == (1, 30, 1, 2)
    assert "ports" in source["sees"]
    assert "nat" in source["blind_to"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), max_size=60), st.integers(1, 60))
def test_groups_are_sums_however_they_were_added(rows: list[tuple[int, int]], size: int) -> None:
    grouped = Grouped(("k",), ("v",))
    for start in range(0, len(rows), size):
        keys, values = zip(*rows[start : start + size], strict=True)
        grouped.add({"k": pa.array(keys, pa.int64()), "v": pa.array(values, pa.int64())})
    wanted = {key: sum(v for k, v in rows if k == key) for key, _ in rows}
    assert {row["k"]: row["v"] for row in grouped.top(100)} == wanted
    assert grouped.total("v") == sum(wanted.values())


def test_the_smallest_groups_are_forgotten_and_counted() -> None:
    grouped = Grouped(("k",), ("v",), keep=2)
    grouped.add({"k": pa.array([1, 2, 3]), "v": pa.array([5, 9, 7])})
    assert [row["k"] for row in grouped.top(5)] == [2, 3]
    assert grouped.forgotten == 1


def chunk(times: list[int], table: tuple[Interface, ...] = (Interface("eth0", 1),)) -> PacketChunk:
    count = len(times)
    ones = np.ones(count, np.int64)
    stamps = np.array(times, np.int64) * 1_000_000
    return PacketChunk(
        np.zeros(200, np.uint8), 0 * ones, 60 * ones, 100 * ones, stamps, np.zeros(count, np.int32), table
    )


def test_the_clock_counts_steps_back_gaps_and_the_busiest_second() -> None:
    clock = ClockSummary()
    clock.add(chunk([1000, 1100, 1050]))  # ms
    clock.add(chunk([1900, 20_000, 20_001]))
    result = clock.result()
    assert (result["packets"], result["span_s"], result["busiest_second"]) == (6, 19.001, 4)
    assert (result["inversions"], result["worst_inversion_s"]) == (1, 0.05)
    assert (result["gaps"], result["longest_gap_s"]) == (1, 18.1)
    assert result["cut_short"] == 6
    assert result["interfaces"] == {"eth0 (Ethernet)": 6}


def test_an_empty_capture_has_no_clock() -> None:
    assert ClockSummary().result()["first"] is None


def test_names() -> None:
    assert mac_text(0x0025B3BF91EE) == "00:25:b3:bf:91:ee"
    assert protocol_name(132) == "SCTP"
    assert protocol_name(200) == "protocol 200"
