from __future__ import annotations

from collections.abc import Iterable

import pytest

from alerts.incidents import MAX_SENDERS, IncidentBook
from alerts.settings import AlertSettings, IncidentSettings
from alerts.snapshots import SnapshotError
from schemas.alert import CONTAINMENT_OVERDUE, AlertRecord
from schemas.finding import Endpoint
from schemas.incident import Incident
from tests.unit.alerts.builders import alert, mark


def told(book: IncidentBook, records: Iterable[AlertRecord]) -> list[Incident]:
    return [word for record in records for word in book.add(record) if isinstance(word, Incident)]


def said(incidents: Iterable[Incident]) -> list[tuple[int, int, str, int]]:
    return [(i.tick, i.revision, i.status, i.alerts_total) for i in incidents]


def test_alerts_wait_until_the_slowest_sender_has_passed_their_tick() -> None:
    book = IncidentBook()
    assert told(book, [alert(tick=100), mark(100, "detect/0", 3), mark(500, "correlate/0", 3)]) == []
    assert told(book, [mark(99, "detect/1", 3)]) == []
    assert (book.waiting, book.closed_tick) == (1, 99)
    assert said(told(book, [mark(100, "detect/1", 3)])) == [(100, 1, "open", 1)]
    assert (book.waiting, book.closed_tick) == (0, 100)


def test_a_shared_attacker_or_victim_or_both_sides_in_turn_join() -> None:
    book = IncidentBook()
    scan = alert("a1", 100, attacker="10.0.0.1", victim="10.0.0.2", kind="port_scan_vertical")
    guess = alert("a2", 200, attacker="10.0.0.1", victim="10.0.0.3", kind="brute_force", techniques=("T1110",))
    beyond = alert("a3", 300, attacker="10.0.0.3", victim="10.0.0.4", kind="dns_tunnel", severity="high")
    other = alert("a4", 300, attacker="10.9.9.9", victim="10.9.9.8")
    out = told(book, [scan, guess, beyond, other, mark(300)])
    assert len({i.id for i in out}) == 2
    last = next(i for i in out if i.alerts_total == 3)
    assert (last.revision, last.severity, last.techniques) == (3, "high", ("T1046", "T1110"))
    assert last.attackers == ("10.0.0.1", "10.0.0.3")
    assert last.victims == ("10.0.0.2", "10.0.0.3", "10.0.0.4")
    assert [a.id for a in last.alerts] == ["a1", "a2", "a3"]
    assert last.summary == (
        "port_scan_vertical by 10.0.0.1, then brute_force by 10.0.0.1, then dns_tunnel by 10.0.0.3, "
        "against 10.0.0.2, 10.0.0.3 and 1 more: 3 alerts in 3 min, severity high."
    )


def test_an_attacker_does_not_answer_for_a_flood_from_forged_addresses() -> None:
    scan = alert("a1", 100, attacker="10.0.0.1", victim="10.0.0.2", kind="port_scan_vertical")
    flood = alert("a2", 110, attacker="198.51.100.1", victim="10.0.0.2", kind="syn_flood")
    forged = flood.model_copy(update={"spoofable": True, "attackers": ()})
    last = told(IncidentBook(), [scan, forged, mark(110)])[-1]
    assert last.alerts_total == 2
    assert "port_scan_vertical by 10.0.0.1, then syn_flood from addresses that could be forged" in last.summary


def test_clusters_do_not_mix() -> None:
    out = told(IncidentBook(), [alert("a1"), alert("a2", cluster="c2"), mark(100)])
    assert sorted(i.cluster for i in out) == ["c1", "c2"]


def test_an_incident_closes_a_window_after_its_last_alert_has_ended() -> None:
    book = IncidentBook()
    records: list[AlertRecord] = [
        alert(tick=100),
        alert(tick=3000, revision=2, status="closed"),
        mark(3599),
        mark(3600),
    ]
    assert said(told(book, records)) == [(100, 1, "open", 1), (3600, 2, "closed", 1)]
    assert book.open_count == 0
    again = told(book, [alert("a2", tick=3601), mark(3601)])
    assert said(again) == [(3601, 1, "open", 1)]


def test_an_alert_at_the_last_tick_of_the_window_still_joins() -> None:
    records = [
        alert(tick=100, status="closed"),
        alert("a2", tick=700),
        alert("a3", tick=701, victim="10.1.1.1", attacker=None),
    ]
    assert said(told(IncidentBook(), [*records, mark(701)])) == [
        (100, 1, "open", 1), (700, 2, "open", 2), (701, 1, "open", 1),
    ]  # fmt: skip


def test_an_alert_that_is_never_closed_does_not_keep_its_incident_open_for_ever() -> None:
    assert said(told(IncidentBook(), [alert(tick=100), mark(90_000)])) == [(100, 1, "open", 1), (7300, 2, "closed", 1)]


def test_a_revision_that_changes_nothing_of_the_incident_is_not_told() -> None:
    book = IncidentBook()
    assert said(told(book, [alert(), alert(tick=150, revision=2), mark(150)])) == [(100, 1, "open", 1)]
    assert said(told(book, [alert(tick=160, revision=3, severity="critical"), mark(160)])) == [(160, 2, "open", 1)]


def test_a_slight_alert_joins_but_does_not_open() -> None:
    book = IncidentBook()
    assert told(book, [alert("a1", severity="low"), mark(100)]) == []
    out = told(book, [alert("a2", 110), alert("a3", 120, severity="info"), mark(120)])
    assert said(out) == [(110, 1, "open", 1), (120, 2, "open", 2)]
    assert said(told(book, [alert("a1", 130, 2, severity="high"), mark(130)])) == [(130, 3, "open", 3)]


def test_an_alert_that_links_two_incidents_makes_them_one() -> None:
    book = IncidentBook()
    one = alert("a1", 100, attacker="10.0.0.1", victim="10.0.0.2")
    two = alert("a2", 101, attacker="10.0.0.3", victim="10.0.0.4", severity="high")
    both = (Endpoint(ip="10.0.0.1"), Endpoint(ip="10.0.0.3"))
    link = alert("a3", 102, attackers=both, victim="10.0.0.9")
    first, second, *rest = told(book, [one, two, link, mark(102)])
    closed, home = sorted(rest, key=lambda i: i.id != second.id)
    assert (closed.id, closed.status, closed.revision) == (second.id, "closed", 2)
    assert closed.summary.endswith(f"It goes on as incident {first.id}.")
    assert (home.id, home.status, home.revision, home.alerts_total, home.severity) == (first.id, "open", 2, 3, "high")
    assert (book.open_count, book.counts.merged) == (1, 1)
    assert [i.alerts_total for i in told(book, [alert("a4", 103, attacker="10.0.0.4", victim=None), mark(103)])] == [4]
    ends = told(book, [mark(50_000)])
    assert said(ends) == [(7303, 4, "closed", 4)]


def test_forged_sources_neither_join_nor_are_named_as_attackers() -> None:
    many = tuple(Endpoint(ip=f"192.0.2.{i}") for i in range(20))
    flood = alert("a1", 100, victim="10.0.0.5", spoofable=True, attackers=many)
    framed = alert("a2", 101, attacker="192.0.2.1", victim="10.0.0.6")
    out = told(IncidentBook(), [flood, framed, mark(101)])
    assert len({i.id for i in out}) == 2
    assert out[0].attackers == ()


def test_a_scan_that_could_be_forged_still_joins_by_its_one_source() -> None:
    sweep = alert("a1", 100, attacker="10.0.0.9", victim="10.0.1.1", spoofable=True)
    scan = alert("a2", 130, attacker="10.0.0.9", victim="10.0.2.2", spoofable=True)
    assert len({i.id for i in told(IncidentBook(), [sweep, scan, mark(130)])}) == 1


def test_an_alert_about_no_endpoint_stands_for_its_subject() -> None:
    book = IncidentBook()
    records = [alert(f"a{i}", 100 + i, attacker=None, victim=None, subject=s) for i, s in enumerate(("x", "y", "x"))]
    assert [i.alerts_total for i in told(book, [*records, mark(200)])] == [1, 1, 2]


def test_repeats_change_nothing_wherever_they_come() -> None:
    book = IncidentBook()
    records: list[AlertRecord] = [alert(), alert(), mark(100), alert("a2", 105), mark(110)]
    assert said(told(book, records)) == [(100, 1, "open", 1), (105, 2, "open", 2)]
    assert told(book, [alert(), mark(100), alert("a2", 105), mark(110)]) == []
    assert (book.counts.repeats, book.counts.late) == (3, 0)


def test_an_alert_that_comes_after_its_watermark_is_taken_and_counted() -> None:
    book = IncidentBook()
    out = told(book, [mark(500), alert(tick=100)])
    assert said(out) == [(500, 1, "open", 1)]
    assert book.counts.late == 1


def test_a_stalled_sender_does_not_let_waiting_alerts_grow_without_bound() -> None:
    book = IncidentBook(AlertSettings(incidents=IncidentSettings(max_pending=10)))
    records: list[AlertRecord] = [mark(0, "detect/0", 2)]
    records += [alert(f"a{i}", 100 + i, attacker=f"10.0.0.{i}", victim=None) for i in range(15)]
    assert [i.tick for i in told(book, records)] == [100, 101, 102, 103, 104]
    assert (book.waiting, book.counts.forced) == (10, 5)


def test_open_incidents_are_bounded_the_quietest_closes_early() -> None:
    book = IncidentBook(AlertSettings(incidents=IncidentSettings(max_open=2)))
    records = [alert(f"a{i}", 100 + i, attacker=f"10.0.0.{i}", victim=None) for i in range(3)]
    out = told(book, [*records, mark(200)])
    evicted = [i for i in out if i.status == "closed"]
    assert [(i.tick, i.attackers) for i in evicted] == [(102, ("10.0.0.0",))]
    assert evicted[0].summary.endswith("Closed early: too many incidents are open.")
    assert (book.open_count, book.counts.evicted) == (2, 1)


def test_a_large_incident_counts_all_and_lists_some() -> None:
    book = IncidentBook(AlertSettings(incidents=IncidentSettings(max_alerts=5, max_seen=50)))
    records = [alert(f"a{i:03}", 100 + i, victim=f"10.0.{i % 250}.{i // 250}") for i in range(300)]
    last = told(book, [*records, mark(1000)])[-1]
    assert (last.alerts_total, len(last.alerts), len(last.victims)) == (300, 100, 20)
    assert len(book.snapshot()) < 100_000


def test_strange_senders_are_bounded() -> None:
    book = IncidentBook()
    told(book, [mark(1, f"x/{i}", MAX_SENDERS) for i in range(MAX_SENDERS + 2)])
    assert book.counts.strangers == 2


def test_ids_differ_when_the_same_alert_opens_twice() -> None:
    book = IncidentBook()
    records: list[AlertRecord] = [alert(tick=100), mark(8000), alert(tick=9000, revision=2), mark(9000)]
    first, closed, second = told(book, records)
    assert first.id == closed.id != second.id


@pytest.mark.parametrize("value", [b"\xff", b"{}", b'{"version":3}'])
def test_a_strange_snapshot_is_refused_and_changes_nothing(value: bytes) -> None:
    book = IncidentBook()
    told(book, [alert(), mark(100), alert("a2", 200)])
    before = book.snapshot()
    with pytest.raises(SnapshotError, match="snapshot of incidents"):
        book.restore(value)
    assert book.snapshot() == before


def test_an_overdue_response_joins_its_incident_afterwards_and_breaks_no_word() -> None:
    book = IncidentBook()
    told(book, [alert("a1", 100, attacker="10.0.0.1", victim="10.0.0.2"), mark(500)])
    late = alert("late", 160, attacker="10.0.0.1", victim="10.0.0.2")
    late = late.model_copy(update={"detector": CONTAINMENT_OVERDUE, "kind": CONTAINMENT_OVERDUE})
    (incident,) = told(book, [late])
    assert [item.kind for item in incident.alerts] == ["port_scan_vertical", CONTAINMENT_OVERDUE]
    assert ", then containment_overdue, against 10.0.0.2" in incident.summary
    assert book.counts.late == 0
    assert told(book, [late]) == []
