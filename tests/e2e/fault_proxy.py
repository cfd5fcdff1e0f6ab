"""A proxy in front of a real API server that injects faults and writes down every change that passes.

Plain HTTP on loopback; the bearer token of the request goes on to the server. Faults are drawn with a seed, so a run
can be repeated as far as the order of requests allows.
"""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_STATUS = {
    "conflict": (409, "Conflict", "the object has been modified; please apply your changes to the latest version"),
    "expired": (410, "Expired", "The provided continue parameter is too old"),
    "busy": (429, "TooManyRequests", "too many requests, please try again later"),
    "broken": (500, "InternalError", "etcdserver: request timed out"),
    "away": (503, "ServiceUnavailable", "apiserver is shutting down"),
    "denied": (403, "Forbidden", 'admission webhook "guard.example" denied the request: not now'),
}
_READS = ("expired", "busy", "broken", "away", "slow", "cut_before", "cut_after")
_WRITES = ("conflict", "busy", "broken", "away", "denied", "slow", "cut_before", "cut_after")
_HOP = frozenset({"connection", "host", "transfer-encoding", "content-length", "accept-encoding"})


@dataclass(frozen=True)
class Write:
    """One request that was to change something, and whether the server saw it."""

    method: str
    path: str
    body: Any
    reached: bool
    status: int


@dataclass
class Faults:
    """How many requests of each kind of fault there were, and every write. `share` of requests fail until `most`."""

    share: float
    most: int
    seed: int = 7
    slow_s: float = 1.5
    injected: Counter[str] = field(default_factory=Counter)
    writes: list[Write] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def draw(self, method: str) -> str | None:
        with self._lock:
            self.requests += 1
            if self.injected.total() >= self.most or self._random.random() >= self.share:
                return None
            kind = self._random.choice(_READS if method == "GET" else _WRITES)
            self.injected[kind] += 1
            return kind

    def note(self, write: Write) -> None:
        with self._lock:
            self.writes.append(write)


@contextmanager
def faulty(url: str, faults: Faults) -> Iterator[str]:
    """The address of a proxy to an API server; it ends with the block."""
    upstream = urlsplit(url)
    trusting = ssl._create_unverified_context()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A head and a body in two packets, the second of which waits for an acknowledgement, are 40 ms a request.
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self._held = http.client.HTTPSConnection(
                upstream.hostname or "", upstream.port, timeout=60, context=trusting
            )

        def finish(self) -> None:
            self._held.close()
            super().finish()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            pass

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faults.draw(self.command)
            reached = fault in (None, "slow", "cut_after")
            if fault == "slow":
                time.sleep(faults.slow_s)
            status, headers, answer = self._forward(body) if reached else _refusal(fault or "")
            if self.command != "GET":
                faults.note(Write(self.command, self.path, _document(body), reached, status))
            if fault in ("cut_before", "cut_after"):
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            try:
                self.wfile.write(answer)
            except OSError:
                # The client did not wait for a slow answer.
                self.close_connection = True

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            held = self._held
            try:
                held.request(self.command, self.path, body or None, headers)
                answer = held.getresponse()
            except (http.client.HTTPException, OSError):
                held.close()
                held.request(self.command, self.path, body or None, headers)
                answer = held.getresponse()
            content = answer.read()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            return answer.status, kept, content

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="fault-proxy", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _refusal(kind: str) -> tuple[int, list[tuple[str, str]], bytes]:
    code, reason, message = _STATUS.get(kind, (0, "", ""))
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
              "code": code}  # fmt: skip
    headers = [("Content-Type", "application/json")]
    if kind == "busy":
        headers.append(("Retry-After", "1"))
    return code, headers, json.dumps(status).encode()


def _document(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None
