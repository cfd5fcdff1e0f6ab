"""The watch against a server that plays a script: pages, events and failures in their order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.inventory.kube_client import ApiFailure, _events
from exporter.inventory.kube_watch import KubeWatch, WatchedKind
from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import Book
from exporter.inventory.statements import Statements
from schemas.inventory import InventoryObject

SETTINGS = InventorySettings(retry_s=0.001, retry_limit_s=0.002)
Script = list[Any]


def document(name: str, version: int = 1, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}, **more}


def event(kind: str, name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "object": document(name, version, **more)}


class ScriptedServer:
    """Answers lists and watches with the next entry: (pages, version), a list of events, or a failure."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.asked: list[str] = []  # "list", or the version of a watch
        self.finished = asyncio.Event()

    def _next(self) -> Any:
        if not self._script:
            self.finished.set()
            return None
        return self._script.pop(0)

    async def pages(self, path: str) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        self.asked.append("list")
        answer = self._next()
        if isinstance(answer, ApiFailure):
            raise answer
        pages, version = answer
        for page in pages:
            if isinstance(page, ApiFailure):
                raise page
            yield page, version

    @asynccontextmanager
    async def watch(self, path: str, version: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        self.asked.append(version)
        answer = self._next()
        if isinstance(answer, ApiFailure):
            raise answer
        yield self._play(answer)

    async def _play(self, events: Sequence[Any] | None) -> AsyncIterator[dict[str, Any]]:
        if events is None:
            await asyncio.Event().wait()  # open, and nothing happens
        for each in events or ():
            if isinstance(each, ApiFailure):
                raise each
            yield each


class Playing:
    def __init__(self, script: Script, optional: bool = False) -> None:
        self.server = ScriptedServer(script)
        self.book = Book(Statements(), 1000)
        self.time = 100.0
        kind = WatchedKind("Pod", "/pods", self._read, optional)
        self.watch = KubeWatch(self.server, kind, self.book, SETTINGS, lambda: self.time)  # type: ignore[arg-type]

    async def _read(self, document: Mapping[str, Any]) -> Sequence[InventoryObject]:
        if document.get("bad"):
            raise ValueError("no pod")
        if document.get("finished"):
            return []
        name = document["metadata"]["name"]
        return [InventoryObject(kind="Pod", uid=name, name=name, ips=(document.get("ip", "10.0.0.1"),), valid_from=50)]

    async def play(self) -> None:
        running = asyncio.create_task(self.watch.run())
        await asyncio.wait_for(self.server.finished.wait(), 20)
        running.cancel()

    def said(self) -> list[tuple[str, bool]]:
        return [(item.uid, item.valid_to is None) for item in self.book.statements.take(100)]


GONE = ApiFailure("watch pods", 410, "too old resource version")
DOWN = ApiFailure("watch pods", 0, "connection refused")


async def test_a_watch_goes_on_from_the_last_version_also_that_of_a_bookmark() -> None:
    playing = Playing([
        ([[document("a")], [document("b")]], "10"),
        [event("ADDED", "c", 11), event("BOOKMARK", "", 15)],
        [event("MODIFIED", "c", 16, ip="10.0.0.9"), DOWN],
        [event("DELETED", "a", 17)],
        [],
    ])  # fmt: skip
    await playing.play()
    assert playing.server.asked == ["list", "10", "15", "16", "17", "17"]
    assert playing.said() == [("a", False), ("b", True), ("c", True), ("c", True)]
    assert playing.book.restarts == {"unreachable": 1}


@pytest.mark.parametrize("where", ["at the start", "as an event"])
async def test_a_forgotten_version_is_listed_again_and_shows_what_ended_meanwhile(where: str) -> None:
    answer = GONE if where == "at the start" else [event("ADDED", "c", 11), GONE]
    playing = Playing([([[document("a"), document("b")]], "10"), answer, ([[document("b")]], "30"), []])
    await playing.play()
    assert playing.server.asked[-2:] == ["30", "30"]
    assert ("a", False) in playing.said()
    assert ("b", True) in playing.said()
    assert playing.book.restarts == {"expired": 1}


async def test_a_list_that_breaks_between_pages_ends_nothing() -> None:
    playing = Playing([([[document("a")]], "5"), GONE, ([[document("b")], GONE], "6"), ([[document("a")]], "7")])
    await playing.play()
    # b was on the page of a list that the server forgot: only the whole list that lacks it ends it.
    assert playing.said() == [("a", True), ("b", False)]
    assert playing.server.asked == ["list", "5", "list", "list", "7"]


async def test_what_cannot_be_read_is_counted_and_what_was_known_of_it_holds() -> None:
    playing = Playing([
        ([[document("a"), document("b"), document("c", bad=True)]], "10"),
        [event("MODIFIED", "a", 11, bad=True), event("MODIFIED", "b", 12, finished=True)],
    ])  # fmt: skip
    await playing.play()
    assert playing.said() == [("a", True), ("b", False)]
    assert playing.book.unreadable == {"Pod": 2}


async def test_up_to_when_all_is_known_follows_the_watch() -> None:
    playing = Playing([([[document("a")]], "10"), [event("ADDED", "c", 11), DOWN], DOWN, DOWN])
    assert playing.watch.known_until(99.0) == -1
    await playing.play()
    assert playing.watch.known_until(500.0) == 500.0  # open, at the script's end
    broken = Playing([([[document("a")]], "10"), *[DOWN] * 5])
    running = asyncio.create_task(broken.watch.run())
    while broken.book.restarts["unreachable"] < 3:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)
    assert broken.watch.known_until(500.0) == 100.0
    assert "connection refused" in broken.watch.problem
    running.cancel()


async def test_an_optional_kind_that_is_not_served_is_left_out() -> None:
    playing = Playing([ApiFailure("list servicecidrs", 404, "not found")], optional=True)
    await asyncio.wait_for(playing.watch.run(), 10)
    assert (playing.watch.problem, playing.watch.known_until(500.0)) == ("", 500.0)
    needed = Playing([ApiFailure("list pods", 403, "forbidden")] * 3 + [([[document("a")]], "10")])
    await needed.play()
    assert needed.book.restarts == {"refused": 3}
    assert needed.said() == [("a", True)]


async def test_watching_pauses_while_too_much_waits_for_the_broker() -> None:
    playing = Playing([([[document(str(n)) for n in range(5)]], "10")])
    playing.book._pending = 3
    running = asyncio.create_task(playing.watch.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(playing.book.statements.take(100)), playing.book.full) == (3, True)
    playing.book.sent(playing.book.statements.take(100))
    await asyncio.wait_for(playing.server.finished.wait(), 10)
    assert [uid for uid, _ in playing.said()] == ["3", "4"]
    running.cancel()


async def collected(chunks: Sequence[bytes]) -> list[dict[str, Any]]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in _events(stream(), "watch pods")]


@given(cuts=st.lists(st.integers(0, 90), max_size=6))
def test_events_are_lines_however_the_stream_is_cut(cuts: list[int]) -> None:
    whole = b'{"type":"ADDED","object":{"n":1}}\n\n{"type":"BOOKMARK","object":{"n":2}}\n{"type":'
    places = [0, *sorted(min(c, len(whole)) for c in cuts), len(whole)]
    chunks = [whole[a:b] for a, b in itertools.pairwise(places)]
    assert [e["object"]["n"] for e in asyncio.run(collected(chunks))] == [1, 2]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"type":"ERROR","object":{"code":410,"message":"too old"}}\n', 410),
        (b'{"type":"ERROR","object":{}}\n', 0),
        (b'{"type":"ADDED"}\n', 0),
        (b"[]\n", 0),
        (b"x" * (9 << 20), 0),
    ],
)
async def test_an_event_that_is_none_or_an_error_ends_the_watch(line: bytes, code: int) -> None:
    with pytest.raises(ApiFailure) as caught:
        await collected([line])
    assert caught.value.code == code


def test_failures_name_the_remedy_and_hold_no_control_characters() -> None:
    text = str(ApiFailure("list pods", 403, "pods is forbidden\x1b[2J\nuser x"))
    assert text == "cannot list pods: pods is forbidden [2J user x (grant the role that docs/inventory.md lists)"
