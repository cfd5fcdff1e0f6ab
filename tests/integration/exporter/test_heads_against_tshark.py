"""TLS handshakes, HTTP requests and DHCP messages of recorded captures, read by tshark and by us."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from exporter.sources.capture import read_messages
from schemas.event_codec import batch_to_rows

CASES = Path(__file__).resolve().parents[2] / "cases" / "benign"
SESSIONS, LEASES = (CASES / name / "capture.pcapng.gz" for name in ("web_sessions", "address_leases"))
DECODE = ("-d", "tcp.port==8442,tls", "-d", "tcp.port==8443,tls")

pytestmark = [
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
    pytest.mark.timeout(300),
]


def theirs(path: Path, wanted: str, *fields: str) -> list[tuple[str, ...]]:
    """Fields of the packets that a display filter chooses, in order of arrival."""
    columns = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-n", "-r", str(path), *DECODE, "-Y", wanted, "-T", "fields", "-E", "occurrence=f", *columns]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [tuple(line.split("\t")) for line in lines]


def ours(path: Path, kind: str) -> list[dict[str, Any]]:
    found = [m.batches[kind] for m in read_messages(path, "node", "lab") if kind in m.batches]
    return sorted((row for batch in found for row in batch_to_rows(kind, batch)), key=lambda row: row["time"])


def by_port(rows: Iterable[tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
    return {int(port): tuple(rest) for port, *rest in rows}


def test_hellos_and_what_was_chosen() -> None:
    rows = {row["src_port"]: row for row in ours(SESSIONS, "tls")}
    hellos = by_port(theirs(SESSIONS, "tls.handshake.type==1", "tcp.srcport", "tls.handshake.extensions_server_name",
                            "tls.handshake.extensions_alpn_str"))  # fmt: skip
    assert len(hellos) == 4
    assert {port: (row["sni"], row["alpn"]) for port, row in rows.items()} == hellos
    answers = by_port(theirs(SESSIONS, "tls.handshake.type==2", "tcp.dstport", "tls.handshake.ciphersuite"))
    assert {port: (f"0x{row['cipher']:04x}",) for port, row in rows.items()} == answers
    assert [row["issuer"] for row in rows.values() if row["server_version"] == 0x0303] == ["Lab CA"] * 2


def test_requests_and_their_answers() -> None:
    rows = ours(SESSIONS, "http")
    asked = theirs(SESSIONS, "http.request", "tcp.srcport", "http.request.method", "http.host")
    assert [(str(row["src_port"]), row["method"], row["host"]) for row in rows] == asked
    assert [str(row["status"]) for row in rows] == [
        code for (code,) in theirs(SESSIONS, "http.response", "http.response.code")
    ]
    assert [(row["path_shape"], row["credentials"]) for row in rows] == [
        ("/item/0?page=", False), ("/item/0", False), ("/login", True), ("/form", True),
    ]  # fmt: skip


def test_leases() -> None:
    names = {1: 10, 2: 11, 3: 12, 4: 17, 5: 13, 6: 14, 7: 15, 8: 16}
    rows = [row for row in ours(LEASES, "link") if row["claim"] >= 10]
    told = theirs(LEASES, "dhcp", "dhcp.option.dhcp", "dhcp.id", "dhcp.hw.mac_addr", "ip.src")
    assert told
    assert [(row["claim"], row["number"], row["claimed_mac"], row["speaker"]) for row in rows] == [
        (names[int(kind)], int(number, 16), int(mac.replace(":", ""), 16), src) for kind, number, mac, src in told
    ]
