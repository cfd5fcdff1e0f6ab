import asyncio

import pytest

from schemas.inventory import InventoryObject
from stream.identity_feed import IdentityFeed
from stream.settings import KafkaSettings
from stream.topics_admin import create_topics
from tests.integration.stream.counting import make_settings
from tests.integration.stream.harness import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


def pod(name: str) -> tuple[str, bytes]:
    return name, InventoryObject(kind="Pod", uid=name, name=name, ips=("10.0.0.1",)).encode()


async def test_all_is_read_before_start_returns_and_later_objects_follow(
    bootstrap: str, prefix: str, topics: Topics
) -> None:
    settings = make_settings(bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)
    await topics.send("inventory.v1", [pod("a"), ("x", b"no object"), ("y", b'{"kind":"Pod"}'), pod("b")])
    seen: list[str] = []
    arrived = asyncio.Event()

    def apply(offset: int, appended_ms: int, item: InventoryObject | None) -> None:
        assert appended_ms > 1_700_000_000_000
        if item is not None:
            seen.append(item.name)
            arrived.set() if item.name == "c" else None

    feed = IdentityFeed(KafkaSettings(bootstrap=bootstrap, prefix=prefix), apply)
    await feed.start()
    try:
        assert seen == ["a", "b"]
        await topics.send("inventory.v1", [pod("c")])
        await asyncio.wait_for(arrived.wait(), 30)
        await topics.send("inventory.v1", [pod("d")])
        await asyncio.wait_for(feed.reach(), 30)
        assert seen == ["a", "b", "c", "d"]
    finally:
        await feed.stop()


async def test_an_empty_inventory_is_read_at_once(bootstrap: str, prefix: str) -> None:
    settings = make_settings(bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)
    feed = IdentityFeed(settings.kafka, lambda offset, appended_ms, item: None)
    await feed.start()
    await feed.stop()
    assert feed.next_offset == 0
