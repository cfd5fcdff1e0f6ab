"""Deadlines that passed without containment, as alerts: for people who look at alerts and not at the audit."""

from __future__ import annotations

from collections import OrderedDict

from response.audit import action_id
from schemas.action import Action
from schemas.alert import CONTAINMENT_OVERDUE, Alert
from schemas.finding import DataQuality, Evidence
from schemas.incident import Incident
from schemas.word import iso_time

# Of each alert two ids.
MAX_ALERTS = 65_536
_MAX_EXPLANATION = 2000


class IncidentMemory:
    """Which incident an alert belongs to, as incidents.v1 says."""

    def __init__(self, cluster: str = "") -> None:
        """`cluster`: whose incidents count; empty: any."""
        self._cluster = cluster
        self._incidents: OrderedDict[str, str] = OrderedDict()

    def take(self, incident: Incident) -> None:
        """Take in a revision; one that closes an incident does not take back alerts that went over to another."""
        if self._cluster and incident.cluster != self._cluster:
            return
        for alert in incident.alerts:
            if incident.status == "open" or alert.id not in self._incidents:
                self._incidents[alert.id] = incident.id
        while len(self._incidents) > MAX_ALERTS:
            self._incidents.popitem(last=False)

    def of(self, alert_id: str) -> str | None:
        """The incident of an alert, or none that is known."""
        return self._incidents.get(alert_id)


def overdue_alert(action: Action, incident: str | None) -> Alert | None:
    """The alert of a missed deadline; none of any other step.

    It is one alert with one revision for each response, whenever and however often the step is told.
    """
    decision = action.decision
    if action.outcome != "missed" or decision is None:
        return None
    due = decision.decided_tick + decision.deadline_s
    where = f"incident {incident}" if incident is not None else f"response {decision.id}"
    what = f"{decision.kind} of alert {decision.alert_id}, {where}: {action.message}"
    return Alert(
        id=action_id(decision.cluster, CONTAINMENT_OVERDUE, decision.id),
        revision=1,
        status="closed",
        cluster=decision.cluster,
        node="",
        detector=CONTAINMENT_OVERDUE,
        kind=CONTAINMENT_OVERDUE,
        title="Containment overdue",
        severity=decision.severity,
        confidence=1.0,
        subject=where,
        started_at=iso_time(decision.decided_tick),
        detected_at=iso_time(due),
        ended_at=iso_time(due),
        tick=due,
        attackers=decision.attackers,
        victims=decision.victims,
        techniques=(),
        evidence=(Evidence(name="deadline", value=decision.deadline_s, unit="s"),),
        explanation=what[:_MAX_EXPLANATION],
        spoofable=decision.spoofable,
        data_quality=DataQuality(),
        occurrences=1,
        suggested_response=None,
    )
