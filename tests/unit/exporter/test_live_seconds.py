"""The live clock: which seconds are closed when, what is said at the end, several sources together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import pytest

from exporter import live
from exporter.live import NodeSeconds, SteadyClock, joined, run_live
from exporter.live_source import SourceError, SourceState
from exporter.message_stream import Identity, MessageStream
from exporter.privileges import Privilege, missing
from exporter.second import Second
from exporter.settings import CutSettings, LiveSettings
from schemas.events import Capability
from tests.unit.exporter.crafting import BASE, SYN, tcp4
from tests.unit.exporter.live_packets import Node, entered
from tests.unit.exporter.test_delivery import Kept

S = 10**9


class Quiet:
    """A source that sees nothing, and writes down what it is told to do."""

    name: ClassVar[str] = "quiet"
    capabilities: ClassVar[Capability] = Capability.PACKETS
    notes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[Privilege]] = frozenset()
    keeps: ClassVar[frozenset[Privilege]] = frozenset()
    interfaces: Sequence[str] = ("",)
    next_due: int | None = None
    busy = False

    def __init__(self) -> None:
        self.told: list[str] = []

    def open(self) -> None:
        self.told.append("open")

    def collect(self, cut: int, now: int) -> None:
        self.told.append(f"collect {cut - BASE}")

    def close(self, cut: int, final: bool = False) -> Second:
        self.told.append(f"close {cut - BASE}{' final' if final else ''}")
        return Second(lost_packets=1)

    def state(self) -> SourceState:
        return SourceState()

    def shut(self) -> None:
        self.told.append("shut")


class Needy(Quiet):
    name: ClassVar[str] = "needy"
    needs: ClassVar[frozenset[Privilege]] = frozenset({Privilege.CAP_NET_RAW, Privilege.CAP_NET_ADMIN})


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = BASE * S

    def __call__(self) -> int:
        return self.now


@pytest.fixture(autouse=True)
def keep_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests still needs them."""
    monkeypatch.setattr(live, "keep_only", lambda _kept: None)


def node(clock: Hands, *sources: Quiet) -> NodeSeconds:
    stream = MessageStream(Identity("lab", "n1", "exporter", "b", "quiet", 1, "live"), CutSettings())
    return NodeSeconds(sources, stream, LiveSettings(), clock)


def test_a_second_is_closed_once_it_is_over_and_its_packets_have_come() -> None:
    clock, source = Hands(), Quiet()
    seconds = node(clock, source)
    first = seconds.open()
    assert [(m.header.cut - BASE, m.header.sequence, m.header.clock) for m in first] == [(0, 0, "live")]
    clock.now += 1_050_000_000
    assert seconds.turn() == []
    clock.now += 60_000_000
    assert [(m.header.cut - BASE, m.header.lost_packets) for m in seconds.turn()] == [(1, 1)]
    assert source.told == ["open", "collect 1", "collect 1", "close 1"]


class Slow(Quiet):
    """A source that takes its time to read, so that a second may end meanwhile."""

    def __init__(self, clock: Hands) -> None:
        super().__init__()
        self._clock = clock

    def collect(self, cut: int, now: int) -> None:
        super().collect(cut, now)
        self._clock.now += 200_000_000


def test_a_second_that_ends_while_its_packets_are_read_waits_for_the_rest_of_them() -> None:
    clock = Hands()
    source = Slow(clock)
    seconds = node(clock, source)
    seconds.open()
    clock.now += 950_000_000
    assert seconds.turn() == []
    assert [m.header.cut - BASE for m in seconds.turn()] == [1]
    assert source.told == ["open", "collect 1", "collect 1", "close 1"]


def test_every_second_has_a_heartbeat() -> None:
    clock = Hands()
    seconds = node(clock, Quiet())
    out = seconds.open()
    for _ in range(5):
        clock.now += S + 20_000_000
        out += seconds.turn()
    assert [m.header.cut - BASE for m in out] == [0, 1, 2, 3, 4, 5]
    assert [m.header.sequence for m in out] == [0, 1, 2, 3, 4, 5]


def test_a_step_of_the_clock_is_one_gap_and_no_walk_through_hours() -> None:
    clock, source = Hands(), Quiet()
    seconds = node(clock, source)
    seconds.open()
    clock.now += 3600 * S
    assert [m.header.cut - BASE for m in seconds.turn()] == [1, 3599]
    assert [text for text in source.told if text.startswith("close")] == ["close 1", "close 3599"]


def test_time_outs_fire_at_their_seconds_in_a_gap() -> None:
    clock, source = Hands(), Quiet()
    seconds = node(clock, source)
    seconds.open()
    source.next_due = BASE + 7
    clock.now += 10 * S + S // 2
    seconds.turn()
    assert source.told[2:4] == ["close 1", "close 7"]


def test_the_end_is_told() -> None:
    clock, source = Hands(), Quiet()
    seconds = node(clock, source)
    seconds.open()
    clock.now += 500_000_000
    out = seconds.finish()
    assert [(m.header.cut - BASE, m.header.final) for m in out] == [(1, True)]
    assert source.told[-1] == "close 1 final"


def test_missing_privileges_are_named_and_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, needy = Quiet(), Needy()
    monkeypatch.setattr(live, "missing", lambda needed: missing(needed, have=1 << Privilege.CAP_NET_ADMIN))
    with pytest.raises(SourceError, match=r"CAP_NET_RAW is missing, without which needy .*add: \[NET_RAW\]") as caught:
        node(Hands(), plain, needy).open()
    assert "NET_ADMIN" not in str(caught.value)
    assert plain.told == []


def test_where_one_source_cannot_begin_none_stays_open() -> None:
    class Broken(Quiet):
        def open(self) -> None:
            problem = "broken: no"
            raise SourceError(problem)

    good, bad = Quiet(), Broken()
    with pytest.raises(SourceError, match="broken"):
        node(Hands(), good, bad).open()
    assert good.told == ["open", "shut"]
    assert bad.told == ["shut"]


def test_rows_of_several_sources_leave_together() -> None:
    one, two = Node(), Node()
    one.see(entered(0.1, "veth-a", tcp4("10.1.0.1", 1, "10.1.0.2", 80, SYN)))
    two.see(entered(0.2, "veth-b", tcp4("10.1.0.3", 1, "10.1.0.2", 80, SYN)))
    first, second = one.packets.close(BASE + 1), two.packets.close(BASE + 1)
    second.lost_packets = 5
    both, names = joined([first, second], [["", "veth-x", "veth-x"], ["", "veth-y", "veth-y", "veth-z", "veth-z"]])
    assert [names[number] for number in both.flows["interface"]] == ["veth-x", "veth-z"]
    assert both.lost_packets == 5


def test_a_steady_clock_never_goes_back() -> None:
    wall, steady = Hands(), Hands()
    clock = SteadyClock(wall, steady)
    assert clock() == BASE * S
    wall.now += S
    steady.now += S
    assert clock() == BASE * S + S
    wall.now -= 30 * S
    steady.now += S
    # It goes on, a tenth slower, until the wall clock has caught up.
    assert clock() == BASE * S + S + S * 9 // 10
    wall.now += 100 * S
    steady.now += S
    assert clock() == wall.now


async def test_until_told_to_stop() -> None:
    delivery, stop, source = Kept(), asyncio.Event(), Quiet()
    clock = Hands()
    seconds = node(clock, source)

    def told(_summary: object) -> None:
        clock.now += S
        if len(delivery.messages) > 3:
            stop.set()

    settings = LiveSettings(collect_ms=10)
    summary = await run_live(seconds, delivery, stop, settings, told)
    assert delivery.closed == [True]
    assert [m.header.final for m in delivery.messages] == [False] * (len(delivery.messages) - 1) + [True]
    assert summary.messages == len(delivery.messages)
    assert source.told[-1] == "shut"


async def test_an_error_of_the_delivery_shuts_the_sources() -> None:
    source = Quiet()
    delivery = Kept(fail_at=0)
    with pytest.raises(RuntimeError, match="full"):
        await run_live(node(Hands(), source), delivery, asyncio.Event(), LiveSettings())
    assert delivery.closed == [False]
    assert source.told[-1] == "shut"
