"""One attack is one incident, and what has nothing to do with each other stays apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.incidents import IncidentBook
from alerts.stages import stages_of
from schemas.alert import Alert, AlertRecord
from schemas.finding import Endpoint
from schemas.incident import Incident
from tests.unit.alerts.builders import alert, mark

RESOLVER = Endpoint(ip="10.0.0.53", roles=("resolver",))
FLOOD: dict[str, Any] = {"kind": "syn_flood", "detector": "syn_flood", "techniques": ("T1498.001",), "spoofable": True}


def incidents(alerts: Iterable[Alert]) -> list[Incident]:
    """Return the last revision of each incident that went on (those that another took over are left out)."""
    book = IncidentBook()
    records: list[AlertRecord] = [*alerts, mark(10_000)]
    out = [i for record in records for i in book.add(record)]
    last = {i.id: i for i in out if isinstance(i, Incident)}
    return [i for i in last.values() if "goes on as" not in i.summary]


def members(alerts: Iterable[Alert]) -> list[set[str]]:
    return sorted(({a.id for a in i.alerts} for i in incidents(alerts)), key=sorted)


def test_a_run_of_a_scanner_is_one_incident_with_its_stages() -> None:
    run = [alert(f"s{i}", 100 + i, victim=f"10.0.1.{i}", spoofable=i % 2 == 0) for i in range(40)]
    sweep = alert("w", 105, kind="port_scan_horizontal", victim="10.0.1.7", techniques=("T1018",))
    guess = alert("g", 160, kind="brute_force_ssh", victim="10.0.1.9", techniques=("T1110.001",), severity="high",
                  detected_at="2026-01-01T00:01:00.000Z", ended_at="2026-01-01T00:02:00.000Z")  # fmt: skip
    (one,) = incidents([*run, sweep, guess])
    assert one.alerts_total == 42
    assert [(s.stage, s.alerts) for s in one.stages] == [("reconnaissance", 41), ("access", 1)]
    assert (one.stages[1].first_at, one.stages[1].last_at) == ("2026-01-01T00:01:00.000Z", "2026-01-01T00:02:00.000Z")
    assert [a.detected_at for a in one.alerts] == sorted(a.detected_at for a in one.alerts)


def test_a_spoofed_flood_is_one_incident_whatever_it_is_called() -> None:
    many = tuple(Endpoint(ip=f"192.0.2.{i}") for i in range(20))
    flood = alert("a", 100, attackers=many, **FLOOD)
    also = alert("b", 101, attackers=many[5:], **{**FLOOD, "kind": "connection_flood", "detector": "connection_flood"})
    assert members([flood, also]) == [{"a", "b"}]


def test_a_distributed_flood_by_proven_sources_is_one() -> None:
    bots = [alert(f"b{i}", 100, attacker=f"198.51.100.{i}", kind="http_flood", techniques=("T1499",)) for i in range(9)]
    assert len(members(bots)) == 1


def test_a_scan_under_decoys_is_one() -> None:
    decoys = [alert(f"d{i}", 100, attacker=f"203.0.113.{i}", spoofable=True) for i in range(9)]
    real = alert("real", 101)
    assert len(members([*decoys, real])) == 1
    assert len(members([alert("real", 99), *decoys])) == 1


def test_a_popular_victim_does_not_glue_its_attackers_together() -> None:
    scan = alert("a", 100, attacker="10.0.0.1")
    guess = alert("b", 101, attacker="10.0.0.2", kind="brute_force", techniques=("T1110",))
    leak = alert("c", 102, attacker="10.0.0.3", kind="dns_tunnel", techniques=("T1048",))
    assert members([scan, guess, leak]) == [{"a"}, {"b"}, {"c"}]


@pytest.mark.parametrize("first", [100, 102])
def test_a_resolver_that_seems_to_attack_is_not_its_clients_incident(first: int) -> None:
    tunnel = alert("a", first, attacker="10.0.0.1", victims=(RESOLVER,), kind="dns_tunnel", techniques=("T1048",))
    forwards = alert("b", 101, attackers=(RESOLVER,), victim="8.8.8.8", kind="dns_tunnel", techniques=("T1048",))
    assert members([tunnel, forwards]) == [{"a"}, {"b"}]


def test_behind_a_shared_address_only_the_same_deed_is_the_same_actor() -> None:
    gateway = Endpoint(ip="10.0.9.1", roles=("nat_gateway",))
    records = [alert("a", 100, attackers=(gateway,)), alert("b", 101, attackers=(gateway,), victim="10.0.0.6"),
               alert("c", 102, attackers=(gateway,))]  # fmt: skip
    assert members(records) == [{"a", "c"}, {"b"}]


def test_a_forged_address_makes_no_two_incidents_one() -> None:
    one = alert("a", 100, attacker="10.0.0.1", victim="10.0.0.2")
    two = alert("b", 101, attacker="10.0.0.3", victim="10.0.0.4")
    forged = alert("c", 102, attacker="10.0.0.1", victim="10.0.0.4", spoofable=True)
    assert members([one, two, forged]) == [{"a", "c"}, {"b"}]


def test_a_victim_that_attacks_goes_on_the_latest_of_its_incidents() -> None:
    first = alert("a", 100, attacker="10.0.0.1", victim="10.0.0.5")
    second = alert("b", 150, attacker="10.0.0.2", victim="10.0.0.5", techniques=("T1110",))
    beyond = alert("c", 200, attacker="10.0.0.5", victim="10.0.0.8")
    assert members([first, second, beyond]) == [{"a"}, {"b", "c"}]


def test_a_flood_that_nobody_can_be_blamed_for_and_the_first_who_can() -> None:
    flood = alert("a", 100, attackers=(), **FLOOD)
    assert members([flood, alert("b", 101)]) == [{"a", "b"}]
    assert members([alert("b", 99), flood]) == [{"a", "b"}]


@pytest.mark.parametrize(
    ("techniques", "stages"),
    [((), ()), (("T1046", "T1498.002"), ("reconnaissance", "impact")), (("T9999", "nonsense"), ()),
     (("T1048", "T1071.004"), ("command_and_control", "exfiltration")), (("T1021.004",), ("lateral_movement",))],
)  # fmt: skip
def test_stages_follow_from_techniques(techniques: tuple[str, ...], stages: tuple[str, ...]) -> None:
    assert stages_of(techniques) == stages


_TECHNIQUES = st.sampled_from([("T1046",), ("T1110",), ("T1498",), ("T1048",), ()])


@st.composite
def attacks(draw: st.DrawFn, network: int, prefix: str) -> list[Alert]:
    """Return alerts within one network: nobody outside is named."""
    address = st.integers(1, 4).map(lambda n: f"10.{network}.0.{n}")
    return [
        alert(f"{prefix}{n}", draw(st.integers(0, 300)), attacker=draw(st.none() | address), victim=draw(address),
              techniques=draw(_TECHNIQUES), spoofable=draw(st.booleans()), severity="high")
        for n in range(draw(st.integers(1, 6)))
    ]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(one=attacks(1, "a"), two=attacks(2, "b"))
def test_attacks_that_share_nobody_share_no_incident(one: list[Alert], two: list[Alert]) -> None:
    assert all(len({identity[0] for identity in ids}) == 1 for ids in members([*one, *two]))
    assert members([*one, *two]) == sorted([*members(one), *members(two)], key=sorted)


@settings(max_examples=150, deadline=None)
@given(noise=attacks(1, "a"), times=st.lists(st.integers(0, 500), min_size=2, max_size=8), data=st.data())
def test_a_proven_attacker_has_one_incident(noise: list[Alert], times: list[int], data: st.DataObject) -> None:
    victims = st.integers(1, 4).map(lambda n: f"10.1.0.{n}")
    deeds = [alert(f"x{n}", at, attacker="172.16.0.1", victim=data.draw(victims), techniques=data.draw(_TECHNIQUES))
             for n, at in enumerate(times)]  # fmt: skip
    assert sum(any(i[0] == "x" for i in ids) for ids in members([*noise, *deeds])) == 1


@settings(max_examples=100, deadline=None)
@given(order=st.permutations(range(6)), kind=st.sampled_from([("T1046",), ("T1110",), ("T1048",)]))
def test_proven_attackers_of_one_victim_stay_apart(order: list[int], kind: tuple[str, ...]) -> None:
    one_each = [alert(f"a{n}", 100 + at, attacker=f"172.16.0.{n}", techniques=kind) for at, n in enumerate(order)]
    assert members(one_each) == [{f"a{n}"} for n in range(6)]
