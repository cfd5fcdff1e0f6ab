"""What becomes of messages while the broker is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from exporter import backlog
from exporter.backlog import Backlog
from exporter.delivery import DeliveryError
from exporter.settings import LiveSettings
from exporter.spool import Spool
from schemas.event_codec import EventMessage, encode, read_file
from schemas.events import EventHeader
from schemas.inventory import InventoryObject

ONE = 1024  # bytes that a message without rows counts for


def message(number: int) -> EventMessage:
    header = EventHeader(cluster="c", node="n", exporter="e", boot="b", sequence=number, cut=number, source="packets",
                         capabilities=0)  # fmt: skip
    return EventMessage(header, {})


class Broker:
    """Takes messages, unless it is away."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.away = False
        self.tries = 0

    def connect(self) -> Connection:
        self.tries += 1
        return Connection(self)


class Connection:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sent: list[int] = []

    def _check(self) -> None:
        if self._broker.away:
            problem = "the broker is away"
            raise DeliveryError(problem)

    async def open(self) -> None:
        self._check()

    async def send(self, message: EventMessage) -> None:
        self._sent.append(message.header.sequence)

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        raise AssertionError

    async def settle(self) -> None:
        self._check()
        self._broker.kept += self._sent
        self._sent = []

    async def close(self, complete: bool) -> None:
        if complete:
            await self.settle()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(backlog, "_LONGEST_WAIT", 0.001)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the conditions are counters, not events
            await asyncio.sleep(0.001)


async def test_messages_go_through_in_order() -> None:
    broker = Broker()
    made = Backlog(broker.connect, LiveSettings())
    await made.open()
    for number in range(100):
        await made.send(message(number))
    await made.close(True)
    assert broker.kept == list(range(100))
    assert made.state.dropped == 0


async def test_what_fits_in_memory_waits_there() -> None:
    broker = Broker()
    broker.away = True
    made = Backlog(broker.connect, LiveSettings())
    await made.open()
    for number in range(50):
        await made.send(message(number))
    await until(lambda: broker.tries > 2)
    assert made.state.problem == "the broker is away"
    assert made.state.waiting_bytes == 50 * ONE
    broker.away = False
    await until(lambda: made.state.waiting_bytes == 0)
    await made.close(True)
    assert broker.kept == list(range(50))
    assert made.state.problem == ""


async def test_a_broker_that_goes_in_mid_sending_loses_nothing() -> None:
    broker = Broker()
    made = Backlog(broker.connect, LiveSettings())
    await made.open()
    for number in range(300):
        broker.away = number % 50 > 20
        await made.send(message(number))
        await asyncio.sleep(0)
    broker.away = False
    await made.close(True)
    # Sent again where it is not known whether they came; never out of order.
    assert sorted(set(broker.kept)) == list(range(300))
    firsts = [n for at, n in enumerate(broker.kept) if n not in broker.kept[:at]]
    assert firsts == list(range(300))


async def test_without_a_spool_the_oldest_are_dropped_and_counted() -> None:
    broker = Broker()
    broker.away = True
    made = Backlog(broker.connect, LiveSettings(memory_bytes=100 * ONE))
    await made.open()
    for number in range(150):
        await made.send(message(number))
    assert made.state.dropped == 50
    broker.away = False
    await made.close(True)
    assert broker.kept == list(range(50, 150))


async def test_what_memory_cannot_hold_goes_to_disk_and_comes_back_in_order(tmp_path: Path) -> None:
    broker = Broker()
    broker.away = True
    made = Backlog(broker.connect, LiveSettings(memory_bytes=64 * ONE, spool=tmp_path / "spool"))
    await made.open()
    for number in range(500):
        await made.send(message(number))
    assert made.state.waiting_bytes == 64 * ONE
    assert made.state.spooled_bytes > 0
    broker.away = False
    await until(lambda: not made.state.spooled_bytes and not made.state.waiting_bytes)
    for number in range(500, 520):
        await made.send(message(number))
    await made.close(True)
    assert broker.kept == list(range(520))
    assert list((tmp_path / "spool").glob("*.events")) == []


async def test_a_full_spool_drops_its_oldest_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.spool._FILE_BYTES", 1 << 16)
    size = len(encode(message(5)))
    settings = LiveSettings(memory_bytes=64 * ONE, spool=tmp_path, spool_bytes=1 << 20)
    many = (1 << 21) // size
    broker = Broker()
    broker.away = True
    made = Backlog(broker.connect, settings)
    await made.open()
    for number in range(many):
        await made.send(message(number))
    assert made.state.spooled_bytes <= 1 << 20
    dropped = made.state.dropped
    assert dropped > 0
    broker.away = False
    await made.close(True)
    assert len(broker.kept) == many - dropped
    assert broker.kept == sorted(broker.kept)
    assert broker.kept[-1] == many - 1


async def test_what_is_left_at_the_end_is_sent_by_the_next_exporter(tmp_path: Path) -> None:
    broker = Broker()
    broker.away = True
    settings = LiveSettings(memory_bytes=64 * ONE, spool=tmp_path, stop_seconds=0)
    made = Backlog(broker.connect, settings)
    await made.open()
    for number in range(100):
        await made.send(message(number))
    await made.close(True)
    assert made.state.dropped == 0
    broker.away = False
    following = Backlog(broker.connect, settings.model_copy(update={"stop_seconds": 20}))
    await following.open()
    await following.send(message(100))
    await following.close(True)
    assert broker.kept == list(range(101))


async def test_without_a_spool_the_end_says_what_was_dropped() -> None:
    broker = Broker()
    broker.away = True
    made = Backlog(broker.connect, LiveSettings(stop_seconds=0))
    await made.open()
    await made.send(message(0))
    await until(lambda: broker.tries > 0)
    with pytest.raises(DeliveryError, match="1 messages could not be delivered before the end: the broker is away"):
        await made.close(True)


async def test_what_nobody_foresaw_is_not_swallowed() -> None:
    def connect() -> Connection:
        raise ZeroDivisionError

    made = Backlog(connect, LiveSettings())
    await made.open()
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        await made.send(message(0))


def test_a_spool_is_one_exporters(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    with pytest.raises(DeliveryError, match="another exporter uses the spool"):
        Spool(tmp_path, 1 << 20)
    spool.close()
    Spool(tmp_path, 1 << 20).close()


def test_a_spool_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeliveryError, match="cannot use the spool"):
        Spool(tmp_path / "file", 1 << 20)


def test_a_message_that_was_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    spool.add([encode(message(n)) for n in range(3)])
    spool.close()
    path = next(tmp_path.glob("*.events"))
    path.write_bytes(path.read_bytes()[:-5])
    again = Spool(tmp_path, 1 << 20)
    assert again.oldest() == [encode(message(n)) for n in range(2)]
    again.add([encode(message(9))])
    assert len(list(tmp_path.glob("*.events"))) == 2
    again.close()


def test_files_of_a_spool_are_files_of_messages(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    spool.add([encode(message(n)) for n in range(3)])
    spool.close()
    with next(tmp_path.glob("*.events")).open("rb") as file:
        assert [m.header.sequence for m in read_file(file)] == [0, 1, 2]
