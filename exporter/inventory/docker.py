"""The inventory of one host that runs containers without Kubernetes: the Docker Engine API on its unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2 as httpx
import orjson
import structlog

from exporter.inventory.docker_objects import (
    UIDS,
    container_uid,
    network_uid,
    read_container,
    read_host,
    read_network,
)
from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import Book, InventoryProblem
from schemas.inventory import InventoryObject

log = structlog.get_logger("exporter.inventory")

_LINE_BYTES = 1 << 20
# What changes who has which address. An event tells that something happened; what is so now is asked for.
_FILTERS = orjson.dumps({
    "type": ["container", "network"],
    "event": ["start", "die", "destroy", "rename", "update", "connect", "disconnect", "create"],
}).decode()  # fmt: skip
_SHAPE_ERRORS = (ValueError, KeyError, TypeError, AttributeError)


class DockerSource:
    """Containers and networks of one engine. See ``InventorySource``.

    Args:
        info: what ``/info`` gives; see ``connect``.
    """

    def __init__(
        self, http: httpx.AsyncClient, info: Mapping[str, Any], cluster: str, settings: InventorySettings,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._http = http
        self._info = info
        self._host = str(info["Name"])
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._open = False
        self._contact = -1.0
        self._problem = "not listed yet"

    @classmethod
    async def connect(
        cls, socket: Path, cluster: str, settings: InventorySettings, clock: Callable[[], float]
    ) -> DockerSource:
        """Return a source for the engine that listens on a socket.

        Raises:
            InventoryProblem: nobody answers there as an engine does.
        """
        http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://docker",
                                 timeout=settings.request_s)  # fmt: skip
        try:
            answer = await http.get("/info")
            answer.raise_for_status()
            info = orjson.loads(answer.content)
            named = bool(info["Name"] and info["ID"])
        except (httpx.HTTPError, OSError, *_SHAPE_ERRORS) as error:
            await http.aclose()
            message = (
                f"no Docker engine answers at {socket} ({str(error)[:200] or type(error).__name__}); check the path, "
                "that the engine runs, and that this process may open its socket"
            )
            raise InventoryProblem(message) from None
        if not named:
            await http.aclose()
            message = f"the Docker engine at {socket} gives its host no name"
            raise InventoryProblem(message)
        return cls(http, info, cluster, settings, clock)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def owns(self, item: InventoryObject) -> bool:
        """See ``InventorySource.owns``."""
        return item.uid.startswith(UIDS) and item.node == self._host

    async def run(self, book: Book) -> None:
        """See ``InventorySource.run``."""
        wait = self._settings.retry_s
        while True:
            try:
                await self._follow(book)
                wait = self._settings.retry_s
            except (httpx.HTTPError, OSError, *_SHAPE_ERRORS) as error:
                self._problem = f"the Docker engine cannot be followed: {str(error)[:300] or type(error).__name__}"
                book.restarts["unreachable"] += 1
                log.warning("inventory interrupted", error=self._problem)
            await asyncio.sleep(wait)
            wait = min(2 * wait, self._settings.retry_limit_s)

    async def _follow(self, book: Book) -> None:
        """Open the stream of events, then list, so that nothing falls between; and follow until it ends."""
        # The engine ends the stream by itself; the list that follows puts right what an event may have missed.
        until = int(self._clock()) + self._settings.watch_s
        timeout = httpx.Timeout(self._settings.request_s, read=None)
        parameters = {"filters": _FILTERS, "until": str(until)}
        async with self._http.stream("GET", "/events", params=parameters, timeout=timeout) as answer:
            answer.raise_for_status()
            await self._list(book)
            self._open, self._problem = True, ""
            try:
                async for event in _lines(answer.aiter_bytes()):
                    await book.room()
                    await self._take(book, event)
            finally:
                self._open, self._contact = False, self._clock()

    async def _take(self, book: Book, event: Mapping[str, Any]) -> None:
        actor = event.get("Actor") or {}
        if event.get("Type") == "container":
            await self._container(book, str(actor.get("ID")))
        elif event.get("Action") in ("connect", "disconnect"):
            await self._container(book, str((actor.get("Attributes") or {}).get("container")))
        else:
            await self._networks(book)

    async def once(self, book: Book) -> None:
        """See ``InventorySource.once``."""
        try:
            await self._list(book)
        except (httpx.HTTPError, OSError, *_SHAPE_ERRORS) as error:
            message = f"the Docker engine cannot be read: {str(error)[:300] or type(error).__name__}"
            raise InventoryProblem(message) from None

    async def _list(self, book: Book) -> None:
        await self._networks(book)
        groups = []
        for listed in await self._read("/containers/json"):
            await book.room()
            groups.append(await self._container(book, str(listed["Id"])))
        book.statements.only("Pod", groups, self._clock())
        self._contact = self._clock()

    async def _container(self, book: Book, identifier: str) -> str:
        """Tell one container as it is now; returns its uid."""
        book.changes += 1
        uid, at = container_uid(identifier), self._clock()
        answer = await self._http.get(f"/containers/{identifier}/json")
        if answer.status_code == httpx.codes.NOT_FOUND:
            book.statements.tell("Pod", uid, (), at)
            return uid
        answer.raise_for_status()
        try:
            items = read_container(orjson.loads(answer.content), self._host, self._cluster)
        except _SHAPE_ERRORS as error:
            book.unreadable["Pod"] += 1
            log.warning("object not understood", kind="container", uid=uid[:128], error=str(error)[:300])
            return uid
        book.statements.tell("Pod", uid, items, at)
        return uid

    async def _networks(self, book: Book) -> None:
        book.changes += 1
        networks, at, groups = await self._read("/networks"), self._clock(), []
        for network in networks:
            uid = network_uid(self._host, str(network["Id"]))
            groups.append(uid)
            book.statements.tell("Range", uid, read_network(network, self._host, self._cluster), at)
        book.statements.only("Range", groups, at)
        host = read_host(self._info, networks, self._cluster)
        book.statements.tell("Node", host.uid, [host], at)

    async def _read(self, path: str) -> list[dict[str, Any]]:
        answer = await self._http.get(path)
        answer.raise_for_status()
        documents: list[dict[str, Any]] = orjson.loads(answer.content)
        return documents

    def known_until(self, now: float) -> float:
        """See ``InventorySource.known_until``."""
        return now if self._open else self._contact

    def problems(self) -> list[str]:
        """See ``InventorySource.problems``."""
        return [self._problem] if self._problem else []


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES:
            problem = f"an event of more than {_LINE_BYTES} bytes"
            raise ValueError(problem)
        for line in lines:
            if line.strip():
                yield orjson.loads(line)
