"""Grading: each rule of docs/evaluation.md as a case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas.alert import Alert
from sluicegate.cases import Case, Expectation
from sluicegate.evaluation import chosen_lines, grade, last_revisions

Make = Callable[..., Alert]


def line(
    expect: str, kind: str, src: str = "", dst: str = "", start: float | None = None, end: float | None = None
) -> Expectation:
    return Expectation.model_validate(
        {"expect": expect, "kind": kind, "src": src, "dst": dst, "start_s": start, "end_s": end}
    )


SCAN = line("alert", "port_scan_vertical", "10.0.0.1", "10.0.0.2", 5, 20)
QUIET = line("silence", "any")


def outcomes(lines: list[Expectation], first: str, *alerts: Alert) -> list[str]:
    return [g.outcome for g in grade(lines, first, alerts).lines]


def test_kind_and_source_make_a_hit_and_the_delay_is_event_time(make_alert: Make, first: str) -> None:
    graded = grade([SCAN], first, [make_alert("port_scan_vertical", "10.0.0.1", "10.9.9.9", at=12)])
    assert graded.lines[0].outcome == "hit"
    assert graded.lines[0].time_to_detect_s == 7.0
    assert graded.apart == ()


@pytest.mark.parametrize(
    ("kind", "src"),
    [("port_scan_horizontal", "10.0.0.1"), ("port_scan_vertical", "10.0.0.3"), ("port_scan_vertical", "")],
)
def test_another_kind_or_source_is_a_miss_and_stands_apart(make_alert: Make, first: str, kind: str, src: str) -> None:
    graded = grade([SCAN], first, [make_alert(kind, src, "10.0.0.2")])
    assert graded.lines[0].outcome == "miss"
    assert len(graded.apart) == 1


def test_a_detector_id_is_a_kind_too(make_alert: Make, first: str) -> None:
    wanted = line("alert", "connection_flood", "(several)", "10.0.0.2")
    assert outcomes([wanted], first, make_alert("http_flood", "1.1.1.1", "10.0.0.2", detector="connection_flood")) == [
        "hit"
    ]


def test_several_alerts_are_one_hit_with_the_first_ones_delay(make_alert: Make, first: str) -> None:
    alerts = [make_alert("port_scan_vertical", "10.0.0.1", "10.0.0.2", at=at) for at in (15, 9)]
    graded = grade([SCAN], first, alerts)
    assert graded.count("hit") == 1
    assert graded.lines[0].time_to_detect_s == 4.0


def test_one_alert_can_meet_several_lines(make_alert: Make, first: str) -> None:
    assert outcomes([SCAN, SCAN.model_copy(update={"note": "again"})], first,
                    make_alert("port_scan_vertical", "10.0.0.1")) == ["hit", "hit"]  # fmt: skip


def test_spoofed_sources_are_graded_by_victim(make_alert: Make, first: str) -> None:
    flood = line("alert", "syn_flood", "(spoofed: many)", "10.0.0.2")
    assert outcomes([flood], first, make_alert("syn_flood", "", "10.0.0.2")) == ["hit"]
    assert outcomes([flood], first, make_alert("syn_flood", "", "10.0.0.3")) == ["miss"]


@pytest.mark.parametrize(
    ("src", "ip", "mac", "agrees"),
    [
        ("10.0.0.0/24", "10.0.0.77", None, True),
        ("10.0.0.0/24", "10.0.1.77", None, False),
        ("2001:db8::1", "2001:db8:0::1", None, True),
        ("MAC 00:25:B3:bf:91:ee", "", "00:25:b3:bf:91:ee", True),
        ("MAC 00:25:b3:bf:91:ee", "10.0.0.1", None, False),
        ("Internet", "198.51.100.7", None, True),
        ("10.0.0.1", "not an address", None, False),
    ],
)
def test_sources_are_addresses_ranges_hardware_addresses_or_words(
    make_alert: Make, first: str, src: str, ip: str, mac: str | None, agrees: bool
) -> None:
    found: Any = make_alert("x", "0.0.0.0")
    found = found.model_copy(update={"attackers": (found.attackers[0].model_copy(update={"ip": ip, "mac": mac}),)})
    assert outcomes([line("alert", "x", src)], first, found) == ["hit" if agrees else "miss"]


@pytest.mark.parametrize(
    ("at", "until", "outcome"),
    [
        (2, 4, "miss"),  # over before it began
        (2, 6, "hit"),  # fired into it
        (22, 22, "hit"),  # its evidence began within a second after the end: the cut of the last second
        (23, 23, "miss"),
    ],
)
def test_times_must_overlap(make_alert: Make, first: str, at: float, until: float, outcome: str) -> None:
    found = make_alert("port_scan_vertical", "10.0.0.1", at=at, until=until)
    assert outcomes([SCAN], first, found) == [outcome]


def test_without_times_only_kind_and_source_count(make_alert: Make) -> None:
    graded = grade([SCAN], None, [make_alert("port_scan_vertical", "10.0.0.1", at=5000)])
    assert graded.lines[0].outcome == "hit"
    assert graded.lines[0].time_to_detect_s is None


@pytest.mark.parametrize(
    ("severity", "outcome"), [("low", "silent"), ("medium", "false alert"), ("high", "false alert")]
)
def test_only_medium_or_higher_breaks_a_silence(make_alert: Make, first: str, severity: str, outcome: str) -> None:
    graded = grade([QUIET], first, [make_alert("anything", "10.0.0.1", severity=severity)])
    assert graded.lines[0].outcome == outcome
    assert len(graded.false_alerts) == (outcome == "false alert")
    assert len(graded.apart) == (outcome == "silent")


def test_silence_about_anything_leaves_room_for_what_is_expected_or_reported(make_alert: Make, first: str) -> None:
    lines = [SCAN, line("report", "udp_scan", "10.0.0.1"), QUIET]
    alerts = [make_alert("port_scan_vertical", "10.0.0.1"), make_alert("udp_scan", "10.0.0.1")]
    assert outcomes(lines, first, *alerts) == ["hit", "reported", "silent"]
    assert outcomes(lines, first, *alerts, make_alert("dga", "10.0.0.1"))[2] == "false alert"


def test_silence_of_one_kind_leaves_no_room(make_alert: Make, first: str) -> None:
    before = line("silence", "port_scan_vertical", "10.0.0.1", start=0, end=3)
    lines = [SCAN, before]
    assert outcomes(lines, first, make_alert("port_scan_vertical", "10.0.0.1", at=2, until=9)) == ["hit", "false alert"]
    assert outcomes(lines, first, make_alert("port_scan_vertical", "10.0.0.1", at=7)) == ["hit", "silent"]


def test_an_optional_finding_is_neither_hit_nor_miss(make_alert: Make, first: str) -> None:
    lines = [line("report", "any", "10.0.0.1")]
    assert outcomes(lines, first) == ["not reported"]
    assert outcomes(lines, first, make_alert("beacon", "10.0.0.1")) == ["reported"]


def test_the_last_revision_counts(make_alert: Make, first: str) -> None:
    slight = make_alert("x", "10.0.0.1", severity="low")
    grave = slight.model_copy(update={"severity": "high", "revision": 2})
    assert last_revisions([grave, slight]) == [grave]
    assert outcomes([QUIET], first, slight, grave) == ["false alert"]


def test_kinds_choose_lines_and_keep_silence_about_anything() -> None:
    case = Case(id="c", input="i", format="pcap", expect=(SCAN, line("silence", "dga"), QUIET, line("report", "any")))
    assert chosen_lines(case, frozenset({"dga"})) == (case.expect[1], QUIET)
    assert chosen_lines(case, frozenset()) == case.expect
