"""TLS rows: what hellos and certificates say, however they were cut into packets."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.chunks import CaptureReport
from exporter.ja4 import fingerprint
from exporter.x509_leaf import read_leaf
from tests.unit.exporter.crafting import ACK, BASE, FIN, RST, SYN, Timed, messages, pcap, rows, tcp4
from tests.unit.exporter.tls_bytes import (
    certificate,
    chrome,
    client_hello,
    der,
    extension,
    name,
    record,
    server_hello,
    server_name,
    vector,
)  # fmt: skip

C, S = "10.0.0.1", "10.0.0.2"
LEAF = der(name(b"Root 7", b"Issuing CA"))
ANSWER = record(server_hello() + certificate(LEAF, b"intermediate" * 50) + b"\x0e\0\0\0", version=0x0303)


def up(when: float, data: bytes, at: int = 101, flags: int = ACK) -> Timed:
    return when, tcp4(C, 50_000, S, 443, flags, data, at)


def down(when: float, data: bytes, at: int = 501, flags: int = ACK) -> Timed:
    return when, tcp4(S, 443, C, 50_000, flags, data, at)


OPEN = [up(0.1, b"", 100, SYN), down(0.11, b"", 500, SYN | ACK), up(0.12, b"")]


def found(folder: Path, *packets: Timed, report: CaptureReport | None = None) -> list[dict[str, Any]]:
    return rows(messages(folder, pcap([*OPEN, *packets]), report=report), "tls")


def test_a_handshake_of_tls_12_is_one_row(tmp_path: Path) -> None:
    wire = pcap([*OPEN, up(0.2, record(chrome())), down(0.3, ANSWER)])
    got = messages(tmp_path, wire)
    (row,) = rows(got, "tls")
    assert row == {
        "flow_id": rows(got)[0]["flow_id"], "time": BASE * 10**9 + 200_000_000, "src": C, "dst": S, "src_port": 50_000,
        "dst_port": 443, "sni": "shop.example.org", "alpn": "h2", "client_version": 0x0304, "server_version": 0x0303,
        "cipher": 0xC02F, "ja4": "t13d1516h2_8daaf6152771_e5627efa2ab1",
        "certificate": hashlib.sha256(LEAF).hexdigest(), "issuer": "Issuing CA",
        "not_before": int(datetime(2023, 11, 1, tzinfo=UTC).timestamp()) * 10**9,
        "not_after": int(datetime(2051, 1, 1, tzinfo=UTC).timestamp()) * 10**9, "cut": 1,
    }  # fmt: skip
    assert rows(got)[0]["app"] == "tls"


def test_tls_13_is_complete_with_the_server_hello(tmp_path: Path) -> None:
    hidden = record(b"encrypted", kind=23)
    (row,) = found(
        tmp_path, up(0.2, record(chrome())), down(0.3, record(server_hello(cipher=0x1301, chosen=0x0304)) + hidden)
    )
    assert (row["server_version"], row["cipher"], row["certificate"], row["cut"]) == (0x0304, 0x1301, "", 1)


def test_a_resumed_session_shows_no_certificate(tmp_path: Path) -> None:
    ended = record(b"\1", kind=20)
    (row,) = found(tmp_path, up(0.2, record(chrome())), down(0.3, record(server_hello()) + ended))
    assert (row["server_version"], row["certificate"], row["cut"]) == (0x0303, "", 1)


def test_a_hello_without_an_answer_leaves_after_ten_seconds(tmp_path: Path) -> None:
    (row,) = found(tmp_path, up(0.2, record(chrome())))
    assert (row["sni"], row["server_version"], row["cut"]) == ("shop.example.org", 0, 11)


@pytest.mark.parametrize("last", [down(0.4, b"", 501, RST), down(0.4, b"", 501, FIN | ACK)], ids=["rst", "fin"])
def test_a_refused_hello_leaves_at_once(tmp_path: Path, last: Timed) -> None:
    (row,) = found(tmp_path, up(0.2, record(chrome())), last)
    assert (row["server_version"], row["cut"]) == (0, 1)


def test_an_answer_without_a_hello_is_a_row_of_the_same_client(tmp_path: Path) -> None:
    (row,) = found(tmp_path, down(0.3, ANSWER), down(0.4, b"", 501 + len(ANSWER), FIN | ACK))
    assert (row["src"], row["src_port"], row["dst_port"], row["sni"]) == (C, 50_000, 443, "")
    assert row["certificate"] == hashlib.sha256(LEAF).hexdigest()


def pieces(data: bytes, size: int, start: int) -> list[tuple[bytes, int]]:
    return [(data[at : at + size], start + at) for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [9, 100, 536, 1448])
@pytest.mark.parametrize("start", [101, (1 << 32) - 300], ids=["plain", "wraps"])
def test_segments_of_any_size(tmp_path: Path, size: int, start: int) -> None:
    hello = record(chrome()[:100]) + record(chrome()[100:])  # a message over two records
    parts = pieces(hello, size, start)
    packets = [up(0.2 + n / 1000, data, at % (1 << 32)) for n, (data, at) in enumerate(parts)]
    answers = [down(0.6 + n / 1000, data, at) for n, (data, at) in enumerate(pieces(ANSWER, size, 501))]
    (row,) = found(tmp_path, *packets, *answers)
    assert (row["ja4"], row["issuer"]) == ("t13d1516h2_8daaf6152771_e5627efa2ab1", "Issuing CA")


@pytest.mark.parametrize("order", list(itertools.permutations(range(1, 4))))
def test_reordered_repeated_and_overlapping_segments(tmp_path: Path, order: tuple[int, ...]) -> None:
    parts = pieces(ANSWER, len(ANSWER) // 4 + 1, 501)
    sent = [parts[0], *(parts[n] for n in order), parts[0], (ANSWER[100:700], 601)]
    (row,) = found(
        tmp_path, up(0.2, record(chrome())), *(down(0.3 + n / 100, data, at) for n, (data, at) in enumerate(sent))
    )
    assert row["certificate"] == hashlib.sha256(LEAF).hexdigest()


def test_a_gap_in_the_answer_leaves_what_is_known(tmp_path: Path) -> None:
    parts = pieces(ANSWER, 300, 501)
    (row,) = found(tmp_path, up(0.2, record(chrome())), *(down(0.3, data, at) for data, at in (parts[0], *parts[2:])))
    assert (row["sni"], row["cipher"], row["certificate"], row["cut"]) == ("shop.example.org", 0xC02F, "", 11)


def test_a_short_snap_length_is_told(tmp_path: Path) -> None:
    report = CaptureReport()
    got = messages(tmp_path, pcap([*OPEN, up(0.2, record(chrome())), down(0.3, ANSWER)], snap=128), report=report)
    (row,) = rows(got, "tls")
    assert (row["sni"], row["cipher"], row["certificate"]) == ("", 0xC02F, "")
    assert report.problems == ["1 TLS and HTTP heads are cut short by the capture's snap length"]


@pytest.mark.parametrize(
    ("broken", "counted"),
    [
        (record(chrome()[:4] + chrome()[5:]) + record(b"\0" * 40), 1),  # lengths inside are off by one
        (record(b"\1\0\0\x05hello"), 1),
        (record(b"\1" + b"\xff" * 50), 0),  # a message longer than is ever read: it never ends
        (record(chrome())[:9] + record(b"", kind=99), 0),
    ],
)
def test_lies_about_lengths_are_counted(tmp_path: Path, broken: bytes, counted: int) -> None:
    report = CaptureReport()
    assert found(tmp_path, up(0.2, broken), down(0.3, b"", 501, RST), report=report) == []
    assert report.malformed == counted


def test_text_is_bounded_and_escaped(tmp_path: Path) -> None:
    hello = client_hello([server_name(b"a\n\x1b[31m\xff" + b"b" * 900), extension(16, vector(2, vector(1, b"\0\\")))])
    (row,) = found(tmp_path, up(0.2, record(hello)), down(0.3, b"", 501, RST))
    assert row["sni"].startswith("a\\010\\027[31m\\255bbb")
    assert len(row["sni"]) == 512
    assert row["alpn"] == "\\000\\092"
    assert row["ja4"].startswith("t12d02020c_")


@pytest.mark.parametrize(
    ("protocol", "ends"),
    [(b"", "00"), (b"h2", "h2"), (b"http/1.1", "h1"), (b"x", "xx"), (b"\xab", "ab"), (b"0\xcd", "3d")],
)
def test_ja4_names_the_first_protocol_by_its_ends(protocol: bytes, ends: str) -> None:
    assert fingerprint(0x0304, (0x1301,), (16,), (), protocol)[8:10] == ends


def test_ja4_of_an_empty_hello() -> None:
    assert fingerprint(0x0301, (), (), (), b"") == "t10i000000_000000000000_000000000000"


def test_ja4_hashes_as_published() -> None:
    """Sorted values in hex, joined by commas; without algorithms there is no underscore."""
    expected = hashlib.sha256(b"0005,000a").hexdigest()[:12]
    assert fingerprint(0x0303, (0x1302, 0x1301, 0x0A0A), (0, 10, 5, 16, 0xFAFA), (), b"h2") == (
        f"t12d0204h2_{hashlib.sha256(b'1301,1302').hexdigest()[:12]}_{expected}"
    )


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_damaged_certificate_still_has_a_fingerprint(cut: int) -> None:
    leaf = read_leaf(LEAF[:cut])
    assert (leaf.sha256, leaf.issuer, leaf.not_before) == (hashlib.sha256(LEAF[:cut]).hexdigest(), "", 0)


def test_certificate_times_at_their_ends() -> None:
    leaf = read_leaf(der(name(b"x"), b"491231235959Z", b"99991231235959Z"))
    assert leaf.not_before == int(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()) * 10**9
    assert leaf.not_after == (1 << 63) - 1
    assert read_leaf(der(name(b"x"), b"500101000000Z", b"20261301000000Z")).not_before == 1
    assert read_leaf(der(name(b"x"), b"500101000000Z", b"20261301000000Z")).not_after == 0


def test_an_issuer_in_two_byte_characters() -> None:
    assert read_leaf(der(name("Zürich".encode("utf-16-be"), tag=0x1E))).issuer == "Z\\195\\188rich"
