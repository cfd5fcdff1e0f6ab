"""The model on generated feature rows: its warm-up is far longer than any capture we could keep.

Every row here is made by ``generated``; none was recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from detectors.base import TickView, WorkloadRows
from detectors.models.traffic_anomaly import TrafficAnomaly, TrafficAnomalyConfig
from detectors.models.windows import SUMS
from schemas.addresses import pack
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject

START = 1_700_006_400 // 60 * 60
QUALITY = {"": DataQuality()}
USUAL = {
    "flows_out": 120, "flows_in": 80, "bytes_out": 1_000_000, "bytes_in": 2_000_000, "packets_out": 2_500,
    "packets_in": 3_000, "peers_out": 12, "ports_out": 3, "failed_out": 1, "dns_queries": 30, "dns_failures": 2,
}  # fmt: skip
Sums = npt.NDArray[np.int64]
Change = Callable[[int, dict[str, float]], None]
Item = tuple[str, Sums]


def nothing(_minute: int, _level: dict[str, float]) -> None:
    """Change no level."""


def generated(minutes: int, change: Change = nothing, seed: int = 1, swing: float = 0.0) -> Sums:
    """Return rows of one workload, (minutes, len(SUMS)): usual levels with noise, a daily swing, and a change."""
    random = np.random.default_rng(seed)
    out = np.zeros((minutes, len(SUMS)), np.int64)
    for minute in range(minutes):
        level: dict[str, float] = dict(USUAL)
        common = random.normal(0, 0.12) + swing * np.sin(2 * np.pi * minute / 1440)
        for name in level:
            if name not in ("peers_out", "ports_out"):
                level[name] *= np.exp(common + random.normal(0, 0.08))
        change(minute, level)
        out[minute] = [int(level[name]) for name in SUMS]
    return out


def view(minute: int, rows: Sequence[Item], suspects: frozenset[str] = frozenset(),
         identities: IdentityTable | None = None) -> TickView:  # fmt: skip
    ordered = sorted(rows, key=lambda r: pack(r[0]))
    columns: dict[str, npt.NDArray[np.generic]] = {
        "address": np.frombuffer(b"".join(pack(ip) for ip, _ in ordered), np.uint8).reshape(-1, 16),
        "node": np.array(["n1"] * len(ordered)),
        "minute": np.full(len(ordered), START + 60 * (minute + 1), np.int64),
    }
    for place, name in enumerate(SUMS):
        columns[name] = np.array([sums[place] for _, sums in ordered], np.int64)
    return TickView(
        {}, IdentityTable() if identities is None else identities, QUALITY, WorkloadRows(columns), suspects=suspects
    )


def run(model: TrafficAnomaly, rows: Sums, ip: str = "10.0.0.5", first: int = 0) -> list[tuple[int, Finding]]:
    """Feed one workload's minutes; return findings with the minute in which they came."""
    found = []
    for minute, sums in enumerate(rows, first):
        found += [(minute, f) for f in model.evaluate(view(minute, [(ip, sums)]))]
    return found


def step(at: int, until: int, **factors: float) -> Change:
    def change(minute: int, level: dict[str, float]) -> None:
        if at <= minute < until:
            for name, factor in factors.items():
                level[name] *= factor

    return change


def test_is_silent_on_ordinary_traffic_with_a_daily_swing() -> None:
    model = TrafficAnomaly()
    rows = [generated(1440, seed=seed, swing=0.3 * seed) for seed in range(4)]
    for minute in range(1440):
        assert model.evaluate(view(minute, [(f"10.0.0.{i}", rows[i][minute]) for i in range(4)])) == []


def test_is_silent_in_its_warm_up() -> None:
    assert run(TrafficAnomaly(), generated(10, step(4, 10, bytes_out=50.0))) == []


def test_finds_eightfold_upload_and_names_it() -> None:
    found = run(TrafficAnomaly(), generated(120, step(90, 120, bytes_out=8.0)))
    minute, first = found[0]
    assert minute == 92  # the third odd window
    assert (first.detector, first.kind, first.subject, first.severity) == (
        "traffic_anomaly", "traffic_anomaly", "10.0.0.5", "medium",
    )  # fmt: skip
    values = {e.name: e for e in first.evidence}
    assert first.evidence[0].name in ("bytes_out", "bytes_ratio")
    out = values["bytes_out"]
    assert out.limit is not None
    assert values["usual_bytes_out"].value < out.limit < out.value
    assert 0.7e6 < values["usual_bytes_out"].value < 1.4e6
    z = values["robust_z"]
    assert z.limit is not None
    assert z.value > z.limit
    assert [e.ip for e in first.attackers] == ["10.0.0.5"]
    assert first.victims == ()
    assert "T1048" in first.techniques
    assert first.tick - first.started == 180
    assert "flows_in" not in values


def test_finds_a_new_fan_out_from_the_sixteenth_minute_on() -> None:
    change = step(20, 30, peers_out=40.0, flows_out=5.0, failed_out=400.0)
    minute, first = run(TrafficAnomaly(), generated(30, change))[0]
    assert minute == 22
    assert {"peers_out", "failed_share"} & {e.name for e in first.evidence}
    assert "T1046" in first.techniques


def test_what_is_done_to_a_workload_makes_it_the_victim() -> None:
    _, first = run(TrafficAnomaly(), generated(120, step(90, 120, flows_in=60.0, packets_in=60.0, bytes_in=60.0)))[0]
    assert first.attackers == ()
    assert [e.ip for e in first.victims] == ["10.0.0.5"]


def test_a_fall_is_no_attack() -> None:
    silence = dict.fromkeys(USUAL, 0.01)
    assert run(TrafficAnomaly(), generated(150, step(90, 150, **silence))) == []


@pytest.mark.parametrize(
    ("odd", "fires"), [((90,), False), ((90, 92), False), ((90, 92, 94), True), ((90, 93, 96), False)]
)
def test_needs_three_of_five_windows(odd: tuple[int, ...], fires: bool) -> None:
    def change(minute: int, level: dict[str, float]) -> None:
        if minute in odd:
            level["bytes_out"] *= 20

    assert bool(run(TrafficAnomaly(), generated(110, change))) is fires


def test_minutes_without_rows_count_as_ordinary() -> None:
    model = TrafficAnomaly()
    rows = generated(100, step(90, 100, bytes_out=20.0))
    assert run(model, rows[:92]) == []
    assert run(model, rows[92:93], first=97) == []
    assert len(run(model, rows[93:95], first=98)) == 1


def test_an_attack_is_not_learned_so_it_is_still_found_an_hour_later() -> None:
    found = run(TrafficAnomaly(), generated(200, step(90, 200, bytes_out=8.0)))
    assert {m for m, _ in found} >= set(range(95, 190))
    assert all(800_000 < e.value < 1_300_000 for _, f in found for e in f.evidence if e.name == "usual_bytes_out")


def test_a_level_that_stays_is_accepted_after_patience() -> None:
    config = TrafficAnomalyConfig(patience=30)
    found = run(TrafficAnomaly(config), generated(300, step(90, 300, bytes_out=8.0)))
    last = max(m for m, _ in found)
    assert 118 <= last <= 150


def test_a_window_that_a_rule_fired_on_is_not_learned() -> None:
    rows = generated(100, step(30, 100, bytes_out=2.2))

    def usual(suspected: bool) -> float:
        model = TrafficAnomaly()
        for minute, sums in enumerate(rows):
            named = frozenset({"10.0.0.5"} if suspected and minute >= 30 else ())
            model.evaluate(view(minute, [("10.0.0.5", sums)], named))
        state = model.snapshot()
        assert not suspected or state["store.seen"].tolist() == [30]
        ring = state["store.ring"][0]
        return float(np.median(np.expm1(ring[: min(64, int(state["store.seen"][0])), SUMS.index("bytes_out")])))

    assert usual(suspected=True) < 1.3e6
    assert usual(suspected=False) > 1.5e6


def test_a_slow_ramp_is_found_by_the_frozen_reference() -> None:
    def change(minute: int, level: dict[str, float]) -> None:
        factor = 1.007 ** max(0, min(minute, 700) - 100)
        for name in ("bytes_out", "packets_out"):
            level[name] *= factor

    found = run(TrafficAnomaly(), generated(800, change))
    assert found
    minute, first = found[0]
    assert 400 < minute < 700
    assert first.severity == "low"
    assert "crept" in first.summary
    crept, reference = first.evidence[:2]
    assert (crept.name, reference.name) in {(n, f"reference_{n}") for n in ("bytes_out", "packets_out")}
    assert crept.limit is not None
    assert crept.value > crept.limit > 15 * reference.value


def test_replicas_share_a_baseline() -> None:
    def pod(name: str, ip: str, since: int) -> InventoryObject:
        return InventoryObject(
            uid=name, kind="Pod", name=name, namespace="shop", ips=(ip,), workload="Deployment/web", node="n1",
            valid_from=since,
        )  # fmt: skip

    table = IdentityTable([pod("web-1", "10.0.0.5", 0), pod("web-2", "10.0.0.6", START + 60 * 50)])
    rows = generated(100, step(90, 100, bytes_out=8.0))
    model = TrafficAnomaly()
    found: list[Finding] = []
    for minute, sums in enumerate(rows):
        items = [("10.0.0.5", sums), ("10.0.0.6", sums + 1)] if minute >= 50 else [("10.0.0.5", sums)]
        found += model.evaluate(view(minute, items, identities=table))
    assert found[0].subject == "shop/Deployment/web"
    assert [e.pod for e in found[0].attackers] == ["web-2", "web-1"]
    assert found[0].tick == START + 60 * 93


def test_outside_addresses_are_no_workloads() -> None:
    outside = InventoryObject(uid="r", kind="Range", name="internet", ips=("0.0.0.0/0",), role="external", valid_from=0)
    model = TrafficAnomaly()
    model.evaluate(view(0, [("198.51.100.7", generated(1)[0])], identities=IdentityTable([outside])))
    assert len(model.snapshot()["store.last"]) == 0


def test_a_restored_model_says_the_same_to_the_byte() -> None:
    data = [generated(300, step(260, 300, bytes_out=8.0, peers_out=20.0), seed=s, swing=0.5) for s in range(6)]

    def minute_of(i: int) -> TickView:
        suspects = frozenset({"10.0.1.3"} if i % 50 < 5 else ())
        return view(i, [(f"10.0.1.{s}", rows[i]) for s, rows in enumerate(data)], suspects)

    straight = TrafficAnomaly()
    expected = [f.encode() for i in range(300) for f in straight.evaluate(minute_of(i))]
    assert len(expected) > 6
    model, said = TrafficAnomaly(), []
    for i in range(300):
        if i % 67 == 0 or i == 261:
            state = {name: values.copy() for name, values in model.snapshot().items()}
            assert all(v.dtype.kind in "iuf" for v in state.values())
            model = TrafficAnomaly()
            model.restore(state)
        said += [f.encode() for f in model.evaluate(minute_of(i))]
    assert said == expected
    end, same = model.snapshot(), straight.snapshot()
    assert sorted(end) == sorted(same)
    for name, values in same.items():
        np.testing.assert_array_equal(values, end[name], err_msg=name)


def test_same_input_same_output() -> None:
    rows = generated(150, step(90, 150, bytes_out=8.0))
    first, second = (run(TrafficAnomaly(), rows) for _ in range(2))
    assert [f.encode() for _, f in first] == [f.encode() for _, f in second]


def test_memory_is_bounded_and_what_is_let_go_is_counted() -> None:
    model = TrafficAnomaly(TrafficAnomalyConfig(workloads=64))
    sums = generated(1)[0]
    for wave in range(6):
        for minute in range(2):
            items = [(f"10.{wave}.0.{i}", sums) for i in range(40)]
            model.evaluate(view(wave * 20 + minute, items))
    state = model.snapshot()
    assert len(state["store.last"]) <= 64
    evicted, refused = state["store.counters"].tolist()
    assert evicted > 0
    assert evicted + refused >= 6 * 40 - 64
    assert model.shed == refused


def test_a_flood_of_new_addresses_does_not_push_out_those_that_are_heard() -> None:
    model = TrafficAnomaly(TrafficAnomalyConfig(workloads=32))
    sums = generated(60)
    for minute in range(60):
        model.evaluate(view(minute, [("10.0.0.5", sums[minute])]))
        model.evaluate(view(minute, [(f"10.9.{minute}.{i}", sums[minute]) for i in range(40)]))
    names = bytes(model.snapshot()["store.names"]).decode()
    assert '"10.0.0.5"' in names


def test_a_window_that_comes_after_a_later_one_is_dropped_and_counted() -> None:
    model = TrafficAnomaly()
    rows = generated(3)
    run(model, rows)
    assert run(model, rows[1:2], first=1) == []
    assert model.shed == 1


def test_no_rows_no_findings() -> None:
    assert TrafficAnomaly().evaluate(TickView({}, IdentityTable(), QUALITY)) == []


def test_limits_are_checked() -> None:
    with pytest.raises(ValidationError):
        TrafficAnomalyConfig(persistence=6)
    assert TrafficAnomalyConfig().model_dump() == {
        "enabled": True, "warm_up": 10, "limit": 6.0, "persistence": 3, "tail_margin": 1.25, "first_week_rise": 20.0,
        "rise": 4.0, "patience": 120, "workloads": 4096, "seed": 0,
    }  # fmt: skip
