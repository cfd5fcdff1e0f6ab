"""Zeek's conn.log, tab-separated or JSON.

Fields and states: https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from exporter.app_guess import APPS
from exporter.chunks import I64
from exporter.flow_marks import EXCHANGED
from exporter.flow_records import FlowRecords, attempt_marks, life_rows
from exporter.record_cutter import RecordBlock
from exporter.record_rows import words
from exporter.sources.byte_source import ByteSource
from exporter.sources.log_reader import Head, LogReader, Reading
from exporter.sources.selection import select
from exporter.sources.text_columns import Bool, TextColumns
from exporter.sources.zeek_log import zeek_columns, zeek_fields
from schemas.events import WORD, Capability, PayloadSide

_WANTED = (
    "ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "ip_proto", "service", "duration",
    "orig_bytes", "resp_bytes", "conn_state", "history", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
    "vlan", "orig_l2_addr",
)  # fmt: skip
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "sctp": 132}
_ICMP, _ICMP6, _TCP = 1, 58, 6
_QUESTIONS = {(_ICMP, 8), (_ICMP, 13), (_ICMP, 15), (_ICMP, 17), (_ICMP6, 128)}
# Originator's SYN was seen; the other states begin in the middle, or with an answer.
_ATTEMPTS = {"S0", "S1", "S2", "S3", "SF", "REJ", "RSTO", "RSTR", "RSTOS0", "SH"}
_COMPLETE = {"S1", "S2", "S3", "SF", "RSTO", "RSTR"}
_SERVICES = {app: app for app in APPS if app} | {"ssl": "tls", "gssapi,smb": "smb", "dce_rpc,smb": "smb"}
# Letters of `history` as TCP flags: S SYN, H SYN-ACK, A ACK, D data, F FIN, R RST.
_LETTERS = {"S": 2, "H": 18, "A": 16, "D": 16, "F": 1, "R": 4}


class ZeekConn(LogReader):
    """Connections with both directions, state and history."""

    id = "zeek_conn"
    title = "Zeek conn.log"

    @classmethod
    def recognises(cls, head: Head) -> bool:
        """Endpoints, a protocol and what only connections have."""
        fields = zeek_fields(head)
        return {"proto", "id.resp_p"} <= fields and bool(fields & {"conn_state", "orig_pkts", "history"})

    @property
    def capabilities(self) -> Capability:
        """By the fields that the log has."""
        fields = zeek_fields(self.head)
        able = Capability.REVERSE | Capability.PORTS | Capability.ICMP
        able |= Capability.EXACT_TIME if "duration" in fields else Capability(0)
        able |= Capability.ATTEMPTS if "conn_state" in fields else Capability(0)
        able |= Capability.TCP_FLAGS if "history" in fields else Capability(0)
        able |= Capability.PACKETS if {"orig_pkts", "orig_ip_bytes"} <= fields else Capability(0)
        return able | (Capability.PAYLOAD if "orig_bytes" in fields else Capability(0))

    @property
    def notes(self) -> Sequence[str]:
        """What conn.log leaves out."""
        return (
            "Zeek conn.log: flags are known once per connection and side, without PSH and URG",
            "Zeek conn.log: a connection's bytes count when it ends, not while it lasts",
        )

    def read(self, source: ByteSource, reading: Reading) -> Iterator[RecordBlock]:
        """Read the whole log."""
        for table, lost in zeek_columns(source, reading, _WANTED):
            records = _records(table, self.capabilities)
            bad = reading.damaged.add(table.numbers[table.bad].tolist(), table.reason)
            kept = select(records, ~table.bad)
            rows = life_rows(kept, reading.salt, reading.settings.flow.unanswered_seconds) if len(kept.start) else []
            yield RecordBlock(rows, len(kept.start), lost + bad)


def _records(table: TextColumns, able: Capability) -> FlowRecords:
    start, duration = table.times("ts"), table.nanoseconds("duration")
    src, dst = table.addresses("id.orig_h"), table.addresses("id.resp_h")
    ports = [table.count(f"id.{side}_p", 65_535) for side in ("orig", "resp")]
    proto = _protocols(table)
    icmp = (proto == _ICMP) | (proto == _ICMP6)
    packets = [table.count(f"{side}_pkts") for side in ("orig", "resp")]
    octets = [table.count(f"{side}_ip_bytes") for side in ("orig", "resp")]
    payload = [table.count(f"{side}_bytes") for side in ("orig", "resp")]
    history, state = table.strings("history"), table.strings("conn_state")
    flipped = np.array(["^" in h for h in history], np.bool_)
    midway = np.array([s == "OTH" for s in state], np.bool_) & (proto == _TCP)
    columns = {
        "src": src, "dst": dst, "proto": proto, "src_port": np.where(icmp, 0, ports[0]),
        "dst_port": np.where(icmp, 0, ports[1]), "icmp_type": np.where(icmp, ports[0] & 255, 0),
        "icmp_code": np.where(icmp & ~_question(proto, ports[0]), ports[1] & 255, 0),
        "vlan": table.count("vlan", 4095), "src_mac": table.macs("orig_l2_addr"),
        "direction_known": ~(flipped | midway),
    }  # fmt: skip
    if Capability.PACKETS in able:
        columns |= {"src_packets": packets[0], "dst_packets": packets[1], "src_bytes": octets[0],
                    "dst_bytes": octets[1]}  # fmt: skip
    if Capability.PAYLOAD in able:
        columns |= {"src_payload": payload[0], "dst_payload": payload[1], "first_payload": _first_payload(history),
                    "app": words([_SERVICES.get(s.lower(), "") for s in table.strings("service")], WORD)}  # fmt: skip
    if Capability.TCP_FLAGS in able:
        columns |= _flags(history, state, proto == _TCP, packets[0])
    exchanged = (payload[0] > 0) & (payload[1] > 0)
    marks = exchanged * np.int64(EXCHANGED)
    if Capability.ATTEMPTS in able:
        marks = _marks(history, state, proto, ports[0], packets[1], exchanged)
    return FlowRecords(start, start + duration, marks, columns)


def _protocols(table: TextColumns) -> I64:
    """Return IP protocol numbers; ICMP over IPv6 has a number of its own that Zeek's word does not tell."""
    named = np.array([_PROTOCOLS.get(p.lower(), 0) for p in table.strings("proto")], np.int64)
    given = table.count("ip_proto", 255)
    six = np.array([":" in a for a in table.strings("id.orig_h")], np.bool_)
    named = np.where((named == _ICMP) & six, _ICMP6, named)
    out: I64 = np.where(given > 0, given, named)
    unknown = np.array([p.lower() not in (*_PROTOCOLS, "unknown_transport") for p in table.strings("proto")], np.bool_)
    table.mark("proto", unknown & (given == 0))
    return out


def _question(proto: I64, kind: I64) -> Bool:
    return np.array([pair in _QUESTIONS for pair in zip(proto.tolist(), kind.tolist(), strict=True)], np.bool_)


def _marks(history: list[str], state: list[str], proto: I64, kind: I64, answers: I64, exchanged: Bool) -> I64:
    """Return the marks of each connection, from its state; its history says whether a handshake completed."""
    tcp, icmp = proto == _TCP, (proto == _ICMP) | (proto == _ICMP6)
    attempt = np.array([s in _ATTEMPTS for s in state], np.bool_)
    attempt = np.where(icmp, _question(proto, kind), attempt)
    handshake = np.array([s in _COMPLETE and (not h or ("h" in h and "A" in h.partition("h")[2]))
                          for s, h in zip(state, history, strict=True)], np.bool_)  # fmt: skip
    answered = np.array([s == "SF" for s in state], np.bool_) | (answers > 0)
    refused = tcp & np.array([s == "REJ" for s in state], np.bool_)
    silent = np.where(tcp, np.array([s == "S0" for s in state], np.bool_), ~answered)
    return attempt_marks(attempt, refused, silent, np.where(tcp, handshake, answered), exchanged)


def _first_payload(history: list[str]) -> I64:
    sides = {"D": PayloadSide.INITIATOR, "d": PayloadSide.RESPONDER}
    return np.array([next((sides[c] for c in h if c in sides), PayloadSide.NONE) for h in history], np.int64)


_COUNTED = (
    ("src_syn", "S"), ("dst_synack", "h"), ("src_fin", "F"), ("dst_fin", "f"), ("src_rst", "R"), ("dst_rst", "r"),
)  # fmt: skip


def _flags(history: list[str], state: list[str], tcp: Bool, packets: I64) -> dict[str, I64]:
    """Return flag columns; a side that only repeated its SYN sent as many as it sent packets."""
    # There are few different histories, however long the log.
    known = {letters: number for number, letters in enumerate(sorted(set(history)))}
    number = np.array([known[letters] for letters in history], np.int64)
    out = {name: np.array([letter in letters for letters in known], np.int64)[number] for name, letter in _COUNTED}
    for name, upper in (("src_flags", True), ("dst_flags", False)):
        out[name] = np.array([_bits(letters, upper) for letters in known], np.int64)[number]
    out = {name: np.where(tcp, values, 0) for name, values in out.items()}
    alone = np.array([set(letters) & set("SHADFR") == {"S"} for letters in known], np.bool_)[number]
    alone &= np.array([s in ("S0", "REJ") for s in state], np.bool_)
    out["src_syn"] = np.where(alone & (packets > 0) & (out["src_syn"] > 0), packets, out["src_syn"])
    return out


def _bits(letters: str, upper: bool) -> int:
    """Return the flags that one side's letters of a history show."""
    found = 0
    for letter in letters:
        found |= _LETTERS.get(letter.upper(), 0) if letter.isupper() == upper else 0
    return found
