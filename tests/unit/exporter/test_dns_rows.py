"""DNS rows: every question, every answer to it, or that none came."""

from __future__ import annotations

import struct
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from exporter.dns_wire import DnsReader, MalformedDns
from exporter.settings import DnsSettings, ExporterSettings
from tests.unit.exporter.crafting import ACK, FIN, Timed, messages, pcap, rows, tcp4, udp4

C, S = "10.0.0.1", "10.0.0.53"


def question(name: str, kind: str = "A", number: int = 7, edns: int | None = None) -> dns.message.QueryMessage:
    made = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=edns or 0)
    made.id = number
    return made


def answer(asked: dns.message.QueryMessage, *records: str, rcode: int = 0) -> bytes:
    made = dns.message.make_response(asked)
    made.set_rcode(dns.rcode.Rcode.make(rcode))
    for record in records:
        name, ttl, kind, data = record.split(" ", 3)
        made.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return made.to_wire()


def ask(when: float, wire: bytes, port: int = 5000) -> Timed:
    return when, udp4(C, port, S, 53, wire)


def tell(when: float, wire: bytes, port: int = 5000) -> Timed:
    return when, udp4(S, 53, C, port, wire)


def test_each_answer_record_is_a_row(tmp_path: Path) -> None:
    asked = question("WWW.Example.org.", edns=1232)
    told = answer(asked, "www.example.org. 60 CNAME web.example.org.", "web.example.org. 30 A 192.0.2.1",
                  "web.example.org. 30 AAAA 2001:db8::1")  # fmt: skip
    wire = asked.to_wire()
    found = rows(messages(tmp_path, pcap([ask(0.25, wire), tell(0.5, told)])), "dns")
    assert [(row["answer_number"], row["record_type"], row["record_data"], row["ttl"]) for row in found] == [
        (1, 5, "web.example.org", 60), (2, 1, "192.0.2.1", 30), (3, 28, "2001:db8::1", 30),
    ]  # fmt: skip
    for row in found:
        assert (row["client"], row["client_port"], row["server"], row["transport"]) == (C, 5000, S, 17)
        assert (row["id"], row["qname"], row["qtype"], row["edns_size"]) == (7, "www.example.org", 1, 1232)
        assert (row["rcode"], row["records"], row["latency"], row["unsolicited"]) == (0, 3, 250_000_000, False)
    assert [row["query_bytes"] for row in found] == [len(wire), 0, 0]
    assert [row["answer_bytes"] for row in found] == [len(told), 0, 0]


def test_an_answer_without_records_is_a_row(tmp_path: Path) -> None:
    asked = question("nothere.example.org")
    found = rows(messages(tmp_path, pcap([ask(0.25, asked.to_wire()), tell(0.5, answer(asked, rcode=3))])), "dns")
    assert [(row["answer_number"], row["rcode"], row["records"]) for row in found] == [(1, 3, 0)]


def test_no_answer_within_five_seconds(tmp_path: Path) -> None:
    asked = question("quiet.example.org").to_wire()
    found = rows(messages(tmp_path, pcap([ask(0.25, asked)])), "dns")
    assert [(row["cut"], row["answer_number"], row["rcode"], row["latency"]) for row in found] == [(6, 0, -1, -1)]
    assert found[0]["query_bytes"] == len(asked)


def test_a_late_answer_was_not_waited_for(tmp_path: Path) -> None:
    asked = question("late.example.org")
    told = answer(asked, "late.example.org. 5 A 192.0.2.9")
    found = rows(messages(tmp_path, pcap([ask(0.25, asked.to_wire()), tell(7.5, told)])), "dns")
    assert [(row["cut"], row["answer_number"], row["unsolicited"]) for row in found] == [(6, 0, False), (8, 1, True)]


def test_a_second_answer_is_seen(tmp_path: Path) -> None:
    asked = question("bank.example.org")
    told = [answer(asked, f"bank.example.org. 5 A 192.0.2.{i}") for i in (1, 66)]
    found = rows(messages(tmp_path, pcap([ask(0.2, asked.to_wire()), tell(0.3, told[0]), tell(1.4, told[1])])), "dns")
    assert [(row["cut"], row["answer_number"], row["record_data"]) for row in found] == [
        (1, 1, "192.0.2.1"), (2, 2, "192.0.2.66"),
    ]  # fmt: skip
    assert [row["query_bytes"] > 0 for row in found] == [True, False]


def test_a_repeated_question_leaves_the_first_unanswered(tmp_path: Path) -> None:
    asked = question("twice.example.org")
    told = answer(asked, "twice.example.org. 5 A 192.0.2.1")
    found = rows(
        messages(tmp_path, pcap([ask(0.2, asked.to_wire()), ask(2.2, asked.to_wire()), tell(2.3, told)])), "dns"
    )
    assert [(row["cut"], row["answer_number"]) for row in found] == [(3, 0), (3, 1)]


@pytest.mark.parametrize("change", ["id", "name", "port"])
def test_what_pairs(tmp_path: Path, change: str) -> None:
    asked = question("a.example.org")
    other = question("b.example.org" if change == "name" else "a.example.org", number=8 if change == "id" else 7)
    told = answer(other, f"{other.question[0].name} 5 A 192.0.2.1")
    port = 5001 if change == "port" else 5000
    found = rows(messages(tmp_path, pcap([ask(0.2, asked.to_wire()), tell(0.3, told, port)])), "dns")
    assert [row["unsolicited"] for row in found] == [True, False]


def test_tcp_messages_in_pieces(tmp_path: Path) -> None:
    asked = question("tcp.example.org")
    texts = " ".join('"' + "x" * 200 + '"' for _ in range(4))
    told = answer(asked, f"tcp.example.org. 5 TXT {texts}")
    up, down = (struct.pack(">H", len(wire)) + wire for wire in (asked.to_wire(), told))
    packets: list[Timed] = [
        (0.1, tcp4(C, 5000, S, 53, ACK, up[:1], 100)), (0.2, tcp4(C, 5000, S, 53, ACK, up[1:], 101)),
        (0.3, tcp4(S, 53, C, 5000, ACK, down[:500], 900)), (0.35, tcp4(S, 53, C, 5000, ACK, down[:500], 900)),
        (0.4, tcp4(S, 53, C, 5000, ACK, down[500:], 1400)), (0.5, tcp4(C, 5000, S, 53, FIN | ACK, b"", 140)),
    ]  # fmt: skip
    found = rows(messages(tmp_path, pcap(packets)), "dns")
    assert [(row["transport"], row["qname"], row["answer_bytes"]) for row in found] == [
        (6, "tcp.example.org", len(told))
    ]
    assert found[0]["record_data"] == ("x" * 800)[:512]


def test_names_are_safe_to_print(tmp_path: Path) -> None:
    wire = b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\5A\x1b.\xff\\" + b"\3com\0" + b"\0\x0a\0\1"
    assert rows(messages(tmp_path, pcap([ask(0.1, wire)])), "dns")[0]["qname"] == "a\\027\\046\\255\\092.com"


def test_other_record_types_are_given_in_hex(tmp_path: Path) -> None:
    asked = question("n.example.org", "NULL")
    told = (
        asked.to_wire()[:2]
        + b"\x84\0\0\1\0\1\0\0\0\0"
        + asked.to_wire()[12:]
        + b"\xc0\x0c\0\x0a\0\1\0\0\0\0\0\3\1\2\xff"
    )
    found = rows(messages(tmp_path, pcap([ask(0.1, asked.to_wire()), tell(0.2, told)])), "dns")
    assert [(row["record_type"], row["record_data"]) for row in found] == [(10, "\\# 3 0102ff")]


def test_pointers_that_loop_are_malformed(tmp_path: Path) -> None:
    loop = b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c" + b"\0\1\0\1"
    found = messages(tmp_path, pcap([ask(0.1, loop)]))
    assert sum(message.header.malformed for message in found) == 1
    assert rows(found, "dns") == []


def test_a_remembered_name_is_not_mistaken_for_a_pointer() -> None:
    reader = DnsReader(8)
    head = b"\0\7\1\0\0\1\0\0\0\0\0\0"
    assert reader.read(head + b"\1a\0" + b"\0\1\0\1").qname == "a"
    assert reader.read(head + b"\1a\1b\0" + b"\0\1\0\1").qname == "a.b"
    assert reader.read(head + b"\1a\0" + b"\0\2\0\1").qtype == 2
    with pytest.raises(MalformedDns):
        reader.read(head + b"\1a")


def test_answers_are_bounded(tmp_path: Path) -> None:
    asked = question("many.example.org")
    told = answer(asked, *[f"many.example.org. 5 A 192.0.2.{i}" for i in range(20)])
    settings = ExporterSettings(dns=DnsSettings(answers_per_message=4))
    found = rows(messages(tmp_path, pcap([ask(0.1, asked.to_wire()), tell(0.2, told)]), settings), "dns")
    assert (len(found), found[0]["records"]) == (4, 20)


def test_waiting_questions_are_bounded(tmp_path: Path) -> None:
    packets = [ask(i / 100, question("q.example.org", number=i).to_wire()) for i in range(20)]
    found = rows(messages(tmp_path, pcap(packets), ExporterSettings(dns=DnsSettings(pending=16))), "dns")
    assert [row["id"] for row in found if row["cut"] == 1] == [0, 1, 2, 3]
    assert len(found) == 20


def test_other_ports_are_other_protocols(tmp_path: Path) -> None:
    wire = question("mdns.local").to_wire()
    packets: list[Timed] = [(0.1, udp4(C, 5353, "224.0.0.251", 5353, wire))]
    assert rows(messages(tmp_path, pcap(packets)), "dns") == []
    settings = ExporterSettings(dns=DnsSettings(ports=(53, 5353)))
    assert [row["qname"] for row in rows(messages(tmp_path, pcap(packets), settings), "dns")] == ["mdns.local"]
