"""Reads incidents, alerts and steps from the broker and makes the record of one."""

from __future__ import annotations

import asyncio

from response.record import incident_record, markdown, of_subject
from schemas.action import Action
from schemas.alert import Alert, decode_alert_record
from schemas.incident import Incident
from schemas.topics import ALERTS, INCIDENTS
from schemas.word import WordError
from sluicegate.action_reader import HISTORY_S, read_actions
from sluicegate.problems import CommandProblem
from sluicegate.topic_reader import read_topic
from stream.settings import KafkaSettings


def export_record(kafka: KafkaSettings, cluster: str, subject: str, now: float, *, as_json: bool) -> str:
    """The record of an incident, alert or response as text; `now` is s since epoch.

    Raises:
        ConnectionProblem: the broker does not answer.
        CommandProblem: nothing of that id is known.
    """
    incidents, alerts, actions = asyncio.run(_read(kafka, cluster, now - HISTORY_S))
    incident, own, steps = of_subject(subject, incidents, alerts, actions)
    if incident is None and not own and not steps:
        message = f"no incident, alert or response {subject!r} of cluster {cluster!r} on the broker"
        raise CommandProblem(message)
    made = incident_record(subject, cluster, incident, own, steps)
    return made.encode().decode() + "\n" if as_json else markdown(made)


async def _read(kafka: KafkaSettings, cluster: str, since: float) -> tuple[list[Incident], list[Alert], list[Action]]:
    incidents: list[Incident] = []
    alerts: list[Alert] = []
    async for record in read_topic(kafka, INCIDENTS, since):
        try:
            item = Incident.decode(record.value or b"") if record is not None else None
        except WordError:
            continue
        if item is not None and item.cluster == cluster:
            incidents.append(item)
    async for record in read_topic(kafka, ALERTS, since):
        try:
            alert = decode_alert_record(record.value or b"") if record is not None else None
        except WordError:
            continue
        if isinstance(alert, Alert) and alert.cluster == cluster:
            alerts.append(alert)
    actions = [step async for step in read_actions(kafka, since) if step is not None and step.cluster == cluster]
    return incidents, alerts, actions
