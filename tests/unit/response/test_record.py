"""The record of an incident."""

from __future__ import annotations

from response.record import IncidentRecord, incident_record, markdown, of_subject
from schemas.alert import Alert
from schemas.finding import DataQuality, Evidence
from tests.unit.response.cluster_cases import NOW, OUTSIDE, WEB, decision, end
from tests.unit.response.test_orders import RESPONSE, Desk


def alert(revision: int = 1, **changes: object) -> Alert:
    values: dict[str, object] = {
        "id": "alert-1", "revision": revision, "status": "open", "cluster": "test", "node": "", "detector": "port_scan",
        "kind": "port_scan_vertical", "title": "Port scan", "severity": "high", "confidence": 0.9, "subject": "x",
        "started_at": "2027-01-15T07:59:50.000Z", "detected_at": "2027-01-15T08:00:00.000Z",
        "ended_at": "2027-01-15T08:00:00.000Z", "tick": NOW, "attackers": (end(WEB),), "victims": (OUTSIDE,),
        "techniques": ("T1046",), "evidence": (Evidence(name="ports", value=40, limit=10, unit="ports"),),
        "explanation": "shop/web-a tried 40 ports", "spoofable": False, "data_quality": DataQuality(), "occurrences": 1,
    }  # fmt: skip
    return Alert.model_validate({**values, **changes})


def story() -> Desk:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="approve"))
    desk.looked(NOW + 61)
    desk.said("approve", now=NOW + 90, reason="seen in logs")
    desk.said("revert", now=NOW + 300, reason="repaired")
    return desk


def test_a_record_tells_what_was_seen_done_and_by_whom() -> None:
    desk = story()
    made = incident_record("alert-1", "test", None, [alert()], desk.audit)
    assert [line.what for line in made.timeline] == ["alert", "proposed", "missed", "approved", "applied", "reverted"]
    assert made.responses == (RESPONSE,)
    assert made.evidence[0].values == ("ports 40 ports, limit 10",)
    assert [line.split()[3] for line in made.approvals] == ["approved", "applied", "reverted"]
    assert "contained 90 s after the tick that was decided on, by quarantine_pod" in made.lessons
    assert any(line.startswith("the deadline was missed 1 times") for line in made.lessons)
    assert IncidentRecord.decode(made.encode()) == made


def test_the_same_steps_in_another_order_give_the_same_bytes() -> None:
    audit = story().audit
    one = incident_record("alert-1", "test", None, [alert()], audit)
    other = incident_record("alert-1", "test", None, [alert()], list(reversed(audit)))
    assert sorted(line.what for line in one.timeline) == sorted(line.what for line in other.timeline)
    assert one.lessons == other.lessons


def test_markdown_cannot_be_steered_by_what_came_from_outside() -> None:
    bad = alert(explanation="<script>\x1b[2J| [x](http://evil) `rm`\n# heading")
    text = markdown(incident_record("alert-1", "test", None, [bad], []))
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "\x1b" not in text
    assert "\n# heading" not in text
    assert "\\[x\\](http" in text


def test_what_belongs_to_an_id() -> None:
    desk = story()
    other = alert(id="alert-2")
    for subject in ("alert-1", RESPONSE):
        incident, alerts, steps = of_subject(subject, [], [alert(), alert(2), other], desk.audit)
        assert (incident, [item.revision for item in alerts], len(steps)) == (None, [2], 5)
    assert of_subject("nothing", [], [alert()], desk.audit) == (None, [], [])
