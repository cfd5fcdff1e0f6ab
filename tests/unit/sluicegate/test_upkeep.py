from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from response.gateway import ClusterError
from response.overdue import overdue_alert
from schemas.action import Action
from sluicegate import upkeep
from stream.settings import KafkaSettings
from tests.unit.response.cluster_cases import decision

EXPIRED = Action(
    id="1", response_id="r", alert_id="a", cluster="c", action="", outcome="expired", mode="enforce", target="shop/web",
    reason="expired", message="its time to live has passed", decided_tick=1, at="2026-01-01T00:00:00Z",
)  # fmt: skip


class Producer:
    """Stands for the client; ``broken`` ones cannot be started."""

    broken = False
    sent: ClassVar[list[tuple[str, bytes]]] = []

    def __init__(self, **_arguments: Any) -> None:
        self.stopped = False

    async def start(self) -> None:
        if self.broken:
            raise KafkaConnectionError("gone")

    async def send_and_wait(self, topic: str, value: bytes, _key: bytes) -> None:
        self.sent.append((topic, value))

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> type[Producer]:
    monkeypatch.setattr(upkeep, "AIOKafkaProducer", Producer)
    monkeypatch.setattr(Producer, "broken", False)
    monkeypatch.setattr(Producer, "sent", [])
    return Producer


class Looks:
    """Counts the looks; each finds one thing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.rounds: asyncio.Queue[None] = asyncio.Queue()

    def __call__(self) -> Sequence[Action]:
        self._loop.call_soon_threadsafe(self.rounds.put_nowait, None)
        return [EXPIRED]


async def test_it_looks_again_and_again(broker: type[Producer]) -> None:
    looks = Looks()
    work = upkeep.UpkeepLoop(KafkaSettings(), looks, 0.001)
    work.start()
    async with asyncio.timeout(30):
        for _ in range(3):
            await looks.rounds.get()
    await work.stop()
    assert set(broker.sent) == {("sluicegate.actions.v1", EXPIRED.encode())}


async def test_what_could_not_be_written_is_written_later(
    broker: type[Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "broken", True)
    looks = Looks()
    work = upkeep.UpkeepLoop(KafkaSettings(), looks, 0.001)
    work.start()
    async with asyncio.timeout(30):
        for _ in range(3):
            await looks.rounds.get()
        assert broker.sent == []
        monkeypatch.setattr(broker, "broken", False)
        while len(broker.sent) < 3:
            await looks.rounds.get()
    await work.stop()


async def test_news_wakes_it(broker: type[Producer]) -> None:
    looks = Looks()
    work = upkeep.UpkeepLoop(KafkaSettings(), looks, 3600)
    work.start()
    async with asyncio.timeout(30):
        await looks.rounds.get()
        work.wake()
        await looks.rounds.get()
    await work.stop()


async def test_a_lost_watch_wakes_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_RETRY_SECONDS", 0.001)
    woken = threading.Semaphore(0)
    begun = threading.Semaphore(0)

    def changes() -> Iterator[None]:
        begun.release()
        message = "cannot watch Pod: too old"
        yield None
        raise ClusterError(message, "expired")

    ended = upkeep.follow("Pod", changes, woken.release)
    for _ in range(4):
        assert await asyncio.to_thread(woken.acquire, timeout=30)
    assert begun.acquire(timeout=30)
    assert begun.acquire(timeout=30)
    ended.set()


async def test_a_step_that_is_worth_an_alert_is_one_before_it_is_told(broker: type[Producer]) -> None:
    overdue = Action.model_validate({**EXPIRED.model_dump(), "id": "2", "outcome": "missed", "decision": decision()})
    looks, found = Looks(), iter([[EXPIRED, overdue]])

    def look() -> Sequence[Action]:
        looks()
        return next(found, [])

    work = upkeep.UpkeepLoop(KafkaSettings(), look, 0.001, alert_of=lambda action: overdue_alert(action, "i"))
    work.start()
    async with asyncio.timeout(30):
        for _ in range(2):
            await looks.rounds.get()
    await work.stop()
    assert [topic for topic, _ in broker.sent] == [
        "sluicegate.actions.v1", "sluicegate.alerts.v1", "sluicegate.actions.v1",
    ]  # fmt: skip


async def test_the_audit_goes_on_where_alerts_may_not_be_written(
    broker: type[Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: Producer, topic: str, value: bytes, _key: bytes) -> None:
        if topic.endswith("alerts.v1"):
            raise TopicAuthorizationFailedError(topic)
        self.sent.append((topic, value))

    monkeypatch.setattr(Producer, "send_and_wait", refuse)
    overdue = Action.model_validate({**EXPIRED.model_dump(), "outcome": "missed", "decision": decision()})
    looks, found = Looks(), iter([[overdue]])

    def look() -> Sequence[Action]:
        looks()
        return next(found, [])

    work = upkeep.UpkeepLoop(KafkaSettings(), look, 0.001, alert_of=lambda action: overdue_alert(action, None))
    work.start()
    async with asyncio.timeout(30):
        for _ in range(2):
            await looks.rounds.get()
    await work.stop()
    assert [topic for topic, _ in broker.sent] == ["sluicegate.actions.v1"]


async def test_what_is_due_ends_the_pause(broker: type[Producer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_SETTLE_SECONDS", 0.001)
    looks = Looks()
    work = upkeep.UpkeepLoop(KafkaSettings(), looks, 3600, due_s=lambda: -5.0)
    work.start()
    async with asyncio.timeout(30):
        for _ in range(3):
            await looks.rounds.get()
    await work.stop()
