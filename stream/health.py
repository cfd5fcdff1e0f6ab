"""GET /healthz, /readyz and /metrics on one port: enough HTTP for probes and Prometheus, and no more."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from stream.connection import ConnectionProblem
from stream.settings import HealthSettings

_MAX_REQUEST = 8 << 10
_REQUEST_SECONDS = 5.0

# Lines that say what is wrong; none means all is well.
Problems = Callable[[], list[str]]


class HealthServer:
    """Serves until stopped. Probes fail (503) with the lines of `unhealthy` and `unready` as body."""

    def __init__(
        self, settings: HealthSettings, registry: CollectorRegistry, unhealthy: Problems, unready: Problems
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._checks = {b"/healthz": unhealthy, b"/readyz": unready}
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            ConnectionProblem: the port is taken or the address is not ours.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, self._settings.host, self._settings.port, limit=_MAX_REQUEST
            )
        except OSError as error:
            message = (
                f"health port {self._settings.host}:{self._settings.port} cannot be opened "
                f"({error.strerror}); set health.port"
            )
            raise ConnectionProblem(message) from None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whatever a stranger sends, at most one bounded read and one answer happen.
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or words[0] != b"GET":
            return _response("405 Method Not Allowed", b"only GET\n")
        path = words[1].split(b"?", 1)[0]
        if path == b"/metrics":
            return _response("200 OK", generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)
        check = self._checks.get(path)
        if check is None:
            return _response("404 Not Found", b"try /healthz, /readyz or /metrics\n")
        problems = check()
        if problems:
            return _response("503 Service Unavailable", "".join(f"{p}\n" for p in problems).encode())
        return _response("200 OK", b"ok\n")


def _response(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
