"""HTTP rows: each request of a connection with the status of its answer, and heads that never end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.chunks import CaptureReport
from exporter.http_wire import MalformedHttp, has_credentials, read_request, read_response
from tests.unit.exporter.crafting import ACK, BASE, FIN, RST, SYN, Timed, messages, pcap, rows, tcp4

C, S = "10.0.0.1", "10.0.0.2"
GET = b"GET /items/42?page=3 HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Wire:
    """Packets of one connection; sequence numbers follow from what was sent."""

    def __init__(self, port: int = 50_000) -> None:
        self.port, self.at, self.when = port, {C: 101, S: 501}, 0.2
        self.packets: list[Timed] = [self._frame(0.1, C, SYN, b"", 100), self._frame(0.11, S, SYN | ACK, b"", 500)]

    def _frame(self, when: float, who: str, flags: int, data: bytes, at: int) -> Timed:
        ends = (C, self.port, S, 8080) if who == C else (S, 8080, C, self.port)
        return round(when, 6), tcp4(*ends, flags, data, at % (1 << 32))

    def say(self, who: str, data: bytes, flags: int = ACK, after: float = 0.01) -> Wire:
        self.when += after
        self.packets.append(self._frame(self.when, who, flags, data, self.at[who]))
        self.at[who] += len(data)
        return self

    def up(self, data: bytes, after: float = 0.01, flags: int = ACK) -> Wire:
        return self.say(C, data, flags, after)

    def down(self, data: bytes, after: float = 0.01, flags: int = ACK) -> Wire:
        return self.say(S, data, flags, after)

    def rows(self, folder: Path, **options: Any) -> list[dict[str, Any]]:
        return rows(messages(folder, pcap(self.packets), **options), "http")


def seen(found: list[dict[str, Any]]) -> list[tuple[str, int, bool]]:
    return [(row["path_shape"], row["status"], row["head_complete"]) for row in found]


def test_a_request_and_its_answer_are_one_row(tmp_path: Path) -> None:
    wire = Wire().up(GET).down(OK)
    got = messages(tmp_path, pcap(wire.packets))
    assert rows(got, "http") == [{
        "flow_id": rows(got)[0]["flow_id"], "time": BASE * 10**9 + 210_000_000, "src": C, "dst": S, "src_port": 50_000,
        "dst_port": 8080, "method": "GET", "host": "shop.example:8080", "path_shape": "/items/0?page=", "status": 200,
        "head_complete": True, "credentials": False, "cut": 1,
    }]  # fmt: skip
    assert rows(got)[0]["app"] == "http"


def test_each_request_of_a_kept_connection_is_a_row(tmp_path: Path) -> None:
    wire = Wire()
    for path in (b"/a", b"/b", b"/c"):
        wire.up(b"GET " + path + b" HTTP/1.1\r\n\r\n", after=1.0).down(OK.replace(b"200", b"404"))
    assert [(row["path_shape"], row["status"], row["head_complete"], row["cut"]) for row in wire.rows(tmp_path)] == [
        ("/a", 404, True, 2), ("/b", 404, True, 3), ("/c", 404, True, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_pipelined_requests_get_their_own_answers(tmp_path: Path, size: int) -> None:
    asked = (
        b"POST /up HTTP/1.1\r\nContent-Length: 30\r\n\r\n" + b"GET /in-body HTTP/1.1\r\n\r\n....."
        + b"HEAD /h HTTP/1.1\r\n\r\n" + b"GET /last HTTP/1.0\n\n"
    )  # fmt: skip
    told = (
        b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 201 Made\r\nContent-Length: 20\r\n\r\nHTTP/1.1 500 in body"
        + b"HTTP/1.1 302 Found\r\nContent-Length: 9999\r\n\r\n" + b"HTTP/1.1 204 None\r\n\r\n"
    )  # fmt: skip
    wire = Wire()
    for at in range(0, len(asked), size):
        wire.up(asked[at : at + size], after=0.001)
    for at in range(0, len(told), max(size, 8)):
        wire.down(told[at : at + max(size, 8)], after=0.001)
    assert seen(wire.rows(tmp_path)) == [("/up", 201, True), ("/h", 302, True), ("/last", 204, True)]


def test_reordered_and_repeated_segments(tmp_path: Path) -> None:
    head = b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: " + b"q" * 60 + b"\r\n\r\n"
    wire = Wire().up(head[:30]).up(head[30:60]).up(head[60:])
    first, second, third = wire.packets[-3:]
    wire.packets[-3:] = [(first[0], first[1]), (second[0], third[1]), (third[0], second[1]), (third[0], first[1])]
    assert seen(wire.down(OK).rows(tmp_path)) == [("/x", 200, True)]


def test_no_answer_within_thirty_seconds(tmp_path: Path) -> None:
    (row,) = Wire().up(GET).rows(tmp_path)
    assert (row["status"], row["head_complete"], row["cut"]) == (0, True, 31)


@pytest.mark.parametrize("flags", [RST, FIN | ACK])
def test_no_answer_before_the_server_ends(tmp_path: Path, flags: int) -> None:
    (row,) = Wire().up(GET).down(b"", flags=flags).rows(tmp_path)
    assert (row["status"], row["head_complete"], row["cut"]) == (0, True, 1)


def test_a_client_that_has_said_everything_still_gets_its_answer(tmp_path: Path) -> None:
    (row,) = Wire().up(GET, flags=ACK | FIN).down(OK).rows(tmp_path)
    assert row["status"] == 200


def test_a_slow_head_is_reported_while_it_goes_on(tmp_path: Path) -> None:
    wire = Wire().up(b"GET /slow HTTP/1.1\r\nHost: victim\r\n")
    for number in range(6):
        wire.up(b"X-a: %d\r\n" % number, after=5.0)
    (row,) = wire.rows(tmp_path)
    assert (row["host"], row["path_shape"], row["head_complete"], row["cut"]) == ("victim", "/slow", False, 11)


@pytest.mark.parametrize("who", ["client", "server", "reset"])
def test_an_unfinished_head_is_reported_when_the_connection_ends(tmp_path: Path, who: str) -> None:
    wire = Wire().up(b"GET /half HTTP/1.1\r\nCookie: a=b")
    ended = wire.up(b"", flags=FIN | ACK) if who == "client" else wire.down(b"", flags=FIN if who == "server" else RST)
    (row,) = ended.rows(tmp_path)
    assert (row["path_shape"], row["head_complete"], row["credentials"], row["cut"]) == ("/half", False, True, 1)


def test_a_head_sent_byte_by_byte(tmp_path: Path) -> None:
    wire = Wire()
    for byte in GET:
        wire.up(bytes([byte]), after=0.001)
    assert seen(wire.down(OK).rows(tmp_path)) == [("/items/0?page=", 200, True)]


def test_a_head_without_end_is_given_up(tmp_path: Path) -> None:
    wire = Wire().up(b"GET /big HTTP/1.1\r\n")
    for _ in range(30):
        wire.up(b"X: " + b"y" * 1000 + b"\r\n")
    (row,) = wire.rows(tmp_path)
    assert (row["head_complete"], row["cut"]) == (False, 1)


def test_missing_packets_are_not_a_slow_client(tmp_path: Path) -> None:
    wire = Wire().up(b"GET /x HTTP/1.1\r\nHost: a\r\n").up(b"lost on the way\r\n").up(b"Accept: b\r\n\r\n")
    del wire.packets[-2]
    assert wire.rows(tmp_path) == []


def test_a_short_snap_length_is_not_a_slow_client(tmp_path: Path) -> None:
    report = CaptureReport()
    wire = Wire().up(GET).down(OK)
    assert rows(messages(tmp_path, pcap(wire.packets, snap=90), report=report), "http") == []
    assert report.problems == ["1 TLS and HTTP heads are cut short by the capture's snap length"]


@pytest.mark.parametrize(
    "data",
    [b"GET key\r\nGET other\r\n", b"DELETE mailbox\r\n", b"SEARCH ALL\r\n\r\n", b"GET", b"POST / HTTP/2.0\r\n\r\n"],
)
def test_other_protocols_with_such_words_are_not_http(tmp_path: Path, data: bytes) -> None:
    assert Wire().up(data).down(b"+OK\r\n").up(b"GET x\r\n", after=12.0).rows(tmp_path) == []


def test_a_tunnel_is_not_read_as_http(tmp_path: Path) -> None:
    wire = (
        Wire().up(b"CONNECT out.example:443 HTTP/1.1\r\n\r\n").down(b"HTTP/1.1 200 Yes\r\n\r\n").up(b"\x17\3\3binary")
    )
    (row,) = wire.rows(tmp_path)
    assert (row["method"], row["host"], row["path_shape"], row["status"]) == ("CONNECT", "out.example:443", "", 200)


def test_a_chunked_answer_and_the_next_request(tmp_path: Path) -> None:
    wire = Wire().up(GET).down(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert seen(wire.up(GET).down(OK).rows(tmp_path)) == [("/items/0?page=", 200, True)] * 2


LOGIN = (
    b"POST /login HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded; charset=x\r\nContent-Length: %d\r\n\r\n"
)


@pytest.mark.parametrize("size", [5, 40, 4000])
def test_credentials_in_a_form(tmp_path: Path, size: int) -> None:
    body = b"user=anna&Password=geheim"
    wire, sent = Wire(), LOGIN % len(body) + body
    for at in range(0, len(sent), size):
        wire.up(sent[at : at + size])
    got = messages(tmp_path, pcap(wire.down(OK).packets))
    (row,) = rows(got, "http")
    assert (row["credentials"], row["status"]) == (True, 200)
    assert "geheim" not in repr(rows(got, "http"))


def test_an_early_answer_to_a_form(tmp_path: Path) -> None:
    wire = Wire().up(LOGIN % 30 + b"user=anna&").down(OK).up(b"password=geheim12345").up(GET).down(OK)
    assert [row["credentials"] for row in wire.rows(tmp_path)] == [False, False]


@pytest.mark.parametrize(
    ("head", "credentials"),
    [
        (b"GET / HTTP/1.1\r\nAuthorization: Basic dTpw\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\ncookie:\tsid=1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nX-API-Key: k\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nAuthorization:\r\n\r\n", False),
        (b"GET /?a=1&api_key=k HTTP/1.1\r\n\r\n", True),
        (b"GET /?api_key= HTTP/1.1\r\n\r\n", False),
        (b"GET http://u:p@h/ HTTP/1.1\r\n\r\n", True),
        (b"GET /password=1 HTTP/1.1\r\nAccept: cookie\r\n\r\n", False),
    ],
)
def test_credentials_are_told_by_names(head: bytes, credentials: bool) -> None:
    assert read_request(head).credentials is credentials


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (b"/", "/"), (b"*", "*"), (b"/a/b.html", "/a/b.html"), (b"/v1/users/12345/o17", "/v0/users/0/o0"),
        (b"/f/0f1e2d3c4b5a69788796a5b4c3d2e1f0", "/f/*"), (b"/x?id=5&q=secret+words#top", "/x?id=&q="),
        (b"/x?justavalue", "/x"), (b"/x?" + b"k" * 30 + b"=1", "/x?*="), (b"/a\x01\xff\\", "/a\\001\\255\\092"),
        (b"http://h.example/p/9?z=1", "/p/0?z="), (b"http://h.example", ""), (b"/" * 40, "/" * 16 + "/*"),
        (b"/" + b"/".join([b"\xff" * 20] * 15), ("/" + "/".join(["\\255" * 20] * 15))[:512]),
    ],
)  # fmt: skip
def test_shapes_of_paths(target: bytes, shape: str) -> None:
    assert read_request(b"GET " + target + b" HTTP/1.1\r\n\r\n").path_shape == shape


def test_the_host_of_an_absolute_target() -> None:
    assert read_request(b"GET http://u:p@H.Example:81/x HTTP/1.1\r\n\r\n").host == "h.example:81"
    assert read_request(b"GET http://h/x HTTP/1.1\r\nHost: Other.\r\n\r\n").host == "other"
    assert len(read_request(b"GET / HTTP/1.1\r\nHost: " + b"\xff" * 999 + b"\r\n\r\n").host) == 512


def test_bodies_of_answers() -> None:
    assert read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "GET").body == 7
    assert read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD").body == 0
    assert read_response(b"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", "GET").body == 0
    assert read_response(b"HTTP/1.0 200 OK\r\n\r\n", "GET").body is None
    for wrong in (b"HTTP/1.1 99 x", b"HTTP/1.1 2000 x", b"ICY 200 OK", b""):
        with pytest.raises(MalformedHttp):
            read_response(wrong, "GET")


def test_only_the_first_fields_of_a_form_are_looked_at() -> None:
    assert has_credentials(b"&".join([b"a=1"] * 63 + [b"pwd=x"]))
    assert not has_credentials(b"&".join([b"a=1"] * 64 + [b"pwd=x"]))
