"""Through a real broker: what is contained is looked for, judged by packets, and whom workloads talk to is known."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from detectors.settings import EngineSettings
from response.edges import EdgeMemory
from response.responder import Responder
from response.settings import ResponseSettings
from response.verify_settings import VerifySettings
from schemas.action import Action
from schemas.command import Command
from schemas.edge import Edge
from schemas.event_codec import EventMessage, encode
from schemas.inventory import InventoryObject
from schemas.response import ResponseDecision
from schemas.watch import WatchRow
from stream.inventory_log import InventoryLog
from stream.responder_worker import make_service as make_responder
from stream.service import Service
from stream.settings import StreamSettings
from stream.stages import Parts, PipelineSettings
from stream.topics_admin import create_topics
from stream.watch_log import WatchLog
from stream.worker import StageFactories
from stream.worker import make_service as make_worker
from tests.event_rows import BEGIN, CONVERSATION, Node, Row, flow
from tests.integration.stream.counting import make_settings
from tests.integration.stream.harness import Topics
from tests.unit.response.cluster_cases import DB, WEB, MemoryGateway, decision, end

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

FAST = ResponseSettings(verify=VerifySettings(settle_s=0, attempts=2, calm_s=1))
PODS = [
    InventoryObject(
        kind="Pod", uid=pod.name, namespace=pod.namespace, name=pod.name, ips=pod.ips[:1], workload=pod.workload,
        node="node1", valid_from=BEGIN,
    )
    for pod in (WEB, DB)
]  # fmt: skip


async def until(holds: Callable[[], bool], within: float = 60) -> None:
    deadline = asyncio.get_running_loop().time() + within
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    task = asyncio.create_task(service.serve())
    try:
        await until(lambda: task.done() or service._unready() == [])
        yield
    finally:
        service.request_stop()
        await task


def worker(settings: StreamSettings, watches: WatchLog) -> Service:
    engine = EngineSettings(event_partitions=4, rollup_partitions=settings.topics.rollup_partitions)
    parts = Parts(PipelineSettings(engine=engine), inventory=InventoryLog(), watches=watches)
    stages = StageFactories(
        parts.detect, parts.correlate, parts.incidents, parts.decide, parts.inventory, parts.watches
    )  # fmt: skip
    return make_worker(settings, stages, ["detect"])


def responder(settings: StreamSettings, made: Responder, edges: EdgeMemory) -> Service:
    async def respond(asked: ResponseDecision) -> Sequence[Action]:
        return await asyncio.to_thread(made.respond, asked, time.time())  # noqa: TID251 - the time of steps

    async def obey(command: Command) -> Sequence[Action]:
        return ()

    async def watched(rows: Sequence[WatchRow]) -> Sequence[Action]:
        return await asyncio.to_thread(made.watched, rows, time.time())  # noqa: TID251 - the time of steps

    return make_responder(settings, respond, obey, None, None, watched, edges.take)


def talk(at: float, *, answered: bool, port: int = 5432) -> Row:
    """A new connection of WEB to DB at a time, s since epoch."""
    times = {"start": int(at * 1e9), "end": int(at * 1e9)}
    counts = {"src_packets": 2, "dst_packets": 2 if answered else 0, "src_bytes": 100, "dst_bytes": 50 * answered}
    marks = CONVERSATION if answered else 1
    return flow(WEB.ips[0], DB.ips[0], port, **{**times, **counts, "marks": marks})


async def send(topics: Topics, *messages: EventMessage) -> None:
    await topics.send("events.v1", [(f"test/{m.header.node}", encode(m)) for m in messages])


def told(records: list[ConsumerRecord]) -> list[str]:
    actions = [Action.decode(record.value) for record in records]
    return [f"{action.action} {action.outcome}" for action in actions]


async def test_a_containment_is_looked_for_and_judged_and_an_ineffective_one_takes_the_next_rung(
    bootstrap: str, prefix: str, topics: Topics
) -> None:
    settings = make_settings(bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)
    await topics.send("inventory.v1", [(item.uid, item.encode()) for item in PODS])
    watches, made = WatchLog(), Responder(MemoryGateway(), FAST, "test")
    now = int(time.time())  # noqa: TID251 - rows of now, since the step that they are compared with is of now
    asked = decision(
        "block_egress_destination", "quarantine_pod", mode="enforce", victims=(end(DB, 5432, "TCP"),), decided_tick=now
    )
    node = Node("node1", clock="live")

    async def seconds(first: int, count: int, *, answered: bool) -> None:
        for at in range(first, first + count):
            rows = [talk(at - 0.5, answered=answered)]
            await send(topics, node.second(at - BEGIN, flows=rows))

    async with running(worker(settings, watches)), running(responder(settings, made, EdgeMemory("test"))):
        await topics.send("responses.v1", [(asked.id, asked.encode())])
        await until(lambda: watches.counts()["active"] == 1)
        begun = int(time.time()) + 2  # noqa: TID251
        await seconds(begun, 1, answered=True)
        await topics.read("actions.v1", lambda r: "quarantine_pod applied" in told(r))
        later = int(time.time()) + 2  # noqa: TID251 - further ahead it would be a wrong clock
        await until(lambda: len(watches.at(later * 1000)[0].pairs) > 1)
        await seconds(later, 3, answered=False)
        records = await topics.read("actions.v1", lambda r: "quarantine_pod effective" in told(r))
    assert told(records) == [
        "block_egress_destination applied", "block_egress_destination ineffective", "quarantine_pod applied",
        "quarantine_pod effective",
    ]  # fmt: skip
    rows = [WatchRow.decode(record.value) for record in await topics.read("watch.v1")]
    assert {row.node for row in rows} == {"node1"}
    assert any(row.answered for row in rows)
    # A repeat of a row is one of the same name.
    assert len({(row.response_id, row.node, row.tick) for row in rows}) == len({row.encode() for row in rows})


async def test_edges_of_an_hour_survive_a_restart_and_reach_the_responder(
    bootstrap: str, prefix: str, topics: Topics
) -> None:
    settings = make_settings(bootstrap, prefix)
    await create_topics(settings.kafka, settings.topics)
    await topics.send("inventory.v1", [(item.uid, item.encode()) for item in PODS])
    node = Node("node1")
    due = (BEGIN // 600 + 1) * 600 - BEGIN
    async with running(worker(settings, WatchLog())):
        await send(topics, node.second(1, flows=[talk(BEGIN + 0.5, answered=True)]), node.second(62))
    async with running(worker(settings, WatchLog())):
        await send(topics, node.second(70, flows=[talk(BEGIN + 69, answered=True)]), node.second(due + 1))
        records = await topics.read("edges.v1", lambda records: len(records) >= 2)
    edges = [Edge.decode(record.value) for record in records]
    assert {(e.workload, e.peer, e.port, e.initiated, e.flows, e.bytes_sent) for e in edges} == {
        ("Deployment/web", "shop/StatefulSet/db", 5432, True, 2, 200),
        ("StatefulSet/db", "shop/Deployment/web", 5432, False, 2, 100),
    }
    memory: Any = EdgeMemory("test")
    async with running(responder(settings, Responder(MemoryGateway(), FAST, "test"), memory)):
        assert [talk.bytes for talk in memory.of("shop", "Deployment/web")] == [300]
