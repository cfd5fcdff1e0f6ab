"""Heads of hostile flows: bounded work and memory, whatever the bytes and however they are cut."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.http_wire import MalformedHttp, read_request, read_response
from exporter.settings import ExporterSettings, HeadSettings, ReadingSettings
from exporter.tls_wire import Handshake, MalformedTls, read_client_hello, read_leaf_bytes, read_server_hello
from exporter.x509_leaf import read_leaf
from schemas.event_codec import encode
from schemas.events import MAX_TEXT
from tests.unit.exporter.crafting import ACK, FIN, RST, SYN, Timed, messages, pcap, rows, tcp4
from tests.unit.exporter.tls_bytes import certificate, chrome, der, name, record, server_hello

S = "10.0.1.1"
HELLO = record(chrome())
ANSWER = record(server_hello() + certificate(der(name(b"Issuing CA"))))
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
POST = b"POST /f HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\npassword=xy"


def limited(**limits: int) -> ExporterSettings:
    return ExporterSettings(heads=HeadSettings(**limits))


def client(number: int) -> tuple[str, int]:
    return f"10.1.{number // 250}.{1 + number % 250}", 40_000


def test_a_flood_of_hellos_is_read_up_to_the_budget_of_each_second(tmp_path: Path) -> None:
    packets = [(n / 1000, tcp4(*client(n), S, 443, ACK, HELLO)) for n in range(300)]
    packets += [(1 + n / 1000, tcp4(*client(300 + n), S, 443, ACK, HELLO)) for n in range(50)]
    got = messages(tmp_path, pcap(packets), limited(packets_per_second=100))
    assert len(rows(got, "tls")) == 150
    assert sum(message.header.lost_rows for message in got) == 200
    assert {message.header.cut: message.header.lost_rows for message in got if message.header.lost_rows} == {
        got[1].header.cut: 200
    }


def test_over_the_budget_a_half_read_head_is_let_go(tmp_path: Path) -> None:
    packets: list[Timed] = [(n / 1000, tcp4(*client(n), S, 80, ACK, GET[:20], 1)) for n in range(16)]
    packets += [(0.5, tcp4(*client(0), S, 80, ACK, GET[20:], 21)), (0.6, tcp4(S, 80, *client(0), ACK, OK))]
    got = messages(tmp_path, pcap(packets), limited(packets_per_second=16))
    assert len(rows(got, "http")) == 15
    assert sum(message.header.lost_rows for message in got) == 1


def test_the_quietest_flow_is_let_go_and_counted(tmp_path: Path) -> None:
    packets = [(n / 100, tcp4(*client(n), S, 443, ACK, HELLO)) for n in range(40)]
    got = messages(tmp_path, pcap(packets), limited(flows=16))
    found = rows(got, "tls")
    assert [row["cut"] for row in found].count(1) == 24  # the others after ten seconds
    assert {row["src"] for row in found if row["cut"] == 1} == {client(n)[0] for n in range(24)}
    assert sum(message.header.lost_rows for message in got) == 24


def test_unfinished_heads_are_let_go_above_their_bytes(tmp_path: Path) -> None:
    head = b"GET /a HTTP/1.1\r\nX: " + b"y" * 1300
    packets = [(n / 100, tcp4(*client(n), S, 80, ACK, head)) for n in range(60)]
    got = messages(tmp_path, pcap(packets), limited(held_bytes=1 << 16))
    found = rows(got, "http")
    assert [row["head_complete"] for row in found] == [False] * 60
    kept = (1 << 16) // len(head)
    assert [row["cut"] for row in found].count(1) == 60 - kept
    assert sum(message.header.lost_rows for message in got) == 60 - kept


def test_many_requests_without_an_answer_on_one_connection(tmp_path: Path) -> None:
    packets = [(n / 1000, tcp4(*client(0), S, 80, ACK, GET, 1 + n * len(GET))) for n in range(200)]
    assert len(rows(messages(tmp_path, pcap(packets)), "http")) == 200


def heads(seed: int, count: int) -> list[Timed]:
    """Connections that say true, cut, repeated, reordered and broken things, on few ports."""
    dice = random.Random(seed)
    whole = {"tls": (HELLO, ANSWER), "http": (GET + POST + GET, OK + OK.replace(b"5", b"9") + b"more" + OK)}
    when, out = 0.0, []
    at: dict[tuple[int, bool], int] = {}
    for _ in range(count):
        when += dice.choice([0.0, 0.001, 0.05, 0.3]) if dice.random() < 0.95 else dice.choice([3.0, 12.0, 40.0])
        port, back, kind = 40_000 + dice.randrange(4), dice.random() < 0.4, dice.choice(["tls", "http"])
        ends = (S, 443, "10.0.0.1", port) if back else ("10.0.0.1", port, S, 443)
        if dice.random() < 0.1:
            at[port, back] = dice.randrange(1 << 32)
            out.append((round(when, 6), tcp4(*ends, dice.choice([SYN, SYN, RST, FIN | ACK]), b"", at[port, back])))
            continue
        data = whole[kind][back]
        begin = at.get((port, back), 77)
        cuts = sorted(dice.randrange(len(data)) for _ in range(dice.randrange(6)))
        pieces = [(a, data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if b > a]
        if dice.random() < 0.4:
            dice.shuffle(pieces)
        if dice.random() < 0.3:
            pieces += pieces[:2]
        for offset, piece in pieces[: dice.randrange(1, 8)]:
            if dice.random() < 0.1:
                piece = bytes(byte ^ (dice.random() < 0.05) * 255 for byte in piece)
            out.append((round(when, 6), tcp4(*ends, ACK, piece, (begin + offset) % (1 << 32))))
        at[port, back] = (begin + len(data)) % (1 << 32)
    return out


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6), size=st.integers(1, 40), snap=st.sampled_from([100, 1 << 18, 1 << 18]),
    flows=st.sampled_from([16, 8192]), budget=st.sampled_from([16, 10_000]), held=st.sampled_from([1 << 16, 32 << 20]),
)  # fmt: skip
def test_chunk_sizes_change_nothing(
    tmp_path: Path, seed: int, size: int, snap: int, flows: int, budget: int, held: int
) -> None:
    limits = HeadSettings(flows=flows, packets_per_second=budget, held_bytes=held)
    content = pcap(heads(seed, 40), snap=snap)
    whole = messages(tmp_path, content, ExporterSettings(heads=limits, reading=ReadingSettings(sort_bytes=0)))
    reading = ReadingSettings(sort_bytes=0, block_bytes=4096, chunk_packets=size)
    pieces = messages(tmp_path, content, ExporterSettings(heads=limits, reading=reading))
    assert [encode(message) for message in pieces] == [encode(message) for message in whole]
    for kind in ("tls", "http"):
        for row in rows(whole, kind):
            texts = [value for value in row.values() if isinstance(value, str)]
            assert all(len(text) <= MAX_TEXT and text.isprintable() and text.isascii() for text in texts)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), pieces=st.lists(st.binary(max_size=60), max_size=8))
@example(data=chrome()[4:], pieces=[HELLO, ANSWER])
@example(data=server_hello(chosen=0x0304)[4:], pieces=[record(b""), record(b"\x0b\xff\xff\xff" + b"\0" * 9)])
def test_garbage_raises_nothing_else(data: bytes, pieces: list[bytes]) -> None:
    for read in (read_client_hello, read_server_hello, read_leaf_bytes):
        with suppress(MalformedTls):
            read(data)
    reader = Handshake(256)
    with suppress(MalformedTls):
        for piece in pieces:
            for kind, body in reader.feed(piece):
                assert 0 <= kind < 256
                assert len(body) < 1 << 24
    assert len(read_leaf(data).sha256) == 64
    for head in (data, b"GET /" + data + b" HTTP/1.1\r\n" + data, b"HTTP/1.1 200 OK\r\n" + data):
        with suppress(MalformedHttp):
            request = read_request(head)
            assert max(len(request.host), len(request.path_shape)) <= MAX_TEXT
        with suppress(MalformedHttp):
            read_response(head, "GET")


@pytest.mark.parametrize("flip", range(0, len(HELLO), 11))
def test_one_wrong_byte_anywhere(tmp_path: Path, flip: int) -> None:
    wrong = bytearray(HELLO)
    wrong[flip] ^= 0xFF
    got = messages(
        tmp_path, pcap([(0.1, tcp4(*client(0), S, 443, ACK, bytes(wrong))), (0.2, tcp4(S, 443, *client(0), RST))])
    )
    told = len(rows(got, "tls")) + sum(message.header.malformed for message in got)
    assert told <= 1
    assert len(rows(got)) == 1
