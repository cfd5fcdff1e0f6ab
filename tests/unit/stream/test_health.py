import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter

from stream.connection import ConnectionProblem
from stream.health import HealthServer
from stream.settings import HealthSettings


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if not request.endswith(b"\r\n\r\n"):
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n", 1)[0], body


async def test_probes_say_what_is_wrong_and_metrics_count() -> None:
    registry = CollectorRegistry()
    Counter("sluicegate_test", "help", registry=registry).inc()
    problems: list[str] = []
    server = HealthServer(HealthSettings(port=0), registry, lambda: problems, lambda: ["starting"])
    port = await server.start()
    try:
        assert await ask(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") == (b"HTTP/1.1 200 OK", b"ok\n")
        problems.append("detect partition 0: 5 messages behind")
        assert await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n") == (
            b"HTTP/1.1 503 Service Unavailable",
            b"detect partition 0: 5 messages behind\n",
        )
        assert (await ask(port, b"GET /readyz?x=1 HTTP/1.1\r\n\r\n"))[1] == b"starting\n"
        assert b"sluicegate_test_total 1.0" in (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"))[1]
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found"),
        (b"\x16\x03\x01\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"GET / HT", b""),
        (b"A" * 20_000, b""),
    ],
)
async def test_strangers_get_one_bounded_answer_and_the_server_goes_on(request_bytes: bytes, status: bytes) -> None:
    server = HealthServer(HealthSettings(port=0), CollectorRegistry(), list, list)
    port = await server.start()
    try:
        try:
            answered = (await ask(port, request_bytes))[0]
        except ConnectionResetError:
            answered = b""
        assert answered == status
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n"))[1] == b"ok\n"
    finally:
        await server.stop()


async def test_a_taken_port_is_one_line_with_the_remedy() -> None:
    first = HealthServer(HealthSettings(port=0), CollectorRegistry(), list, list)
    port = await first.start()
    try:
        with pytest.raises(ConnectionProblem, match=r"set health\.port"):
            await HealthServer(HealthSettings(port=port), CollectorRegistry(), list, list).start()
    finally:
        await first.stop()
