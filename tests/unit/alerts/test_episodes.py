from __future__ import annotations

import pytest

from alerts.episodes import OVERFLOW, EpisodeBook
from alerts.identifiers import identifier
from alerts.settings import EpisodeSettings
from alerts.snapshots import SnapshotError
from schemas.alert import Alert
from schemas.finding import DataQuality, Endpoint, Evidence
from tests.unit.alerts.builders import finding

Said = tuple[int, int, str]


def said(alerts: list[Alert]) -> list[Said]:
    return [(a.tick, a.revision, a.status) for a in alerts]


def test_an_episode_opens_lasts_and_closes_after_quiet() -> None:
    book = EpisodeBook("c1")
    opened = book.observe(100, [finding()])
    assert said(opened) == [(100, 1, "open")]
    assert book.observe(130, [finding()]) == []
    assert book.observe(189, []) == []
    closed = book.observe(190, [])
    assert said(closed) == [(190, 2, "closed")]
    assert (closed[0].detected_at, closed[0].ended_at) == ("1970-01-01T00:01:40.000Z", "1970-01-01T00:02:10.000Z")
    assert (closed[0].id, closed[0].occurrences, book.open_count) == (opened[0].id, 2, 0)


def test_a_finding_at_the_last_quiet_tick_continues_and_one_after_it_begins_anew() -> None:
    book = EpisodeBook("c1")
    first = book.observe(100, [finding()])[0]
    assert book.observe(160, [finding()]) == []
    closed, again = book.observe(221, [finding()])
    assert (closed.id, closed.tick, closed.status) == (first.id, 220, "closed")
    assert (again.tick, again.revision) == (221, 1)
    assert again.id != first.id


def test_the_id_is_made_of_cluster_origin_detector_subject_and_first_tick() -> None:
    ids = [
        EpisodeBook(cluster).observe(tick, [finding(detector, subject, rule=rule)])[0].id
        for cluster, rule, detector, subject, tick in (
            ("c1", None, "d", "s", 100),
            ("c2", None, "d", "s", 100),
            ("c1", "r", "d", "s", 100),
            ("c1", "built-in", "d", "s", 100),
            ("c1", "", "d", "s", 100),
            ("c1", None, "ds", "", 100),
            ("c1", None, "d", "s", 101),
        )
    ]
    assert len(set(ids)) == len(ids)
    assert ids[0] == identifier("c1", None, "d", "s", 100) == "7ea5c2713ed3ab916b13abbfea21b15f"


def test_a_rule_and_the_built_in_detector_have_an_episode_each() -> None:
    book = EpisodeBook("c1")
    alerts = book.observe(100, [finding(), finding(rule="mine"), finding(rule="")])
    assert len({a.id for a in alerts}) == 3
    assert {a.rule for a in alerts} == {None, "mine", ""}


def test_another_node_continues_the_episode_and_the_alert_names_none_then() -> None:
    book = EpisodeBook("c1")
    assert book.observe(100, [finding(node="n1")])[0].node == "n1"
    assert book.observe(120, [finding(node="n2", severity="high")])[0].node == ""


def test_growth_is_told_on_a_log_scale() -> None:
    book = EpisodeBook("c1", EpisodeSettings(refresh=86_400))
    alerts = [a for i in range(1, 1001) for a in book.observe(100 + 10 * i, [finding(value=10.0 * i)])]
    assert [a.evidence[0].value for a in alerts] == [10 * 2**k for k in range(10)]


def test_revisions_keep_their_distance_except_for_severity_and_proof() -> None:
    book = EpisodeBook("c1")
    book.observe(100, [finding(value=11, severity="low", spoofable=True)])
    assert book.observe(101, [finding(value=1000, severity="low", spoofable=True)]) == []
    assert said(book.observe(102, [finding(value=1000, severity="high", spoofable=True)])) == [(102, 2, "open")]
    assert said(book.observe(103, [finding(value=1000, severity="high", spoofable=False)])) == [(103, 3, "open")]
    assert book.observe(104, [finding(value=9000, severity="high")]) == []
    assert book.observe(112, [finding(value=1, severity="high")]) == []
    late = book.observe(113, [finding(value=1, severity="high")])
    assert said(late) == [(113, 4, "open")]
    assert late[0].evidence[0].value == 9000


def test_a_new_kind_and_a_higher_confidence_are_told() -> None:
    book = EpisodeBook("c1")
    book.observe(100, [finding(kind="port_scan_vertical", confidence=0.5)])
    assert book.observe(110, [finding(kind="port_scan_vertical", confidence=0.59)]) == []
    assert book.observe(111, [finding(kind="port_scan_vertical", confidence=0.6)])[0].confidence == 0.6
    assert book.observe(121, [finding(kind="udp_scan", confidence=0.1)])[0].kind == "udp_scan"
    assert book.observe(131, [finding(kind="port_scan_vertical", confidence=0.1)]) == []


def test_an_unchanged_attack_is_told_again_once_an_hour() -> None:
    book = EpisodeBook("c1")
    alerts = [a for tick in range(0, 7300, 50) for a in book.observe(tick, [finding()])]
    assert said(alerts) == [(0, 1, "open"), (3600, 2, "open"), (7200, 3, "open")]


def test_one_tick_makes_one_revision_of_an_episode() -> None:
    same = [finding(value=v, node=n) for n in ("n1", "n2") for v in (11, 500)]
    alerts = EpisodeBook("c1").observe(100, same)
    assert said(alerts) == [(100, 1, "open")]
    assert (alerts[0].occurrences, alerts[0].evidence[0].value) == (1, 500)


def test_losses_of_a_node_count_once_a_tick_and_add_up_over_nodes_and_ticks() -> None:
    lossy = DataQuality(lost_packets=5, sampling=4, notes=("blind to TTL",))
    book = EpisodeBook("c1")
    book.observe(100, [finding(kind=k, node=n, data_quality=lossy) for k in ("a", "b") for n in ("n1", "n2")])
    book.observe(101, [finding(data_quality=DataQuality(lost_packets=1, late=2))])
    quality = book.close_quiet(500)[0].data_quality
    assert quality == DataQuality(lost_packets=11, late=2, sampling=4, notes=("blind to TTL",))


def test_proof_clears_what_forged_packets_named() -> None:
    forged, real = (Endpoint(ip="192.0.2.1"),), (Endpoint(ip="10.0.0.9"),)
    book = EpisodeBook("c1")
    assert book.observe(100, [finding(spoofable=True, attackers=forged)])[0].attackers == forged
    proven = book.observe(101, [finding(spoofable=False, attackers=real)])[0]
    assert (proven.spoofable, proven.attackers) == (False, real)
    book.observe(102, [finding(spoofable=True, attackers=forged)])
    closed = book.close_quiet(200)[0]
    assert (closed.spoofable, closed.attackers) == (False, real)


def test_endpoints_are_bounded_and_the_lasting_ones_stay_in_front() -> None:
    book = EpisodeBook("c1")
    lasting = Endpoint(ip="10.9.9.9")
    for tick in range(100):
        passing = [Endpoint(ip=f"10.{tick}.0.{i}") for i in range(30)]
        book.observe(tick, [finding(victims=(*passing[:9], lasting, *passing[9:]))])
    victims = book.close_quiet(1000)[0].victims
    assert len(victims) == 20
    assert victims[0] == lasting


def test_an_identity_once_known_is_kept() -> None:
    book = EpisodeBook("c1")
    pod = Endpoint(ip="10.0.0.9", pod="web-1", namespace="shop", identity="known")
    book.observe(100, [finding(attackers=(Endpoint(ip="10.0.0.9"),))])
    book.observe(101, [finding(attackers=(pod,))])
    book.observe(102, [finding(attackers=(Endpoint(ip="10.0.0.9"),))])
    assert book.close_quiet(200)[0].attackers == (pod,)


def test_a_syn_flood_silences_the_built_in_connection_flood_of_its_victim_only() -> None:
    book = EpisodeBook("c1")
    flood = finding("connection_flood", "10.0.0.5")
    detectors = [
        (a.detector, a.rule, a.subject)
        for a in book.observe(
            100,
            [
                flood,
                finding("connection_flood", "10.0.0.6"),
                finding("connection_flood", "10.0.0.5", rule="ddos_attack"),
                finding("syn_flood", "10.0.0.5"),
            ],
        )
    ]
    assert sorted(detectors, key=str) == [
        ("connection_flood", "ddos_attack", "10.0.0.5"),
        ("connection_flood", None, "10.0.0.6"),
        ("syn_flood", None, "10.0.0.5"),
    ]
    assert book.counts.silenced == 1
    assert {a.status for a in book.observe(160, [flood])} == {"closed"}
    assert book.counts.silenced == 2
    assert said(book.observe(161, [flood])) == [(161, 1, "open")]


def test_a_rule_named_syn_flood_silences_nothing() -> None:
    book = EpisodeBook("c1")
    alerts = book.observe(100, [finding("syn_flood", "v", rule="syn_flood"), finding("connection_flood", "v")])
    assert {a.detector for a in alerts} == {"syn_flood", "connection_flood"}


def test_too_many_episodes_are_shed_counted_and_alerted() -> None:
    book = EpisodeBook("c1", EpisodeSettings(max_open=8, reserved_percent=25))
    alerts = book.observe(100, [finding(subject=f"s{i}") for i in range(10)])
    assert len(alerts) == 7
    overflow = next(a for a in alerts if a.detector == OVERFLOW)
    assert overflow.evidence[0] == Evidence(name="shed_findings", value=4, limit=0, unit="findings")
    assert overflow.explanation == "4 findings opened no alert because 6 alerts are open already."
    grave = book.observe(101, [finding(subject=f"g{i}", severity="critical") for i in range(3)])
    assert [a.detector for a in grave] == ["port_scan", "port_scan"]
    assert (book.open_count, book.counts.shed) == (9, 5)
    assert book.observe(102, [finding(subject="s0")]) == []
    assert book.counts.shed == 5


def test_the_gravest_findings_get_the_last_places() -> None:
    book = EpisodeBook("c1", EpisodeSettings(max_open=4, reserved_percent=0))
    alerts = book.observe(100, [finding(subject=f"s{i}", severity="high" if i > 5 else "low") for i in range(10)])
    assert {a.subject for a in alerts} == {"s6", "s7", "s8", "s9", "c1"}


@pytest.mark.parametrize("tick", [99, 100])
def test_a_tick_is_told_once_and_in_order(tick: int) -> None:
    book = EpisodeBook("c1")
    book.observe(100, [])
    with pytest.raises(ValueError, match=f"tick {tick} is not after 100"):
        book.observe(tick, [])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "not JSON"),
        (b"[]", "valid dictionary"),
        (b'{"version": 2}', "version"),
        (EpisodeBook("c2").snapshot(), "of cluster 'c2', not of 'c1'"),
    ],
)
def test_a_strange_snapshot_is_refused_and_changes_nothing(value: bytes, complaint: str) -> None:
    book = EpisodeBook("c1")
    book.observe(100, [finding()])
    before = book.snapshot()
    with pytest.raises(SnapshotError, match=complaint):
        book.restore(value)
    assert book.snapshot() == before


def test_values_beyond_the_range_of_json_do_not_break_the_snapshot() -> None:
    book = EpisodeBook("c1")
    book.observe(100, [finding(evidence=(Evidence(name="x", value=1e308, limit=1e-300),))])
    other = EpisodeBook("c1")
    other.restore(book.snapshot())
    assert other.snapshot() == book.snapshot()


def test_a_snapshot_with_an_unreadable_endpoint_is_refused_whole() -> None:
    book = EpisodeBook("c1")
    book.observe(100, [finding()])
    damaged = book.snapshot().replace(b'\\"ip\\":\\"10.0.0.5\\"', b'\\"ip\\":5')
    assert damaged != book.snapshot()
    with pytest.raises(SnapshotError, match=r"victims\.candidates"):
        EpisodeBook("c1").restore(damaged)
