"""Unusual DNS questions on generated ones: a day of habits is longer than any capture we could keep."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from detectors.base import TickView
from detectors.detect import DetectEngine
from detectors.models.dns_anomaly import DnsAnomaly
from detectors.models.windows import workload_name
from detectors.settings import EngineSettings
from detectors.snapshot import decode_state, encode_state
from detectors.tally import Tally, TallyRows
from schemas.addresses import pack
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from tests.event_rows import Node, Row, query
from tests.unit.detectors.one_detector import pod

START = 1_700_006_400 // 3600 * 3600
HOUR = 3600
A, TXT, NULL = 1, 16, 10
HABITS = [("cluster.local", A), ("example.com", A), ("example.net", A), ("shop.example", A), ("pay.example", A)]
Question = tuple[str, str, int]  # client, domain, type


def half(ip: str) -> tuple[int, int]:
    packed = pack(ip)
    return int.from_bytes(packed[:8]), int.from_bytes(packed[8:])


def inventory(third: int = 2) -> IdentityTable:
    return IdentityTable([pod(f"web-{third}-{n}", f"10.0.{third}.{n}", "Deployment/web") for n in (1, 2, 3)])


def view(at: int, asked: Iterable[Question], identities: IdentityTable) -> TickView:
    tick = START + at
    rows = {
        Tally("dns_domain", workload_name(identities, ip, tick) or ip, half(ip), half("10.0.0.53"), kind, zone): 1
        for ip, zone, kind in asked
    }
    return TickView({}, identities, {"": DataQuality()}, tallies=TallyRows(tick, tuple(sorted(rows.items()))))


def lived(model: DnsAnomaly, identities: IdentityTable, client: str = "10.0.2.1", hours: int = 26) -> list[Finding]:
    found = []
    for hour in range(hours):
        found += model.evaluate(view(hour * HOUR, [(client, *habit) for habit in HABITS], identities))
    return found


def strange(count: int, kind: int = A, client: str = "10.0.2.1") -> list[Question]:
    return [(client, f"other{n}.com", kind) for n in range(count)]


def test_habits_are_silent_and_new_domains_are_told_low() -> None:
    model, known = DnsAnomaly(), inventory()
    assert lived(model, known) == []
    (found,) = model.evaluate(view(26 * HOUR, strange(4), known))
    assert (found.subject, found.severity, found.spoofable) == ("shop/Deployment/web", "low", True)
    assert [e.ip for e in found.attackers] == ["10.0.2.1"]
    values = {e.name: e for e in found.evidence}
    assert values["surprise"].value > (values["surprise"].limit or 0) >= 18
    assert (values["new_domains"].value, values["new_record_types"].value) == (4, 0)
    assert "'other0.com'" in found.summary


def test_new_types_of_records_make_it_medium() -> None:
    model, known = DnsAnomaly(), inventory()
    lived(model, known)
    (found,) = model.evaluate(view(26 * HOUR, [*strange(2, TXT), *strange(1, NULL)], known))
    assert found.severity == "medium"


def test_one_new_domain_is_no_anomaly() -> None:
    model, known = DnsAnomaly(), inventory()
    lived(model, known)
    assert model.evaluate(view(26 * HOUR, strange(1), known)) == []


def test_is_silent_while_it_learns() -> None:
    model, known = DnsAnomaly(), inventory()
    lived(model, known, hours=20)
    assert model.evaluate(view(20 * HOUR, strange(16), known)) == []


def test_a_rollout_is_no_anomaly() -> None:
    model = DnsAnomaly()
    lived(model, inventory())
    asked = [(f"10.0.88.{n}", *habit) for n in (1, 2, 3) for habit in HABITS]
    assert model.evaluate(view(26 * HOUR, asked, inventory(88))) == []


def test_who_browses_surprises_nobody() -> None:
    model, known, found = DnsAnomaly(), inventory(), []
    for hour in range(60):
        found += model.evaluate(view(hour * HOUR, [("10.0.2.1", f"site{hour}x{n}.com", A) for n in range(6)], known))
    assert found == []


def test_a_restored_model_says_the_same_to_the_byte() -> None:
    whole, known = DnsAnomaly(), inventory()
    lived(whole, known)
    again = DnsAnomaly()
    again.restore(decode_state(encode_state(whole.snapshot())))
    for at, number in ((0, 2), (100, 4), (4000, 5)):
        results = [m.evaluate(view(26 * HOUR + at, strange(number), known)) for m in (whole, again)]
        assert results[0] == results[1]
    assert encode_state(again.snapshot()) == encode_state(whole.snapshot())


# --- what a node tells ---


def told(rows: list[Row]) -> list[tuple[str, str, int]]:
    engine, node, out = DetectEngine(0, EngineSettings(), [DnsAnomaly()], IdentityTable()), Node(), []
    for message in (node.second(1, dns=rows), node.second(2, dns=rows), node.second(3)):
        for rollup in engine.feed([message]).rollups:
            if "tally" in rollup.batches:
                out += [(r["subject"], r["object"], r["port"]) for r in rollup.batches["tally"].to_pylist()]
    return sorted(out)


def test_domains_are_told_once_by_client_and_type() -> None:
    rows = [query("10.0.0.1", "a.example.com"), query("10.0.0.1", "b.example.com", qtype=28),
            query("10.0.0.1", "c.example.com", qtype=16), query("10.0.0.2", "web.shop.svc.cluster.local")]  # fmt: skip
    assert told(rows) == [
        ("10.0.0.1", "example.com", A), ("10.0.0.1", "example.com", TXT), ("10.0.0.2", "cluster.local", A),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["printer", "x.invalid1"])
def test_what_belongs_to_no_domain_is_not_told(name: str) -> None:
    assert told([query("10.0.0.1", name)]) == []


def test_a_forwarder_and_strangers_are_not_told_of() -> None:
    forwards = [query("10.0.0.9", "www.example.com", server="10.0.0.1"), query("10.0.0.1", "www.example.com")]
    assert told(forwards) == [("10.0.0.9", "example.com", A)]
    assert told([query("93.184.0.1", "www.example.com")]) == []
