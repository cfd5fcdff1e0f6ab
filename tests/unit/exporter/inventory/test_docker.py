from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from exporter.inventory.docker import DockerSource
from exporter.inventory.docker_objects import read_container
from exporter.inventory.settings import InventorySettings
from exporter.inventory.source import Book, InventoryProblem
from exporter.inventory.statements import Statements
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.unit.exporter.inventory.docker_engine import HOST, DockerEngine, container, network

SETTINGS = InventorySettings(retry_s=0.01, retry_limit_s=0.02)
COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "long": "x" * 5000}
STARTED = 1_767_225_606  # the cut of second 5


class Following:
    """A source at work, and a table that hears all it says."""

    def __init__(self, source: DockerSource, clock: list[float]) -> None:
        self.source, self.clock = source, clock
        self.book = Book(Statements(), 1000)
        self.table = IdentityTable()
        self.task: asyncio.Task[None] | None = None

    def hear(self) -> list[InventoryObject]:
        items = self.book.statements.take(1000)
        self.book.sent(items)
        for item in items:
            self.table.add(item)
        return items

    def name(self, ip: str) -> str | None:
        self.hear()
        found = self.table.find(ip, int(self.clock[0]) + 3)
        return found.name if found else None

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not reached():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


@pytest.fixture
async def engine(socket: Path) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine()
    engine.networks = {n["Id"]: n for n in (
        network("n1", "bridge", "bridge", ("172.17.0.0/16", "172.17.0.1")),
        network("n2", "shop_back", "overlay", ("10.0.1.0/24", "10.0.1.1"), ("fd00:1::/64", "")),
        network("n3", "host", "host"), network("n4", "none", "null"),
    )}  # fmt: skip
    await engine.start(socket)
    yield engine
    await engine.stop()


@pytest.fixture
async def following(engine: DockerEngine, socket: Path) -> AsyncIterator[Following]:
    clock = [STARTED + 100.0]
    following = Following(await DockerSource.connect(socket, "edge", SETTINGS, lambda: clock[0]), clock)
    following.task = asyncio.create_task(following.source.run(following.book))
    await following.until(lambda: following.source.problems() == [])
    yield following
    following.task.cancel()
    with suppress(asyncio.CancelledError):
        await following.task
    await following.source.close()


async def test_containers_come_and_go_with_their_addresses_in_all_networks(
    engine: DockerEngine, following: Following
) -> None:
    web = container("a" * 64, "shop-web-1", {"bridge": ("172.17.0.2", ""), "back": ("10.0.1.5", "fd00:1::5")}, COMPOSE)
    engine.put(web)
    await following.until(lambda: following.name("fd00:1::5") == "shop-web-1")
    endpoint = following.table.endpoint("172.17.0.2", STARTED)
    assert (endpoint.namespace, endpoint.workload, endpoint.node) == ("shop", "Compose/web", HOST)
    assert endpoint.labels.keys() == {"com.docker.compose.project", "com.docker.compose.service"}
    assert following.table.find("172.17.0.2", STARTED - 1) is None
    following.clock[0] += 10
    engine.die("a" * 64)
    await following.until(lambda: following.name("172.17.0.2") is None)
    # Its address is given to another one ten seconds later.
    following.clock[0] += 10
    second = int(following.clock[0])
    engine.put(container("b" * 64, "other", {"bridge": ("172.17.0.2", "")}, started="0001-01-01T00:00:00Z"))
    await following.until(lambda: following.name("172.17.0.2") == "other")
    assert [following.table.role("172.17.0.2", at) for at in (second - 5, second + 1)] == ["internal", "internal"]
    held = [following.table.find("172.17.0.2", at) for at in (second - 9, second - 5, second + 1)]
    assert [item and item.name for item in held] == ["shop-web-1", None, "other"]


async def test_networks_are_ranges_and_their_gateways_the_host(engine: DockerEngine, following: Following) -> None:
    following.hear()
    at = int(following.clock[0]) + 3
    assert following.table.role("172.17.9.9", at) == following.table.role("fd00:1::9", at) == "internal"
    gateway = following.table.endpoint("172.17.0.1", at)
    assert (gateway.node, gateway.roles) == (HOST, ("shared",))
    # An overlay's gateway is not on this host.
    assert following.table.find("10.0.1.1", at) is None
    del engine.networks["n2"]
    engine.tell("network", "destroy", "n2", name="shop_back", type="overlay")
    await following.until(lambda: (following.hear(), following.table.role("10.0.1.9", at + 2))[1] == "unknown")


async def test_a_container_that_joins_a_network_gets_its_address_then(
    engine: DockerEngine, following: Following
) -> None:
    engine.put(container("a" * 64, "web", {"bridge": ("172.17.0.2", "")}))
    await following.until(lambda: following.name("172.17.0.2") == "web")
    following.clock[0] += 50
    joined = int(following.clock[0]) + 1
    engine.containers["a" * 64] = container("a" * 64, "web", {"x": ("172.17.0.2", ""), "y": ("10.0.1.7", "")})
    engine.tell("network", "connect", "n2", container="a" * 64)
    await following.until(lambda: following.name("10.0.1.7") == "web")
    assert following.table.find("10.0.1.7", joined - 1) is None
    assert following.table.find("172.17.0.2", joined - 1) is not None


async def test_what_happened_while_the_engine_was_away_is_seen_when_it_is_back(
    engine: DockerEngine, following: Following, socket: Path
) -> None:
    engine.put(container("a" * 64, "old", {"bridge": ("172.17.0.2", "")}))
    await following.until(lambda: following.name("172.17.0.2") == "old")
    last = following.clock[0]
    await engine.stop()
    await asyncio.to_thread(socket.unlink)
    await following.until(lambda: following.source.problems() != [])
    following.clock[0] += 30
    assert following.source.known_until(following.clock[0]) == last
    engine.die("a" * 64)
    engine.put(container("b" * 64, "new", {"bridge": ("172.17.0.3", "")}))
    await engine.start(socket)
    await following.until(lambda: following.name("172.17.0.3") == "new")
    await following.until(lambda: following.source.problems() == [])
    assert following.name("172.17.0.2") is None
    assert following.source.known_until(following.clock[0]) == following.clock[0]
    assert following.book.restarts["unreachable"] > 0


async def test_a_stream_that_ends_in_time_is_followed_by_a_fresh_list(
    engine: DockerEngine, following: Following
) -> None:
    lists = engine.asked.count("/containers/json")
    engine.end_streams()
    await following.until(lambda: engine.asked.count("/containers/json") > lists and engine.followed)
    assert not following.book.restarts


async def test_what_is_no_container_is_counted_and_the_others_are_told(
    engine: DockerEngine, following: Following
) -> None:
    engine.put(container("c" * 64, "bad", {"bridge": ("no address", "")}))
    engine.put(container("d" * 64, "good", {"bridge": ("172.17.0.9", "")}))
    await following.until(lambda: following.name("172.17.0.9") == "good")
    assert following.book.unreadable == {"Pod": 1}


async def test_nobody_at_the_socket_is_one_clear_line(socket: Path, tmp_path: Path) -> None:
    with pytest.raises(InventoryProblem, match=r"no Docker engine answers at .*docker\.sock .*; check the path"):
        await DockerSource.connect(tmp_path / "docker.sock", "edge", SETTINGS, lambda: 0.0)


def test_a_container_on_the_host_network_has_no_address_of_its_own() -> None:
    (item,) = read_container(container("a" * 64, "agent", {"host": ("", "")}, mode="host"), HOST, "edge")
    assert (item.host_network, item.ips) == (True, ())
    shared = container("b" * 64, "sidecar", {}, mode=f"container:{'a' * 64}")
    assert read_container(shared, HOST, "edge") == []
    swarm = {"com.docker.swarm.service.name": "shop_web", "com.docker.stack.namespace": "shop"}
    (task,) = read_container(container("c" * 64, "shop_web.1.x", {"back": ("10.0.1.5", "")}, swarm), HOST, "edge")
    assert (task.namespace, task.workload) == ("shop", "Swarm/shop_web")
