"""What a recording keeps of a frame."""

from __future__ import annotations

from tests.lab.frames import SnapLength
from tests.unit.exporter.crafting import ACK, tcp4, udp4

C, S = "10.0.0.1", "10.0.0.2"
HEADERS = 54


def up(data: bytes) -> bytes:
    return tcp4(C, 5000, S, 80, ACK, data)


def down(data: bytes) -> bytes:
    return tcp4(S, 80, C, 5000, ACK, data)


def test_dns_and_dhcp_are_whole_and_data_is_cut() -> None:
    snap = SnapLength(100)
    for port in (53, 67, 68):
        assert snap.kept(udp4(C, 5000, S, port, b"x" * 500)) == 542
    assert snap.kept(udp4(C, 5000, S, 9, b"x" * 500)) == 100
    assert snap.kept(up(b"x" * 500)) == 100
    assert snap.kept(up(b"")) == HEADERS


def test_a_request_is_whole_and_an_answer_up_to_its_body() -> None:
    snap = SnapLength(60)
    request, form = b"POST / HTTP/1.1\r\n\r\n" + b"a" * 100, b"b" * 300
    assert snap.kept(up(request)) == HEADERS + len(request)
    assert snap.kept(up(form)) == HEADERS + len(form)
    head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert snap.kept(down(head + b"x" * 900)) == HEADERS + len(head)
    assert snap.kept(down(b"x" * 900)) == 60


def test_a_handshake_is_whole_up_to_a_limit() -> None:
    snap = SnapLength(60)
    sizes = [snap.kept(down(b"\x16\x03\x01" + b"c" * 1397)) for _ in range(7)]
    assert sizes == [HEADERS + 1400] * 5 + [HEADERS + 8192 - 7000, 60]
