from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from alerts.incidents import IncidentBook
from alerts.sequence_groups import MAX_GROUPS, groups_of, means
from alerts.settings import AlertSettings, IncidentSettings, SequenceSettings
from schemas.alert import Alert, AlertRecord
from schemas.finding import Endpoint
from schemas.incident import Incident
from schemas.sequence import SequenceRule, SequenceType, Step
from schemas.word import iso_time
from tests.unit.alerts.builders import alert, mark

SCAN, GUESS, OUT = Step("scan", kinds=("scan",)), Step("guess", kinds=("guess",)), Step("out", kinds=("out",))
# A host is scanned and guessed at, and then calls out: as victim, victim, attacker.
BREAK_IN = SequenceRule(
    "break_in", "temporal_ordered", (SCAN, GUESS, OUT),
    {"scan": ("victim",), "guess": ("victim",), "out": ("attacker",)}, 600, severity="critical",
)  # fmt: skip
ONE, TWO, HOST, OUTSIDE = "10.0.0.1", "10.0.0.2", "10.0.0.5", "198.51.100.9"


def event(kind: str, tick: int, attacker: str | None = ONE, victim: str | None = HOST, **fields: Any) -> Alert:
    identity = fields.pop("identity", f"{kind}-{tick}-{attacker}-{victim}")
    return alert(identity, tick, kind=kind, attacker=attacker, victim=victim,
                 **{"detected_at": iso_time(tick), "status": "closed", **fields})  # fmt: skip


def words(rules: Iterable[SequenceRule], records: Iterable[AlertRecord], end: int = 20_000) -> list[Alert | Incident]:
    book = IncidentBook(sequences=list(rules))
    return [word for record in [*records, mark(end)] for word in book.add(record)]


def found(rule: SequenceRule, *records: Alert) -> list[Alert]:
    """Return the first revision of each alert of a rule."""
    return [w for w in words([rule], records) if isinstance(w, Alert) and w.revision == 1]


def counting(kind: SequenceType, at_least: int, **fields: Any) -> SequenceRule:
    return SequenceRule("many", kind, (SCAN,), {"scan": ("attacker",)}, 600, at_least, **fields)


def test_the_victim_that_becomes_the_attacker_completes_the_sequence() -> None:
    records = [event("scan", 100), event("guess", 200, TWO), event("out", 300, HOST, OUTSIDE)]
    (one,) = found(BREAK_IN, *records)
    assert (one.detector, one.rule, one.kind, one.severity) == ("sequence", "break_in", "sequence", "critical")
    assert (one.tick, one.subject, one.cluster, one.status) == (300, HOST, "c1", "open")
    assert [e.ip for e in one.attackers] == [ONE, TWO, HOST]
    assert [e.ip for e in one.victims] == [HOST, OUTSIDE]
    assert [(e.name, e.value, e.window) for e in one.evidence] == [("scan", 1, 600), ("guess", 1, 600), ("out", 1, 600)]
    assert one.explanation == (
        f"rule break_in: scan (scan), then guess (guess), then out (out) about {HOST} within 600 s."
    )


@pytest.mark.parametrize("order", [("guess", "scan"), ("scan", "scan")])
def test_out_of_order_or_incomplete_is_nothing_but_order_may_not_matter(order: tuple[str, str]) -> None:
    records = [event(kind, 100 + 50 * n) for n, kind in enumerate(order)] + [event("out", 300, HOST, OUTSIDE)]
    assert found(BREAK_IN, *records) == []
    temporal = SequenceRule("any", "temporal", (SCAN, GUESS), {"scan": ("victim",), "guess": ("victim",)}, 600)
    assert len(found(temporal, *records)) == (1 if "guess" in order else 0)


def test_the_same_second_has_no_order() -> None:
    pair = SequenceRule("pair", "temporal_ordered", (SCAN, GUESS), {"scan": ("victim",), "guess": ("victim",)}, 60)
    assert found(pair, event("scan", 100), event("guess", 100)) == []
    assert len(found(pair, event("scan", 100), event("guess", 101))) == 1


@pytest.mark.parametrize(("gap", "complete"), [(600, True), (601, False)])
def test_the_time_span_is_counted_from_the_end_of_an_alert(gap: int, complete: bool) -> None:
    pair = SequenceRule("pair", "temporal_ordered", (SCAN, GUESS), {"scan": ("victim",), "guess": ("victim",)}, 600)
    lasting = [event("scan", 100, status="open", identity="s"), event("scan", 5000, revision=2, identity="s",
                                                                      detected_at=iso_time(100))]  # fmt: skip
    assert bool(found(pair, *lasting, event("guess", 5000 + gap))) is complete


def test_an_alert_that_never_closes_counts_as_ended_after_the_patience() -> None:
    pair = SequenceRule("pair", "temporal", (SCAN, GUESS), {"scan": ("victim",), "guess": ("victim",)}, 600)
    assert len(found(pair, event("scan", 100, status="open"), event("guess", 7900))) == 1
    assert found(pair, event("scan", 100, status="open"), event("guess", 7901)) == []


def test_others_do_not_complete_it() -> None:
    assert found(BREAK_IN, event("scan", 100), event("guess", 200, victim=TWO), event("out", 300, HOST, OUTSIDE)) == []
    clusters = [event("scan", 100), event("guess", 200, cluster="c2"), event("out", 300, HOST, OUTSIDE)]
    assert found(BREAK_IN, *clusters) == []


def test_alerts_and_values_are_counted() -> None:
    scans = [event("scan", 100 + n, victim=f"10.0.1.{n % 3}") for n in range(5)]
    (one,) = found(counting("event_count", 5), *scans)
    assert (one.tick, one.subject, one.evidence[0].name, one.evidence[0].value, one.evidence[0].limit) == (
        104, ONE, "alerts", 5, 4,
    )  # fmt: skip
    assert found(counting("event_count", 6), *scans) == []
    (two,) = found(counting("value_count", 3, counted="victim"), *scans)
    assert (two.tick, two.evidence[0].name, two.evidence[0].value) == (102, "different_victim", 3)
    assert found(counting("value_count", 4, counted="victim"), *scans) == []
    assert found(counting("value_count", 2, counted="kind"), *scans) == []


def test_a_sequence_lives_like_any_alert_and_is_in_the_incident() -> None:
    records = [event("scan", 100), event("guess", 200), event("out", 300, HOST, OUTSIDE)]
    told = words([BREAK_IN], records)
    own = [w for w in told if isinstance(w, Alert)]
    assert [(a.revision, a.status, a.tick) for a in own] == [(1, "open", 300), (2, "closed", 900)]
    incidents = [w for w in told if isinstance(w, Incident)]
    assert len({i.id for i in incidents}) == 1
    last = incidents[-1]
    assert (last.severity, last.alerts_total) == ("critical", 4)
    assert "sequence" in {a.detector for a in last.alerts}
    assert [(s.stage, s.alerts) for s in last.stages] == [("reconnaissance", 3)]
    assert told.index(own[0]) < next(
        n for n, w in enumerate(told) if isinstance(w, Incident) and w.severity == "critical"
    )


def test_what_comes_back_on_the_topic_is_passed_over() -> None:
    records: list[AlertRecord] = [event("scan", 100), event("guess", 200), event("out", 300, HOST, OUTSIDE), mark(300)]
    book = IncidentBook(sequences=[BREAK_IN])
    (own,) = [w for record in records for w in book.add(record) if isinstance(w, Alert)]
    before = book.snapshot()
    assert book.add(own) == []
    assert book.snapshot() == before


def test_forged_sources_make_no_group_and_a_chain_is_as_proven_as_its_weakest_step() -> None:
    many = tuple(Endpoint(ip=f"192.0.2.{n}") for n in range(3))
    assert found(counting("event_count", 1), event("scan", 100, attackers=many, spoofable=True)) == []
    doubtful = [event("scan", 100, spoofable=True, confidence=0.6), event("guess", 200, confidence=0.9),
                event("out", 300, HOST, OUTSIDE)]  # fmt: skip
    (one,) = found(BREAK_IN, *doubtful)
    assert (one.spoofable, one.confidence) == (True, 0.6)
    (two,) = found(BREAK_IN, *doubtful, event("scan", 90, TWO))
    assert (two.spoofable, [e.ip for e in two.attackers]) == (False, [TWO, ONE, HOST])


def test_a_revision_may_newly_fit_and_no_longer_fit() -> None:
    grave = SequenceRule("grave", "event_count", (Step("any", severity="high"),), {"any": ("victim",)}, 60)
    low = event("scan", 100, severity="low", identity="s", status="open")
    (one,) = found(grave, low, event("scan", 150, severity="high", identity="s", revision=2, status="open"))
    assert one.tick == 150
    forged = event("scan", 100, identity="s", spoofable=True, status="open")
    cleared = event("scan", 110, attacker=None, identity="s", revision=2, status="open")
    two = counting("event_count", 2)
    assert len(found(two, forged, event("scan", 120))) == 1
    assert found(two, forged, cleared, event("scan", 120)) == []


def test_a_late_alert_is_said_with_the_next_tick() -> None:
    pair = SequenceRule("pair", "temporal", (SCAN, GUESS), {"scan": ("victim",), "guess": ("victim",)}, 600)
    book = IncidentBook(sequences=[pair])
    early: list[AlertRecord] = [event("scan", 100), mark(300)]
    assert [w for r in early for w in book.add(r) if isinstance(w, Alert)] == []
    late = event("guess", 250)
    assert not [w for w in book.add(late) if isinstance(w, Alert)]
    restored = IncidentBook(sequences=[pair])
    restored.restore(book.snapshot())
    for each in (book, restored):
        assert [w.tick for w in each.add(mark(301)) if isinstance(w, Alert)] == [301]


@pytest.mark.parametrize(
    ("step", "fits"),
    [
        (Step("s", detectors=("port_scan",)), True), (Step("s", detectors=("syn_flood",)), False),
        (Step("s", rules=("mine",)), False), (Step("s", kinds=("a", "port_scan_vertical")), True),
        (Step("s", techniques=("T1046",)), True), (Step("s", techniques=("T104",)), False),
        (Step("s", stages=("impact", "reconnaissance")), True), (Step("s", stages=("impact",)), False),
        (Step("s", severity="high"), False), (Step("s", kinds=("port_scan_vertical",), rules=("mine",)), False),
    ],
)  # fmt: skip
def test_what_a_step_means(step: Step, fits: bool) -> None:
    assert means(step, alert()) is fits
    mine = alert(rule="mine", techniques=("T1046.002",))
    assert means(Step("s", rules=("mine",), techniques=("T1046",)), mine)
    assert not means(Step("s", detectors=("port_scan",)), mine)


def test_groups_are_by_identity_and_bounded() -> None:
    web = Endpoint(ip="10.0.0.7", pod="web-1", namespace="shop", workload="Deployment/web", identity="known")
    one = alert(attackers=(web,), victims=tuple(Endpoint(ip=f"10.0.1.{n}") for n in range(20)))
    step = Step("s", kinds=("port_scan_vertical",))
    by = SequenceRule("r", "temporal", (step,), {"s": ("attacker_workload", "namespace")}, 60)
    assert groups_of(by, step, one) == [("c1", "shop/Deployment/web", "shop")]
    behind = web.model_copy(update={"service": "shop/front", "node": "n1"})
    pods = SequenceRule("r", "temporal", (step,), {"s": ("attacker_pod", "service", "node")}, 60)
    assert groups_of(pods, step, one) == []  # nobody knows its Service
    assert groups_of(pods, step, alert(attackers=(behind,))) == [("c1", "shop/web-1", "shop/front", "n1")]
    unknown = SequenceRule("r", "temporal", (step,), {"s": ("victim_pod",)}, 60)
    assert groups_of(unknown, step, one) == []
    wide = SequenceRule("r", "temporal", (step,), {"s": ("victim", "endpoint")}, 60)
    assert len(groups_of(wide, step, one)) == MAX_GROUPS


def test_memory_is_bounded_and_what_is_forgotten_is_counted() -> None:
    settings = AlertSettings(
        incidents=IncidentSettings(max_seen=10), sequences=SequenceSettings(max_alerts=16, max_clusters=2)
    )
    book = IncidentBook(settings, sequences=[counting("event_count", 900), BREAK_IN])
    for n in range(300):
        book.add(event("scan", 1000 + n, victim=f"10.0.{n // 250}.{n % 250}"))
        book.add(mark(1000 + n))
    assert book.sequences.counts.forgotten == 300 - 16
    for n in range(5):
        book.add(event("scan", 1400 + n, cluster=f"x{n}"))
    book.add(mark(1500))
    assert book.sequences.counts.strangers == 4
    book.add(mark(50_000))
    assert b"10.0.0." not in book.sequences.snapshot()
