from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from exporter.counted import registry_of
from exporter.delivery import DeliveryError
from exporter.inventory.agent import InventoryAgent, tell_ranges
from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import Book
from exporter.inventory.statements import Statements
from exporter.inventory.telemetry import METRICS, InventoryCollector, metrics_table
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject


class Told:
    """A delivery that fails as often as it is told to."""

    def __init__(self) -> None:
        self.items: list[InventoryObject] = []
        self.failures = 0

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        if self.failures:
            self.failures -= 1
            problem = "no broker"
            raise DeliveryError(problem)
        self.items += objects


class Source:
    """Knows everything up to a moment, and tells one pod."""

    def __init__(self) -> None:
        self.known = -1.0
        self.lines: list[str] = []
        self.book: Book | None = None

    def owns(self, item: InventoryObject) -> bool:
        return True

    async def run(self, book: Book) -> None:
        self.book = book
        await asyncio.Event().wait()

    async def once(self, book: Book) -> None:
        raise NotImplementedError

    def known_until(self, now: float) -> float:
        return self.known

    def problems(self) -> list[str]:
        return self.lines


class Scene:
    def __init__(self, settings: InventorySettings | None = None, known: Sequence[InventoryObject] = ()) -> None:
        self.source, self.told, self.time = Source(), Told(), 100.0
        chosen = settings or InventorySettings(flush_s=0.001)
        self.agent = InventoryAgent(self.source, self.told, "east", chosen, lambda: self.time, known)
        self._stop = asyncio.Event()

    async def until(self, reached: Callable[[], bool]) -> None:
        running = asyncio.create_task(self.agent.run(self._stop))
        async with asyncio.timeout(20):
            while not reached():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        self._stop.set()
        await running

    def tell(self, name: str) -> None:
        item = InventoryObject(kind="Pod", uid=name, name=name, ips=("10.0.0.1",), valid_from=50)
        self.agent.book.statements.tell("Pod", name, [item], self.time)


async def test_the_watermark_comes_after_all_that_it_speaks_for_and_only_once_all_is_known() -> None:
    scene = Scene()
    scene.tell("a")
    await scene.until(lambda: len(scene.told.items) == 1)
    assert scene.agent.watermark == -1
    scene = Scene()
    scene.tell("a")
    scene.source.known = 99.7
    await scene.until(lambda: scene.agent.watermark >= 0)
    assert [(i.kind, i.valid_from) for i in scene.told.items] == [("Pod", 50), ("Watermark", 99)]
    table = IdentityTable(scene.told.items)
    assert table.watermark == 99


async def test_what_the_broker_does_not_take_is_sent_when_it_does() -> None:
    scene = Scene()
    scene.tell("a")
    scene.source.known, scene.source.lines, scene.told.failures = 99.0, ["no pods"], 1 << 30

    def reached() -> bool:
        if scene.agent.problems() == ["no pods", "no broker"]:
            scene.told.failures = 0
        return scene.agent.watermark == 99

    await scene.until(reached)
    assert [i.uid for i in scene.told.items] == ["a", "watermark:east"]
    assert scene.agent.problems() == ["no pods"]


async def test_no_watermark_while_the_source_has_to_wait() -> None:
    scene = Scene(InventorySettings(flush_s=0.001, pending=1000))
    scene.source.known = 99.0
    for number in range(1000):
        scene.tell(str(number))
    scene.told.failures = 5
    await scene.until(lambda: scene.agent.watermark == 99)
    kinds = [i.kind for i in scene.told.items]
    assert kinds == ["Pod"] * 1000 + ["Watermark"]


async def test_all_that_holds_is_said_again_in_time() -> None:
    scene = Scene(InventorySettings(flush_s=0.001, restate_s=60))

    def reached() -> bool:
        scene.time += 10
        return sum(i.uid == "a" for i in scene.told.items) >= 3

    scene.tell("a")
    await scene.until(reached)
    assert {i.valid_from for i in scene.told.items if i.uid == "a"} == {50}


async def test_a_statement_that_no_reader_takes_is_counted_instead() -> None:
    scene = Scene()
    item = InventoryObject(kind="Pod", uid="a", name="a", labels={"x": "y" * (1 << 20)})
    scene.agent.book.statements.tell("Pod", "a", [item], 100.0)
    await scene.until(lambda: scene.agent.too_large == 1)
    assert scene.told.items == []


def test_declared_ranges_are_told_and_end_when_they_are_declared_no_more() -> None:
    settings = InventorySettings(internal=("10.0.0.0/8",), shared=("192.0.2.0/28",))
    first = Statements()
    tell_ranges(first, "east", settings, 100.0)
    items = first.take(10)
    assert [(i.role, i.ips) for i in items] == [("internal", ("10.0.0.0/8",)), ("shared", ("192.0.2.0/28",))]
    second = Statements(items)
    tell_ranges(second, "east", InventorySettings(internal=("10.0.0.0/8",)), 200.0)
    assert [(i.role, i.valid_to) for i in second.take(10)] == [("shared", 202)]


def test_every_metric_is_served_and_documented() -> None:
    scene = Scene()
    scene.tell("a")
    scene.agent.book.restarts["expired"] += 1
    scene.agent.book.unreadable["Pod"] += 2
    registry = registry_of(InventoryCollector(scene.agent, lambda: 150.0))
    served = {family.name: family for family in registry.collect()}
    assert set(served) == {f"sluicegate_{metric.name}" for metric in METRICS}
    for metric in METRICS:
        assert served[f"sluicegate_{metric.name}"].samples, metric.name
        assert f"`sluicegate_{metric.name}" in metrics_table()
    assert registry.get_sample_value("sluicegate_inventory_restarts_total", {"reason": "expired"}) == 1
    assert registry.get_sample_value("sluicegate_inventory_pending") == 1
    scene.agent.watermark = 140
    assert registry.get_sample_value("sluicegate_inventory_behind_seconds") == 10
