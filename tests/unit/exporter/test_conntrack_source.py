"""The source of tracked connections: beside packets and alone, and after a loss."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from exporter.event_batches import flow_batch
from exporter.live_sources import make_sources
from exporter.settings import ConntrackSettings, ExporterSettings
from exporter.sources import conntrack
from exporter.sources.conntrack import ConntrackSource
from exporter.sources.ctnetlink import DESTINATION_CHANGED, SOURCE_CHANGED
from schemas.event_codec import batch_to_rows
from schemas.events import Capability, FlowMark
from tests.unit.exporter.test_conntrack_messages import (
    BACKEND,
    POD,
    SERVICE,
    TO_SERVICE,
    TO_WORLD,
    joined,
    message,
    slots,
    told,
)

SECOND = 10**9


class Kernel:
    """What the kernel has to say: events, which may overflow, and everything that there is."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.listed: list[bytes] = []
        self.lost = 0
        self.translated_only: bool | None = None

    def __call__(self, translated: bool) -> Kernel:
        self.translated_only = translated
        return self

    def events(self) -> Iterator[Any]:
        while self.waiting:
            said = self.waiting.pop(0)
            if said is OVERFLOW:
                self.lost += 7
                raise OSError(errno.ENOBUFS, "No buffer space available")
            yield slots(*said)

    def dropped(self) -> int:
        return self.lost

    def everything(self, status: int = 0) -> Iterator[Any]:
        """Give what is listed; the same with either bit, since messages of the tests have none."""
        assert status in ({SOURCE_CHANGED, DESTINATION_CHANGED} if self.translated_only else {0})
        if self.listed:
            yield slots(*self.listed)

    def close(self) -> None:
        pass


OVERFLOW = object()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(conntrack, "ConnectionSocket", made)
    monkeypatch.setattr(conntrack, "everything", made.everything)
    monkeypatch.setattr(conntrack, "node_state", lambda: iter(()))
    return made


def source(**settings: int) -> ConntrackSource:
    return ConntrackSource(ExporterSettings(conntrack=ConntrackSettings(**settings)), 1, SECOND)


def test_beside_packets_only_translated_connections_are_asked_for(kernel: Kernel) -> None:
    packets, beside = make_sources(["packets", "conntrack"], ExporterSettings(), 1, SECOND)
    kernel.listed = [message(*TO_SERVICE), message((POD, 1, BACKEND, 80))]
    beside.open()
    assert kernel.translated_only is True
    assert beside.capabilities == Capability.NAT
    assert beside.notes == ()
    assert isinstance(beside, ConntrackSource)
    kernel.waiting = [[message(*TO_WORLD)]]
    beside.update(100)
    assert [told(row)[0] for row in joined(beside.translations, TO_SERVICE[0])] == [BACKEND]
    assert [told(row)[5] for row in joined(beside.translations, TO_WORLD[0])] == [50_123]
    assert not beside.close(100).flows
    assert packets.capabilities & Capability.PACKETS


def test_alone_it_says_what_it_cannot_see(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "_counts", lambda: False)
    alone = source()
    assert not alone.capabilities & (Capability.ATTEMPTS | Capability.TCP_FLAGS | Capability.DNS | Capability.PACKETS)
    assert "no bytes" in alone.notes[0]
    monkeypatch.setattr(conntrack, "_counts", lambda: True)
    assert alone.capabilities & Capability.PACKETS
    assert "no bytes" not in alone.notes[0]
    alone.open()
    assert kernel.translated_only is False


def rows(alone: ConntrackSource, cut: int) -> tuple[list[dict[str, Any]], int]:
    second = alone.close(cut)
    return (batch_to_rows("flow", flow_batch(second.flows, [""])) if second.flows else []), second.lost_packets


def test_after_a_loss_everything_is_listed_again_and_the_loss_is_told_once(kernel: Kernel) -> None:
    alone = source()
    kernel.listed = [message(*TO_WORLD)]
    alone.open()
    # What was kept before the gap is heard first; what came after it, and what began in it, follows from the list.
    kernel.waiting = [[message(*TO_SERVICE)], OVERFLOW, [message((POD, 9, BACKEND, 80))]]
    kernel.listed = [message(*TO_WORLD), message(*TO_SERVICE), message((POD, 8, BACKEND, 80))]
    alone.collect(2, 2 * SECOND)
    found, lost = rows(alone, 2)
    assert sorted(row["src_port"] for row in found) == [8, 9, 40_000]
    assert {row["marks"] for row in found} == {int(FlowMark.OPENED)}
    assert lost == 7
    assert rows(alone, 3) == ([], 0)
    assert alone.state().lost_packets == 7


def test_beside_packets_a_loss_leaves_what_the_list_has(kernel: Kernel) -> None:
    _, beside = make_sources(["packets", "conntrack"], ExporterSettings(), 1, SECOND)
    assert isinstance(beside, ConntrackSource)
    beside.open()
    kernel.waiting = [[message(*TO_SERVICE)], OVERFLOW]
    kernel.listed = [message(*TO_WORLD)]
    beside.update(100)
    assert len(beside.translations) == 2
    flow = ExporterSettings().flow
    beside.close(100 + max(flow.udp_idle_seconds, flow.half_open_seconds) + flow.linger_seconds)
    assert len(beside.translations) == 1
    assert told(joined(beside.translations, TO_SERVICE[0])[0])[0] == SERVICE


def test_connections_without_room_are_lost_rows(kernel: Kernel) -> None:
    alone = source(connections=1024)
    alone.open()
    kernel.waiting = [
        [message((POD, port, BACKEND, 80)) for port in range(start, start + 100)] for start in range(1, 1101, 100)
    ]
    alone.collect(2, 2 * SECOND)
    second = alone.close(2)
    assert (len(second.flows["marks"]), second.lost_rows) == (1024, 76)
    assert alone.close(3).lost_rows == 0


def test_what_is_older_than_the_exporter_is_let_go_by_listing_again(kernel: Kernel) -> None:
    """The kernel tells the end of connections only that began while somebody listened."""
    _, beside = make_sources(["packets", "conntrack"], ExporterSettings(), 1, SECOND)
    assert isinstance(beside, ConntrackSource)
    kernel.listed = [message(*TO_SERVICE), message(*TO_WORLD)]
    beside.open()
    settings = ExporterSettings()
    beside.close(100)
    kernel.listed = [message(*TO_WORLD)]
    again = 100 + settings.conntrack.relist_seconds
    beside.close(again - 1)
    assert len(beside.translations) == 2
    beside.close(again)
    linger = max(settings.flow.udp_idle_seconds, settings.flow.half_open_seconds) + settings.flow.linger_seconds
    beside.close(again + linger)
    assert len(beside.translations) == 1
    assert told(joined(beside.translations, TO_WORLD[0])[0])[5] == 50_123


def test_a_kernel_that_refuses_the_list_is_asked_again(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(status: int = 0) -> Iterator[Any]:
        raise PermissionError(1, "Operation not permitted")

    alone = source()
    alone.open()
    monkeypatch.setattr(conntrack, "everything", refuse)
    kernel.waiting = [OVERFLOW, [message(*TO_WORLD)]]
    alone.collect(2, 2 * SECOND)
    assert [row["src_port"] for row in rows(alone, 2)[0]] == [40_001]
    assert alone.state().notes == ["cannot list connections again: Operation not permitted"]
    monkeypatch.setattr(conntrack, "everything", kernel.everything)
    kernel.listed = [message(*TO_WORLD), message(*TO_SERVICE)]
    assert rows(alone, 11)[0] == []
    assert [row["src_port"] for row in rows(alone, 12)[0]] == [40_000]
