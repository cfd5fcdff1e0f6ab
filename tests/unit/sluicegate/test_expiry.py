from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.action import Action
from sluicegate import expiry
from stream.settings import KafkaSettings

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


@pytest.mark.parametrize("broken", [False, True])
async def test_what_expired_is_taken_back_again_and_again(monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    monkeypatch.setattr(expiry, "AIOKafkaProducer", Producer)
    monkeypatch.setattr(expiry, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(Producer, "broken", broken)
    monkeypatch.setattr(Producer, "sent", [])
    rounds: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def expire() -> Sequence[Action]:
        loop.call_soon_threadsafe(rounds.put_nowait, None)
        return [EXPIRED]

    work = expiry.ExpiryLoop(KafkaSettings(), expire)
    work.start()
    async with asyncio.timeout(30):
        for _ in range(3):
            await rounds.get()
    await work.stop()
    assert bool(Producer.sent) == (not broken)
    assert all(sent == ("sluicegate.actions.v1", EXPIRED.encode()) for sent in Producer.sent)
