"""A capture that comes through a pipe while it is being made."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.chunks import CaptureReport
from exporter.cutter import Cutter
from exporter.message_stream import Identity
from exporter.run import Capture, export
from exporter.settings import ExporterSettings
from exporter.sources import capture
from exporter.sources.capture import read_messages
from schemas.event_codec import EventMessage
from tests.unit.exporter.crafting import BASE, SYN, messages, pcap, rows, tcp4
from tests.unit.exporter.live_packets import chunk, entered
from tests.unit.exporter.test_delivery import Kept

S = 10**9
PACKET = tcp4("10.0.0.1", 40_000, "10.0.0.2", 80, SYN)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input; gives the writing end, which the test closes."""
    reading, writing = os.pipe()

    class Input:
        def fileno(self) -> int:
            return reading

    monkeypatch.setattr("sys.stdin", Input())
    monkeypatch.setattr(capture, "_QUIET_SECONDS", 0.01)
    yield writing
    os.close(reading)


def cutter() -> Cutter:
    identity = Identity("c", "n", "capture", "b", "capture", 0, "capture")
    return Cutter(identity, ExporterSettings(), CaptureReport())


def fed() -> Cutter:
    made = cutter()
    assert len(list(made.feed(chunk([entered(0.5, "veth-a", PACKET)])))) == 1
    return made


def test_a_second_that_is_over_is_closed_while_nothing_comes() -> None:
    made = fed()
    assert list(made.rest((BASE + 1) * S - 1)) == []
    found = list(made.rest((BASE + 2) * S + 1))
    assert [(m.header.cut - BASE, m.rows("flow")) for m in found] == [(1, 1)]
    assert [m.header.cut - BASE for m in made.rest((BASE + 5) * S)] == [4], "unanswered after its time-out"


def test_packets_of_long_ago_wait_for_their_own_time() -> None:
    assert list(fed().rest((BASE + 3600) * S)) == []


def test_nothing_is_said_before_the_first_packet() -> None:
    assert list(cutter().rest(BASE * S)) == []


def test_rows_leave_while_the_pipe_is_open(pipe: int) -> None:
    now = time.clock_gettime(time.CLOCK_REALTIME) - BASE
    os.write(pipe, pcap([(now, PACKET)]))
    found: list[EventMessage] = []
    for message in read_messages("-", "node", "lab"):
        found.append(message)
        if rows(found):
            os.close(pipe)
            break
    assert len(rows(found)) == 1


async def test_what_was_read_is_sent_while_the_pipe_is_quiet(pipe: int) -> None:
    os.write(pipe, pcap([(time.clock_gettime(time.CLOCK_REALTIME) - BASE, PACKET)]))
    seen = threading.Event()

    class Closing(Kept):
        async def send(self, message: EventMessage) -> None:
            await super().send(message)
            if message.batches and not seen.is_set():
                seen.set()
                os.close(pipe)

    delivery = Closing()
    await export([Capture("-", "n1")], delivery, "lab")
    assert seen.is_set()
    assert delivery.closed == [True]
    assert delivery.messages[-1].header.final


def test_a_pipe_that_ends_is_the_same_as_the_file(pipe: int, tmp_path: Path) -> None:
    content = pcap([(0.5, PACKET), (2.5, PACKET), (7.5, PACKET)])
    os.write(pipe, content)
    os.close(pipe)
    whole = messages(tmp_path, content)
    assert rows(list(read_messages("-", "node", "lab"))) == rows(whole)
