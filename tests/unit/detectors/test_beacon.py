"""Beacons and reverse shells: what is regular, what only looks like it, and what bounds the memory."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pytest

from detectors.channels import Channels, regularity
from detectors.index import I64, positions
from detectors.kernels import channels as kernel
from schemas.events import PayloadSide
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.event_rows import BEGIN, CLOSED, CONVERSATION, OPENED, REFUSED, Row, flow
from tests.unit.detectors.test_claim_detectors import play, run, worst

AGENT, OTHER, CONTROL = "10.0.0.9", "10.0.0.8", "203.0.113.7"


def at_times(times: Iterable[float], source: str = AGENT, to: str = CONTROL, **more: Any) -> dict[int, list[Row]]:
    """One short connection at each time, s after BEGIN."""
    seconds: dict[int, list[Row]] = {}
    for time in times:
        fields: dict[str, Any] = {"marks": CONVERSATION | CLOSED, "src_bytes": 600, "dst_bytes": 900, "port": 443}
        fields |= {"conn_start": int((BEGIN + time) * 1e9), "dst_packets": 5} | more
        seconds.setdefault(int(time) + 1, []).append(flow(source, to, **fields))
    return seconds


def together(*many: dict[int, list[Row]]) -> dict[int, dict[str, list[Row]]]:
    out: dict[int, dict[str, list[Row]]] = {}
    for seconds in many:
        for at, rows in seconds.items():
            out.setdefault(at, {"flows": []})["flows"].extend(rows)
    return out


def gaps(count: int, low: float, high: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return list(accumulate(chance.uniform(low, high) for _ in range(count)))


def by_chance(count: int, mean: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return list(accumulate(chance.expovariate(1 / mean) for _ in range(count)))


def found(*many: dict[int, list[Row]], identities: IdentityTable | None = None) -> str | None:
    return worst(run(play(together(*many)), identities), "beacon")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (gaps(30, 30, 30), "medium"), (gaps(30, 15, 30), "medium"), (gaps(100, 1, 15), "low"),
        (gaps(200, 1, 15), "medium"),
        (gaps(9, 60, 60), "low"), (gaps(5, 60, 60), None),
        (by_chance(200, 0.2), None), (by_chance(200, 2), None), (by_chance(200, 10), None), (by_chance(200, 60), None),
    ],
)  # fmt: skip
def test_regular_calls_and_random_ones(times: list[float], expected: str | None) -> None:
    assert found(at_times(times)) == expected


def test_an_hour_between_calls() -> None:
    assert found(at_times(gaps(20, 3300, 3900))) == "medium"


def call(channels: Channels, keys: Sequence[int], tick: int, began_ms: Any) -> I64:
    """Touch channels of one node that opened a connection each, and note it; return their slots."""
    count = len(keys)
    ones = np.ones(count, np.int64)
    slots, _ = channels.touch(np.array(keys, np.uint64), 0 * ones, tick * ones, np.ones(count, np.bool_))
    channels.note(slots, np.zeros((7, count), np.int64), began_ms * ones, (5, 60, 65_536))
    return slots


def test_random_callers_are_hardly_ever_taken_for_regular_ones() -> None:
    keys = range(1, 1001)
    chance = np.random.default_rng(3)
    channels = Channels(len(keys), 10**9)
    times = np.full(len(keys), 1000)
    slots = call(channels, keys, 1, times)
    for _ in range(60):
        times = times + np.rint(chance.exponential(8000, len(keys))).astype(np.int64)
        slots = call(channels, keys, 1, times)
    nats, spread, _ = regularity(channels.rows, slots)
    assert len(positions((nats > 9) & (spread <= 0.75))) <= 1
    assert abs(float(np.median(spread)) - 1) < 0.1


def test_popular_services_scrapers_and_clocks_are_silent() -> None:
    times = gaps(30, 10, 10)
    assert found(*(at_times(times, f"10.0.0.{n}") for n in range(1, 5))) is None
    assert found(*(at_times(times, to=f"203.0.113.{n}") for n in range(1, 6))) is None
    assert found(at_times(times, port=123, proto=17)) is None
    assert found(at_times(times, to="224.0.0.251")) is None
    assert found(at_times(times, "198.51.100.1", AGENT)) is None


def test_transfers_are_no_check_ins() -> None:
    assert found(at_times(gaps(30, 10, 10), dst_bytes=900_000)) is None


def pod(name: str, ip: str) -> InventoryObject:
    return InventoryObject(kind="Pod", uid=name, namespace="shop", name=name, ips=(ip,), valid_from=0)


def test_services_of_the_cluster_are_polled() -> None:
    known = IdentityTable([pod("agent", AGENT), pod("store", "10.0.0.7")])
    times = gaps(30, 10, 10)
    assert found(at_times(times, to="10.0.0.7"), identities=known) == "low"
    assert found(at_times(times), identities=known) == "medium"
    assert found(at_times(times, "10.0.0.66", "10.0.0.7"), identities=known) is None


def test_calls_in_vain() -> None:
    times = by_chance(200, 0.5)
    assert found(at_times(times, marks=OPENED | REFUSED, dst_bytes=40)) == "low"
    assert found(at_times(times)) is None


@pytest.mark.parametrize(("squares", "expected"), [(4 * 15_100**2, "low"), (4 * 25_000**2, None)])
def test_bursts_in_one_connection(squares: int, expected: str | None) -> None:
    row = flow(AGENT, CONTROL, 443, marks=0, src_bytes=600, dst_bytes=900, bursts=4, burst_gap_sum=60_000,
               burst_gap_squares=squares)  # fmt: skip
    opened = at_times([0.5], marks=CONVERSATION)
    assert found(opened, {60 * n: [row] for n in range(1, 6)}) == expected


def test_channels_are_bounded_and_young_ones_make_room() -> None:
    channels = Channels(64, 10**6)
    keys = range(1, 41)
    for tick in range(1, 6):
        slots = call(channels, keys, tick, tick * 5000)
    for tick in range(6, 20):
        call(channels, range(1000 * tick, 1000 * tick + 40), tick, tick * 5000)
    assert len(channels) == 64
    assert channels.shed() == {0: 14 * 40 - 24}
    assert (call(channels, keys, 20, -1) == slots).all()
    other = Channels(64, 10**6)
    other.restore({name: np.array(values) for name, values in channels.snapshot().items()})
    assert (call(other, keys, 21, 21_000) == slots).all()
    assert all((values == other.snapshot()[name]).all() for name, values in other.snapshot().items())


def test_channels_of_one_node_do_not_take_the_room_of_another() -> None:
    channels = Channels(8, 10**6)
    ones = np.ones(12, np.int64)
    opens = np.ones(12, np.bool_)
    slots, new = channels.touch(np.arange(12, dtype=np.uint64), 0 * ones, ones, opens)
    assert (slots >= 0).sum() == len(new) == 8
    slots, _ = channels.touch(np.arange(100, 108, dtype=np.uint64), ones[:8], ones[:8], opens[:8])
    assert (slots >= 0).all()
    assert channels.shed() == {0: 4}


def test_damaged_channels_are_refused() -> None:
    channels = Channels(8, 10**6)
    call(channels, range(1, 5), 1, 1000)
    state = {name: np.array(values) for name, values in channels.snapshot().items()}
    state["rows"][0, kernel.NODE] = 7
    with pytest.raises(ValueError, match="belongs to no node"):
        Channels(8, 10**6).restore(state)


def test_only_what_may_be_a_beacon_is_judged() -> None:
    channels = Channels(8, 10**6)
    ones = np.ones(3, np.int64)
    worth = np.zeros(0, np.int64)
    for number in range(8):
        slots, _ = channels.touch(np.arange(1, 4, dtype=np.uint64), 0 * ones, ones, np.ones(3, np.bool_))
        amounts = np.zeros((7, 3), np.int64)
        amounts[0], amounts[2, 2] = 1, 1_000_000
        # The first calls every 10 s, the second every 1.2 s, the third moves much.
        worth = channels.note(slots, amounts, number * np.array([10_000, 1200, 10_000]) + 1, (5, 60, 65_536))
    assert worth.tolist() == [0]


def shell(port: int = 4444, source: str = AGENT, flow_id: int = 7, **more: Any) -> Row:
    fields = {"marks": 0, "first_payload": PayloadSide.RESPONDER, "src_payload": 300, "dst_payload": 20, "bursts": 3}
    return flow(source, CONTROL, port, flow_id=flow_id, **({"direction_known": True} | fields | more))


def shells(rows: Sequence[Row], identities: IdentityTable | None = None) -> str | None:
    return worst(run(play({at + 1: {"flows": [row]} for at, row in enumerate(rows)}), identities), "reverse_shell")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([shell()], "high"),
        ([shell(bursts=1), shell(bursts=2)], "high"),
        ([shell(bursts=2)], None),
        ([shell(bursts=2), shell(bursts=2, flow_id=8)], None),
        ([shell(22)], None), ([shell(3306)], None), ([shell(app="ssh")], None), ([shell(proto=17)], None),
        ([shell(first_payload=PayloadSide.INITIATOR)], None),
        ([shell(direction_known=False)], None),
        ([shell(src_payload=0)], None),
        ([shell(source=f"10.0.0.{n}", flow_id=n, bursts=1) for n in range(1, 4)] + [shell(flow_id=1)], None),
    ],
)  # fmt: skip
def test_who_speaks_first(rows: list[Row], expected: str | None) -> None:
    assert shells(rows) == expected


def test_between_known_endpoints_a_greeting_is_likelier_than_a_shell() -> None:
    assert shells([shell()], IdentityTable([pod("control", CONTROL)])) == "low"


def test_what_the_node_calls_as_well_is_an_agent_of_the_house() -> None:
    """Monitoring reports from hosts and pods to one intake; without the node's own calls nothing tells it apart."""
    host = "192.168.0.4"
    times = gaps(30, 29, 31)
    nodes = IdentityTable([InventoryObject(kind="Node", uid="n", name="n", ips=(host,))])
    both = (at_times(times), at_times(gaps(30, 29, 31, seed=2), source=host))
    assert found(*both, identities=nodes) == "low"
    assert found(*both) == "medium"
    assert found(at_times(times), identities=nodes) == "medium"
    irregular = at_times(by_chance(30, 30), source=host)
    assert found(at_times(times), irregular, identities=nodes) == "medium"
