"""Workloads that begin to speak to somebody outside; and restarts, rollouts, content networks, busy ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.address_names import AddressNames
from detectors.detect import DetectEngine
from detectors.kernels.contacts import other_callers
from detectors.registry import build_detectors
from detectors.remembered_keys import RememberedKeys
from detectors.settings import EngineSettings
from exporter.sources.capture import read_messages
from schemas.event_codec import EventMessage
from schemas.events import FlowMark
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.event_rows import BEGIN, CONVERSATION, OPENED, Node, Row, flow, query
from tests.unit.detectors.one_detector import run

CASES = Path(__file__).parents[2] / "cases"
POD, REPLICA, NEIGHBOUR, FAR = "10.0.0.5", "10.0.0.6", "10.0.0.7", "203.0.113.9"
DAY, HOUR = 86_400, 3600
LATER = DAY + 60


def pod(ip: str, workload: str = "Deployment/web", born: int = -5000) -> InventoryObject:
    return InventoryObject(kind="Pod", uid=f"pod-{ip}", namespace="shop", name=f"pod-{ip}", ips=(ip,),
                           workload=workload, valid_from=BEGIN + born)  # fmt: skip


PODS = (pod(POD), pod(REPLICA), pod(NEIGHBOUR, "Deployment/other"))


def talk(dst: str = FAR, src: str = POD, port: int = 443, **more: Any) -> Row:
    return flow(src, dst, port, **({"marks": CONVERSATION} | more))


def told(name: str, address: str, client: str = POD) -> Row:
    return query(client, name, record_type=1, record_data=address)


INSIDE = talk("10.0.0.99", port=80)


def play(rows: Mapping[int, Sequence[Row]]) -> list[EventMessage]:
    """Flow rows and DNS rows by second."""
    node = Node()
    return [
        node.second(at, flows=[r for r in rows[at] if "dst" in r], dns=[r for r in rows[at] if "qname" in r])
        for at in sorted(rows)
    ]


def found(
    rows: Mapping[int, Sequence[Row]], inventory: Sequence[InventoryObject] = PODS, **config: Any
) -> list[Finding]:
    return run("new_external_destination", play(rows), inventory, **config)


def severities(*args: Any, **config: Any) -> list[str]:
    return [f.severity for f in found(*args, **config)]


def test_who_never_spoke_to_anybody_outside_begins() -> None:
    (one,) = found({1: [INSIDE], LATER: [talk()]})
    assert one.severity == "medium"
    assert (one.attackers[0].pod, one.victims[0].ip, one.victims[0].port) == (f"pod-{POD}", FAR, 443)
    assert one.summary == (
        "shop/Deployment/web begins to speak to 203.0.113.9:443 without asking for its name; in 86459 s before it "
        "spoke to nobody outside"
    )


def test_cold_nodes_and_workloads_are_silent() -> None:
    assert severities({1: [INSIDE], DAY + 1: [talk()]}) == []
    assert severities({1: [INSIDE], DAY + 2: [talk()]}) == ["medium"]
    assert severities({1: [talk("10.0.0.99", NEIGHBOUR)], DAY: [INSIDE], DAY + HOUR: [talk()]}) == []


@pytest.mark.parametrize(
    "row",
    [
        talk("10.9.9.9"), talk("224.0.0.9"), talk("169.254.169.254"), talk(marks=OPENED), talk(marks=0),
        talk(src="203.0.113.7"), talk(copy=True), talk(proto=1),
    ],
    ids=["inside", "group", "link-local", "unanswered", "going on", "passing through", "copy", "ping"],
)  # fmt: skip
def test_what_is_no_contact(row: Row) -> None:
    assert severities({1: [INSIDE], LATER: [row]}) == []


def test_a_destination_is_news_once() -> None:
    rows: dict[int, Sequence[Row]] = {LATER + n * HOUR: [talk(), talk(port=80)] for n in range(50)}
    assert len(found({1: [INSIDE]} | rows)) == 1


def test_a_restart_and_a_rollout_are_no_news() -> None:
    assert severities({1: [talk()], LATER: [talk(src=REPLICA)]}) == []
    young = (*PODS[:1], pod(REPLICA, born=LATER - 5))
    assert severities({1: [INSIDE], LATER: [talk(src=REPLICA)]}, young) == ["low"]


def test_a_workload_without_inventory_is_its_address_and_never_grave() -> None:
    assert severities({1: [INSIDE], LATER: [talk()]}, ()) == ["low"]
    assert severities({1: [talk()], LATER: [talk(src=REPLICA)]}, ()) == []


def test_who_speaks_to_few_is_told_of_at_low_and_who_speaks_to_many_is_not() -> None:
    for count, expected in ((1, ["low"]), (10, ["low"]), (11, [])):
        before = [talk(f"198.51.{n}.1") for n in range(count)]
        assert severities({1: before, LATER: [talk()]}) == expected, count


def test_content_networks_move_within_a_domain_or_a_network() -> None:
    names = {at: [told(f"cdn{at}.vendor.example", f"198.51.{at % 200}.1"), talk(f"198.51.{at % 200}.1")]
             for at in (1, LATER, LATER + 9, LATER + HOUR)}  # fmt: skip
    assert severities(names) == []
    assert severities({1: [talk("203.0.113.77")], LATER: [talk()]}) == []
    other = {LATER: [told("www.stranger.example", FAR), talk()]}
    (one,) = found({1: [told("a.vendor.example", "203.0.113.77"), talk("203.0.113.77")]} | other)
    assert "begins to speak to stranger.example (203.0.113.9:443)" in one.summary


def test_a_domain_that_was_asked_for_long_ago_or_by_another_is_not_the_name() -> None:
    before = [told("a.vendor.example", "198.51.100.1"), talk("198.51.100.1")]
    ask = told("b.vendor.example", FAR)
    assert severities({1: before, LATER: [ask], LATER + 7199: [talk()]}) == []
    assert severities({1: before, LATER: [ask], LATER + 7200: [talk()]}) == ["low"]
    assert severities({1: before, LATER: [ask | {"client": NEIGHBOUR}, talk()]}) == ["low"]


def test_what_others_of_the_node_speak_to_is_no_news() -> None:
    others = [pod(f"10.0.1.{n}", f"Deployment/app{n}") for n in range(3)]
    for count, expected in ((1, ["medium"]), (2, [])):
        before = [INSIDE, *(talk(src=f"10.0.1.{n}") for n in range(count))]
        assert severities({1: before, LATER: [talk()]}, (*PODS, *others)) == expected
    replicas = [pod(f"10.0.1.{n}", "Deployment/app") for n in range(3)]
    before = [INSIDE, *(talk(src=f"10.0.1.{n}") for n in range(3))]
    assert severities({1: before, LATER: [talk()]}, (*PODS, *replicas)) == ["medium"]


@pytest.mark.parametrize(
    "item",
    [
        InventoryObject(kind="Node", uid="n", name="n", ips=(POD,)),
        InventoryObject(kind="Range", uid="r", name="r", ips=("203.0.113.0/24",), role="internal"),
    ],
)
def test_nodes_are_many_and_own_ranges_are_inside(item: InventoryObject) -> None:
    assert severities({1: [INSIDE], LATER: [talk()]}, [item]) == []


def test_a_month_later_all_is_news_again() -> None:
    rows: dict[int, Sequence[Row]] = {1: [talk()], 40 * DAY: [INSIDE], 42 * DAY: [talk()]}
    assert severities(rows | {n * DAY: [INSIDE] for n in range(1, 40)}) == ["low"]


def test_a_recorded_agent_in_a_pod_that_spoke_inside_only() -> None:
    """A recorded ordinary day, and a recorded agent's calls a day later; client4 visits sites, client1 does not."""

    def rows(case: str) -> list[Row]:
        path = CASES / case / "capture.pcapng.gz"
        messages = read_messages(path, "node1", "lab")
        return [r for m in messages if "flow" in m.batches for r in m.batches["flow"].to_pylist()]

    inventory = [pod(f"10.244.1.{n}", f"Deployment/client{n - 20}") for n in (21, 24)]
    node = Node()
    messages = [node.second(1, flows=rows("benign/ordinary_day")),
                node.second(LATER, flows=rows("beacon/jittered_slowly"))]  # fmt: skip
    (one,) = run("new_external_destination", messages, inventory)
    assert (one.severity, one.attackers[0].workload, one.victims[0].ip) == (
        "medium", "Deployment/client1", "203.0.113.44",
    )  # fmt: skip


def test_names_are_bounded_and_the_newest_are_kept() -> None:
    names = AddressNames(64, 1000)
    for tick in range(1, 21):
        keys = np.arange(tick * 10, tick * 10 + 10, dtype=np.uint64)
        names.add(tick, keys, np.array([b"a.example"] * 10))
    assert names.shed == 200 - 64 + 64 - len([n for n in names.find(20, np.arange(300, dtype=np.uint64)) if n])
    assert all(names.find(20, np.arange(200, 210, dtype=np.uint64)))
    assert not any(names.find(2000, np.arange(200, 210, dtype=np.uint64)))
    names.add(21, np.array([7, 7], np.uint64), np.array([b"old.example", b"new.example"]))
    assert names.find(21, np.array([7], np.uint64)) == ["new.example"]
    other = AddressNames(64, 1000)
    other.restore(names.snapshot())
    assert other.snapshot().tobytes() == names.snapshot().tobytes()


def test_strangers_that_come_and_go_hide_nobody() -> None:
    """A flood of sources with one destination each, in one second, pushes out itself and is counted."""
    (detector,) = (d for d in build_detectors() if d.meta.id == "new_external_destination")
    engine = DetectEngine(0, EngineSettings(), [detector], IdentityTable(PODS))
    noise = [
        talk(f"198.51.100.{i & 255}", f"10.7.{i >> 8}.{i & 255}", marks=int(FlowMark.EXCHANGED)) for i in range(9000)
    ]
    rows: dict[int, Sequence[Row]] = {1: [INSIDE], 2: [INSIDE], HOUR * 2: [INSIDE], DAY: noise, LATER: [talk()]}
    out = [f for m in play(rows) for t in engine.feed([m]).ticks for f in t.findings]
    assert "new_external_destination" in {f.detector for f in out}
    assert "state_shed" in {f.detector for f in out}


def test_other_callers_are_those_that_came_before() -> None:
    """Of two destinations, one without room and one that knows as many callers as it may."""
    callers = np.zeros((2, 2), np.int64)
    slots, whom = np.array([0, 0, 0, -1, 1, 0, 0]), np.array([5, 6, 5, 5, 6, 7, 7])
    assert other_callers(callers, slots, whom).tolist() == [0, 1, 1, 0, 0, 2, 2]
    assert callers.tolist() == [[5, 6], [6, 0]]


def test_keys_that_repeat_are_taken_once() -> None:
    known = RememberedKeys(16, 100, 0)
    nodes, ticks = np.zeros(4, np.int64), np.full(4, 7)
    slots, new = known.take(np.array([3, 1, 3, 2], np.uint64), nodes, ticks)
    assert (new.tolist(), slots[0] == slots[2], len(set(slots.tolist()))) == ([0, 1, 3], True, 3)
    again, new = known.take(np.array([2, 2, 4, 3], np.uint64), nodes, ticks + 99)
    assert (new.tolist(), again[3]) == ([2], slots[0])
    assert known.take(np.array([1], np.uint64), nodes[:1], ticks[:1] + 100)[1].tolist() == [0]
