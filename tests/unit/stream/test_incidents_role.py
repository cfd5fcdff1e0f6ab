"""The incidents agent sends incidents and the alerts of sequences to their topics, and counts what was excepted."""

from __future__ import annotations

import asyncio

from alerts.settings import AlertSettings
from detectors.rule_file import load_rule_file
from schemas.alert import Alert, AlertRecord
from schemas.incident import Incident
from schemas.topics import ALERTS, INCIDENTS
from stream.agents.incidents import IncidentsRole
from stream.records import Incoming
from stream.stages import Parts, PipelineSettings
from stream.telemetry import make_telemetry
from tests.unit.alerts.builders import alert, mark

RULES = """\
sequences:
  - {name: pair, type: event_count, steps: {any: {severity: low}}, group-by: victim, timespan: 1m, condition: {gte: 2}}
  - {name: quiet, type: event_count, steps: {any: {severity: low}}, group-by: victim, timespan: 1m, condition: {gte: 2}}
exceptions:
  - {name: unwanted, rule: quiet, side: victim, match: {cidr: 10.0.0.5/32}, reason: test}
"""


def test_records_go_to_their_topics() -> None:
    parts = Parts(PipelineSettings(alerts=AlertSettings()), rules=load_rule_file(RULES))
    telemetry = make_telemetry()
    role = IncidentsRole(parts.incidents, telemetry)
    stage = role.open(0)
    words: list[AlertRecord] = [alert("a", 100), alert("b", 100, attacker="10.0.0.8"), mark(100)]
    sent = asyncio.run(role.process(stage, words, 0))
    (own,) = [Alert.decode(r.value or b"") for r in sent if r.topic == ALERTS.word]
    incidents = [Incident.decode(r.value or b"") for r in sent if r.topic == INCIDENTS.word]
    assert (own.detector, own.rule, own.subject) == ("sequence", "pair", "10.0.0.5")
    assert any(own.id in {a.id for a in i.alerts} for i in incidents)
    assert telemetry.excepted.labels("unwanted")._value.get() == 1
    echo = role.read(Incoming("alerts.v1", 0, 9, b"", own.encode(), (), 0.0))
    assert asyncio.run(role.process(stage, [echo], 0)) == []
