"""Zeek logs: what becomes of connections and lookups, and how values are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.chunks import CaptureReport
from schemas.events import Capability
from tests.log_samples import BEGIN, CONN_FIELDS, DNS_FIELDS, ZEEK_HEADER, conn, json_line, lookup, zeek_line
from tests.unit.exporter.flow_logs import read, read_json, rows


def marks(folder: Path, **more: Any) -> str:
    """The marks of a connection over all its rows."""
    return "".join(sorted("".join(row["marks"] for row in rows(read_json(folder, [conn(**more)])))))


@pytest.mark.parametrize(
    ("state", "history", "expected"),
    [
        ("SF", "ShADadFf", "ceox"),
        ("S0", "S", "cou"),
        ("REJ", "Sr", "cor"),
        ("RSTO", "ShAR", "ceo"),
        ("RSTO", "ShR", "co"),  # half-open probe: no ACK of the initiator
        ("RSTOS0", "SR", "co"),
        ("SH", "SF", "co"),
        ("SHR", "hf", "c"),
        ("RSTRH", "hr", "c"),
        ("OTH", "Dd", "cx"),
        ("S1", "ShA", "ceo"),
        ("S1", "", "ceo"),
    ],
)
def test_marks_of_tcp_states(tmp_path: Path, state: str, history: str, expected: str) -> None:
    payload = {"orig_bytes": 10 if "D" in history else 0, "resp_bytes": 10 if "d" in history else 0}
    assert marks(tmp_path, conn_state=state, history=history, **payload) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"proto": "udp", "conn_state": "SF"}, "ceox"),
        ({"proto": "udp", "conn_state": "S0", "resp_pkts": 0, "resp_bytes": 0}, "cou"),
        ({"proto": "udp", "conn_state": "SHR", "orig_pkts": 0, "orig_bytes": 0}, "c"),
        (
            {"proto": "icmp", "conn_state": "OTH", "id.orig_p": 8, "id.resp_p": 0, "resp_pkts": 0, "resp_bytes": 0},
            "cou",
        ),
        ({"proto": "icmp", "conn_state": "OTH", "id.orig_p": 8, "id.resp_p": 0, "resp_bytes": 0}, "ceo"),
        ({"proto": "icmp", "conn_state": "OTH", "id.orig_p": 3, "id.resp_p": 1, "resp_pkts": 0, "resp_bytes": 0}, "c"),
    ],
)
def test_marks_of_other_protocols(tmp_path: Path, more: dict[str, Any], expected: str) -> None:
    assert marks(tmp_path, history=None, **more) == expected


def test_a_long_connection_is_told_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    first, last = rows(read_json(tmp_path, [conn(duration=100.0)]))
    assert (first["cut"], first["marks"]) == (1, "oex")
    assert (first["src_packets"], first["dst_packets"], first["src_payload"], first["src_syn"]) == (1, 0, 0, 1)
    assert (last["cut"], last["marks"]) == (101, "c")
    assert (last["src_packets"], last["dst_packets"], last["dst_bytes"], last["src_syn"]) == (4, 4, 712, 0)
    assert (last["total_src_packets"], last["total_src_bytes"], last["total_dst_payload"]) == (5, 372, 500)
    assert first["src_bytes"] + last["src_bytes"] == 372
    assert first["flow_id"] == last["flow_id"]
    assert first["conn_start"] == last["conn_start"] == first["end"]


def test_an_unanswered_attempt_is_given_up_three_seconds_later(tmp_path: Path) -> None:
    silent = conn(conn_state="S0", history="S", duration=None, orig_bytes=None, resp_bytes=None, resp_pkts=0,
                  resp_ip_bytes=0, orig_pkts=1, orig_ip_bytes=60)  # fmt: skip
    first, last = rows(read_json(tmp_path, [silent]))
    assert [(first["cut"], first["marks"]), (last["cut"], last["marks"])] == [(1, "o"), (4, "uc")]
    assert (first["src_packets"], last["src_packets"], last["total_src_packets"]) == (1, 0, 1)
    assert first["src_flags"] == 2


def test_flags_come_from_the_history(tmp_path: Path) -> None:
    (row,) = rows(read_json(tmp_path, [conn()]))
    assert (row["src_flags"], row["dst_flags"]) == (2 | 16 | 1, 18 | 16 | 1)
    assert [row[n] for n in ("src_syn", "dst_synack", "src_fin", "dst_fin", "src_rst", "dst_rst")] == [1, 1, 1, 1, 0, 0]
    assert (row["first_payload"], row["app"], row["direction_known"]) == (1, "http", True)
    (row,) = rows(read_json(tmp_path, [conn(history="^hADr")]))
    assert not row["direction_known"]


def test_every_repeated_syn_of_a_refused_attempt_counts(tmp_path: Path) -> None:
    (row,) = rows(read_json(tmp_path, [conn(conn_state="REJ", history="Sr", orig_pkts=2, orig_bytes=0, resp_bytes=0)]))
    assert (row["src_syn"], row["dst_rst"]) == (2, 1)


def test_tabs_and_json_say_the_same(tmp_path: Path) -> None:
    values = [conn(n, duration=n / 7, vlan=None) for n in range(5)]
    table = ZEEK_HEADER.format(path="conn", fields="\t".join(CONN_FIELDS))
    table += "".join(zeek_line(v, CONN_FIELDS) + "\n" for v in values)
    assert rows(read(tmp_path, table)) == rows(read_json(tmp_path, values))
    nested = [{"id": {k.removeprefix("id."): v for k, v in c.items() if k.startswith("id.")}}
              | {k: v for k, v in c.items() if not k.startswith("id.")} for c in values]  # fmt: skip
    assert rows(read_json(tmp_path, nested)) == rows(read_json(tmp_path, values))


def test_times_may_be_written_out(tmp_path: Path) -> None:
    plain, written = (rows(read_json(tmp_path, [conn(ts=ts)])) for ts in (BEGIN + 0.25, "2023-11-14T22:15:00.250000Z"))
    assert plain == written


def test_a_table_joined_from_two_with_other_fields(tmp_path: Path) -> None:
    fewer = [name for name in CONN_FIELDS if name not in ("service", "history")]
    table = "".join(
        ZEEK_HEADER.format(path="conn", fields="\t".join(fields)) + zeek_line(conn(n), fields) + "\n"
        for n, fields in enumerate((CONN_FIELDS, fewer))
    )
    report = CaptureReport()
    found = rows(read(tmp_path, table, report))
    assert [row["app"] for row in found] == ["http", ""]
    assert not report.problems


def test_what_the_log_does_not_record_is_not_claimed(tmp_path: Path) -> None:
    fields = ["ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "conn_state"]
    table = ZEEK_HEADER.format(path="conn", fields="\t".join(fields)) + zeek_line(conn(), fields) + "\n"
    (row,), header = rows(found := read(tmp_path, table)), found[0].header
    able = Capability(header.capabilities)
    assert able == Capability.REVERSE | Capability.PORTS | Capability.ICMP | Capability.ATTEMPTS
    assert (row["src_packets"], row["src_flags"], row["marks"]) == (0, 0, "oec")


def test_disorder_is_put_right(tmp_path: Path) -> None:
    values = [conn(n) for n in range(50)]
    assert rows(read_json(tmp_path, values[::-1])) == rows(read_json(tmp_path, values))


@pytest.mark.parametrize(
    "damage",
    [{"ts": -1}, {"ts": None}, {"ts": 1e300}, {"id.orig_h": "10.0.0"}, {"id.resp_p": 70000}, {"id.orig_p": 1.5},
     {"orig_pkts": -3}, {"duration": "long"}, {"proto": "carrier pigeon"}, {"resp_ip_bytes": 1 << 60}],
)  # fmt: skip
def test_values_that_cannot_be_damage_their_line_alone(tmp_path: Path, damage: dict[str, Any]) -> None:
    report = CaptureReport()
    found = rows(read_json(tmp_path, [conn(0), conn(1, **damage), conn(2)], report))
    assert [row["cut"] for row in found] == [1, 3]
    assert report.malformed == 1
    assert "line 2 was left out" in report.problems[0]


def test_lookups_and_their_answers(tmp_path: Path) -> None:
    silent = lookup(3, rtt=None, rcode=None, answers=None, TTLs=None, query="Nobody.Example.")
    gone = lookup(5, rcode=3, answers=None, TTLs=None, qtype=28, proto="tcp")
    table = ZEEK_HEADER.format(path="dns", fields="\t".join(DNS_FIELDS))
    table += "".join(zeek_line(v, DNS_FIELDS) + "\n" for v in (lookup(), silent, gone))
    found = rows(read(tmp_path, table), "dns")
    assert [(r["qname"], r["answer_number"], r["rcode"], r["cut"]) for r in found] == [
        ("w0.example.com", 1, 0, 1), ("w0.example.com", 2, 0, 1), ("w5.example.com", 1, 3, 6),
        ("nobody.example", 0, -1, 9),
    ]  # fmt: skip
    one, two, none, unanswered = found
    assert (one["record_type"], one["record_data"], one["ttl"]) == (5, "cdn.example.net", 300)
    assert (two["record_type"], two["record_data"], two["ttl"], two["records"]) == (1, "192.0.2.8", 60, 2)
    assert (one["latency"], one["flags"], one["query_bytes"] > 0, two["query_bytes"]) == (10_000_000, 0x8180, True, 0)
    assert (none["transport"], none["records"], none["qtype"]) == (6, 0, 28)
    assert (unanswered["latency"], unanswered["time"]) == (-1, (BEGIN + 3) * 10**9 + 250_000_000)


def test_escaped_bytes_of_names(tmp_path: Path) -> None:
    table = ZEEK_HEADER.format(path="dns", fields="\t".join(DNS_FIELDS))
    table += zeek_line(lookup(query="a\\x09b\\xff.example"), DNS_FIELDS) + "\n"
    assert {r["qname"] for r in rows(read(tmp_path, table), "dns")} == {"a\\009b\\195\\191.example"}


def test_fields_that_nobody_knows_are_passed_over(tmp_path: Path) -> None:
    strange = json_line(conn() | {"new.field": {"a": [1]}, "other": "x"}) + "\n"
    assert rows(read(tmp_path, strange)) == rows(read_json(tmp_path, [conn()]))


def test_a_log_without_rows_is_empty_and_not_wrong(tmp_path: Path) -> None:
    report = CaptureReport()
    assert (
        read(tmp_path, ZEEK_HEADER.format(path="conn", fields="\t".join(CONN_FIELDS)) + "#close\tnow\n", report) == []
    )
    assert not report.problems
