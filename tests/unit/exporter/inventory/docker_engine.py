"""A Docker engine as far as its API shows one, on a unix socket: documents, routes and streams as in API 1.43.

No engine runs where these tests run. The shapes are those of the published API: `State.StartedAt` with nanoseconds and
year 1 for never, empty texts for no address, chunked event streams of one JSON object a line that end at `until`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

HOST = "builder-7"


def network(identifier: str, name: str, driver: str, *subnets: tuple[str, str]) -> dict[str, Any]:
    return {
        "Id": identifier, "Name": name, "Driver": driver, "Scope": "swarm" if driver == "overlay" else "local",
        "EnableIPv6": False, "Internal": False, "Labels": {}, "Options": {}, "Containers": {},
        "IPAM": {"Driver": "default", "Options": None,
                 "Config": [{"Subnet": s, **({"Gateway": gateway} if gateway else {})} for s, gateway in subnets]},
    }  # fmt: skip


def container(
    identifier: str, name: str, networks: dict[str, tuple[str, str]], labels: dict[str, str] | None = None,
    started: str = "2026-01-01T00:00:05.123456789Z", mode: str = "default",
) -> dict[str, Any]:  # fmt: skip
    return {
        "Id": identifier, "Name": f"/{name}", "Created": "2026-01-01T00:00:04Z", "HostConfig": {"NetworkMode": mode},
        "State": {"Status": "running", "Running": True, "StartedAt": started, "FinishedAt": "0001-01-01T00:00:00Z"},
        "Config": {"Labels": labels or {}, "Image": "none"},
        "NetworkSettings": {"IPAddress": "", "Networks": {
            name: {"IPAddress": four, "GlobalIPv6Address": six, "MacAddress": "", "NetworkID": name}
            for name, (four, six) in networks.items()}},
    }  # fmt: skip


class DockerEngine:
    """Answers `/info`, `/networks`, `/containers/json`, `/containers/{id}/json` and `/events`."""

    def __init__(self) -> None:
        self.networks: dict[str, dict[str, Any]] = {}
        self.containers: dict[str, dict[str, Any]] = {}
        self.swarm_address = ""
        self.asked: list[str] = []
        self.filters: dict[str, list[str]] = {}
        self._streams: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self, socket: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, socket)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    @property
    def followed(self) -> bool:
        return bool(self._streams)

    def put(self, document: dict[str, Any], action: str = "start") -> None:
        self.containers[document["Id"]] = document
        self.tell("container", action, document["Id"])

    def die(self, identifier: str, removed: bool = True) -> None:
        document = self.containers[identifier]
        document["State"] |= {"Running": False, "Status": "exited"}
        if removed:
            del self.containers[identifier]
        self.tell("container", "die", identifier)

    def tell(self, kind: str, action: str, identifier: str, **attributes: str) -> None:
        event = {"Type": kind, "Action": action, "Actor": {"ID": identifier, "Attributes": attributes},
                 "scope": "local", "time": 1_767_225_600, "timeNano": 1_767_225_600_000_000_000}  # fmt: skip
        if kind in self.filters.get("type", [kind]) and action in self.filters.get("event", [action]):
            for writer in self._streams:
                self._chunk(writer, json.dumps(event).encode() + b"\n")

    def end_streams(self) -> None:
        """What the engine does when the time of `until` has come."""
        for writer in list(self._streams):
            writer.write(b"0\r\n\r\n")
            writer.close()
        self._streams.clear()

    @staticmethod
    def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await self._converse(reader, writer)
        finally:
            self._connections.discard(writer)
            self._streams.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = urlsplit(head.split(" ")[1])
                self.asked.append(target.path)
                if target.path == "/events":
                    query = parse_qs(target.query)
                    assert int(query["until"][0]) > 0
                    self.filters = json.loads(unquote(query["filters"][0]))
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                    )
                    self._streams.add(writer)
                    continue
                status, document = self._answer(target.path)
                body = json.dumps(document).encode()
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nApi-Version: 1.43\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()

    def _answer(self, path: str) -> tuple[str, Any]:
        if path == "/info":
            return "200 OK", {"ID": "ABCD:EFGH", "Name": HOST, "Swarm": {"NodeAddr": self.swarm_address}}
        if path == "/networks":
            return "200 OK", list(self.networks.values())
        if path == "/containers/json":
            running = [c for c in self.containers.values() if c["State"]["Running"]]
            return "200 OK", [{"Id": c["Id"], "Names": [c["Name"]]} for c in running]
        identifier = path.removeprefix("/containers/").removesuffix("/json")
        if identifier in self.containers:
            return "200 OK", self.containers[identifier]
        return "404 Not Found", {"message": f"No such container: {identifier}"}
