"""Deadlines that passed: one alert for each response, with the incident that it is about."""

from __future__ import annotations

from math import inf

from response.decide import decide
from response.ledger import replayed
from response.overdue import IncidentMemory, overdue_alert
from response.policyfile import load_policy
from schemas.action import Action
from schemas.alert import CONTAINMENT_OVERDUE, Alert
from schemas.incident import Incident, IncidentAlert
from schemas.word import iso_time
from tests.unit.response.cluster_cases import NOW, decision
from tests.unit.response.test_orders import Desk


def missed(desk: Desk) -> list[Action]:
    return [action for action in desk.audit if action.outcome == "missed"]


def incident(name: str, *alerts: str, status: str = "open", cluster: str = "test") -> Incident:
    listed = tuple(
        IncidentAlert(id=alert, detector="d", kind="k", severity="high", detected_at=iso_time(NOW), explanation="")
        for alert in alerts
    )
    return Incident.model_validate(
        {
            "id": name, "revision": 1, "status": status, "cluster": cluster, "severity": "high",
            "started_at": iso_time(NOW), "updated_at": iso_time(NOW), "tick": NOW, "attackers": (), "victims": (),
            "techniques": (), "alerts": listed, "alerts_total": len(listed), "summary": "",
        }
    )  # fmt: skip


def overdue(now: float = NOW + 61) -> Alert:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="approve"))
    desk.looked(now)
    (step,) = missed(desk)
    alert = overdue_alert(Action.decode(step.encode()), "incident-1")
    assert alert is not None
    return alert


def test_a_missed_deadline_is_an_alert_of_its_own_kind_with_the_incident() -> None:
    alert = overdue()
    assert (alert.detector, alert.kind) == (CONTAINMENT_OVERDUE, CONTAINMENT_OVERDUE)
    assert (alert.subject, alert.tick, alert.severity) == ("incident incident-1", NOW + 60, "high")
    assert "alert-1" in alert.explanation
    assert "not contained 60 s after the alert: proposed" in alert.explanation
    assert [end.ip for end in alert.attackers] == ["10.0.0.10"]


def test_it_is_the_same_whenever_it_is_told() -> None:
    assert overdue(NOW + 61).encode() == overdue(NOW + 3000).encode()


def test_other_steps_are_no_alerts() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="approve"))
    assert [overdue_alert(action, None) for action in desk.audit] == [None]


def test_without_an_incident_it_names_the_response() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="approve", id="waits"))
    desk.looked(NOW + 61)
    alert = overdue_alert(missed(desk)[0], None)
    assert alert is not None
    assert alert.subject == "response waits"


def test_nothing_is_decided_about_it() -> None:
    assert decide(overdue(), load_policy()) is None


def test_the_next_deadline_is_that_of_what_may_still_be_missed() -> None:
    desk = Desk()
    assert desk.responder.next_deadline == float("inf")
    desk.decided(decision("quarantine_pod", mode="dry-run", id="shown", deadline_s=5))
    desk.decided(decision("quarantine_pod", mode="approve", id="late", deadline_s=30))
    desk.decided(decision("quarantine_pod", mode="approve", id="later"))
    assert desk.responder.next_deadline == NOW + 30
    desk.looked(NOW + 31)
    assert desk.responder.next_deadline == NOW + 60
    desk.said("approve", "later")
    assert desk.responder.next_deadline == float("inf")


def test_incidents_are_known_by_their_alerts() -> None:
    memory = IncidentMemory("test")
    memory.take(incident("one", "a", "b"))
    memory.take(incident("strange", "c", cluster="other"))
    assert [memory.of(name) for name in "abc"] == ["one", "one", None]


def test_alerts_that_went_over_to_another_incident_stay_there_when_theirs_closes() -> None:
    memory = IncidentMemory()
    memory.take(incident("one", "a"))
    memory.take(incident("two", "b"))
    memory.take(incident("one", "a", "b"))
    memory.take(incident("two", "b", status="closed"))
    assert [memory.of(name) for name in "ab"] == ["one", "one"]


def refused(spoofable: bool = True) -> Desk:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce").model_copy(update={"spoofable": spoofable}))
    assert [action.outcome for action in desk.audit] == ["refused" if spoofable else "applied"]
    return desk


def test_what_was_refused_as_a_whole_is_missed_too_and_once() -> None:
    desk = refused()
    assert desk.responder.next_deadline == NOW + 60
    assert desk.looked(NOW + 60) == []
    assert desk.looked(NOW + 61) == ["missed deadline"]
    assert desk.looked(NOW + 62) == []
    assert desk.responder.next_deadline == inf
    (step,) = missed(desk)
    alert = overdue_alert(Action.decode(step.encode()), None)
    assert alert is not None
    assert "every action was refused" in alert.explanation
    assert (alert.subject, alert.tick) == (f"response {step.response_id}", NOW + 60)


def test_a_new_responder_knows_what_was_refused() -> None:
    told = [Action.decode(action.encode()) for action in refused().audit]
    (left,) = replayed(told).unanswered()
    assert (left.deadline, left.missed) == (NOW + 60, False)


def test_what_was_done_after_all_is_not_missed() -> None:
    ledger = replayed([*refused().audit, *refused(spoofable=False).audit])
    assert ledger.unanswered() == ()


def test_what_operators_do_not_want_contained_is_not_missed() -> None:
    (step,) = refused().audit
    assert replayed([step.model_copy(update={"reason": "allowed"})]).unanswered() == ()
