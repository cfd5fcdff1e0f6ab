"""One kind of object of the Kubernetes API, listed and then watched for as long as the process lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from exporter.inventory.kube_client import GONE, ApiFailure, KubeClient
from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import Book
from schemas.inventory import InventoryObject

log = structlog.get_logger("exporter.inventory")

_MISSING = (403, 404)


@dataclass(frozen=True)
class WatchedKind:
    """A collection, and what its objects mean.

    ``read`` raises ValueError, KeyError, TypeError or AttributeError for an object that does not have its kind's
    shape. An optional kind is left out where the server does not serve it or does not allow it.
    """

    kind: str
    path: str
    read: Callable[[Mapping[str, Any]], Awaitable[Sequence[InventoryObject]]]
    optional: bool = False


class KubeWatch:
    """Keeps a book's scope of one kind equal to the server's collection.

    A watch is taken up again from the last version that an event or bookmark told, so nothing is missed; where the
    server has forgotten that version (410), the collection is listed again, which also shows what has ended meanwhile.

    Args:
        clock: returns s since epoch.
    """

    def __init__(
        self, client: KubeClient, watched: WatchedKind, book: Book, settings: InventorySettings,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._client = client
        self._watched = watched
        self._book = book
        self._settings = settings
        self._clock = clock
        self._version = ""  # of the last word on the watch; empty: to be listed
        self._listed = ""  # of the last page of the last list
        self._open = False
        self.left_out = False  # an optional kind that the server does not serve
        self.contact = -1.0  # when the server was last in touch, once everything was listed; s since epoch
        self.problem = "not listed yet"

    def known_until(self, now: float) -> float:
        """Return up to when all changes have been told."""
        return now if self._open or self.left_out else self.contact

    async def run(self) -> None:
        """List, watch, and begin again after any trouble; ends only for an optional kind that is not there."""
        wait = self._settings.retry_s
        while True:
            before = self._book.changes
            try:
                if not self._version:
                    await self.list()
                await self._watch()
                # Somebody between here and the server may close each watch at once.
                await asyncio.sleep(self._settings.retry_s)
            except ApiFailure as error:
                if self._give_up(error):
                    return
                if self._book.changes != before:
                    wait = self._settings.retry_s
                self._fail(error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, self._settings.retry_limit_s)

    def may_miss(self, error: ApiFailure) -> bool:
        """Tell whether a failure means that an optional kind is not to be had."""
        return self._watched.optional and error.code in _MISSING

    def _give_up(self, error: ApiFailure) -> bool:
        self.left_out = self.may_miss(error)
        if self.left_out:
            log.info("kind left out", kind=self._watched.kind, reason=str(error))
            self.problem = ""
        return self.left_out

    def _fail(self, error: ApiFailure) -> None:
        reason = "expired" if error.code == GONE else "refused" if error.code else "unreachable"
        self._book.restarts[reason] += 1
        self.problem = str(error)
        log.warning("inventory interrupted", kind=self._watched.kind, reason=reason, error=str(error))
        if error.code:
            # Whatever the server objects to, a fresh list is the way to be sure again.
            self._version = ""

    async def list(self) -> None:
        """Tell the whole collection.

        Raises:
            ApiFailure: a page cannot be had; nothing has been ended then.
        """
        groups: list[str] = []
        async for items, version in self._client.pages(self._watched.path):
            self._listed = version
            for document in items:
                await self._book.room()
                groups.append(await self._tell(document))
        self._book.statements.only(self._watched.kind, groups, self._clock())
        self._version = self._listed
        self.problem = ""
        self.contact = self._clock()

    async def _watch(self) -> None:
        async with self._client.watch(self._watched.path, self._version) as events:
            self._open = True
            self.problem = ""
            try:
                async for event in events:
                    self.contact = self._clock()
                    await self._take(event)
                # The server closes a watch in its own time; it was whole until then.
                self.contact = self._clock()
            finally:
                self._open = False

    async def _take(self, event: Mapping[str, Any]) -> None:
        document = event["object"]
        if event["type"] in ("ADDED", "MODIFIED"):
            await self._book.room()
            await self._tell(document)
        elif event["type"] == "DELETED":
            self._book.changes += 1
            self._book.statements.tell(self._watched.kind, _uid(document), (), self._clock())
        self._version = str((document.get("metadata") or {}).get("resourceVersion") or self._version)

    async def _tell(self, document: Mapping[str, Any]) -> str:
        """Tell one object; returns its uid."""
        at, uid = self._clock(), _uid(document)
        self._book.changes += 1
        try:
            items = await self._watched.read(document)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            # What was said of it before holds until it can be read again: no news is not its end.
            self._book.unreadable[self._watched.kind] += 1
            log.warning("object not understood", kind=self._watched.kind, uid=uid[:128], error=_line(error))
            return uid
        self._book.statements.tell(self._watched.kind, uid, items, at)
        return uid


def _uid(document: Mapping[str, Any]) -> str:
    return str((document.get("metadata") or {}).get("uid") or "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
