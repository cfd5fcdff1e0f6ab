"""decide: alerts.v1 → responses.v1, by the policy file."""

from collections.abc import Callable, Sequence
from typing import Protocol

from schemas.alert import Alert, AlertRecord
from schemas.response import ResponseDecision
from schemas.topics import ALERTS, RESPONSES
from stream.agents.incidents import read_alert_record
from stream.records import Incoming, Outgoing
from stream.roles import Stage


class DecideStage(Stage, Protocol):
    """The stage as this agent uses it."""

    def feed(self, alert: Alert) -> Sequence[ResponseDecision]:
        """What should be done about an alert; repeats are decided once."""


class DecideRole:
    """See `stream.roles.Role`."""

    name = "decide"
    topic = ALERTS.word
    stateful = True

    def __init__(self, open_stage: Callable[[], DecideStage]) -> None:
        self._open_stage = open_stage

    def open(self, partition: int) -> DecideStage:
        """A fresh stage; the topic has one partition."""
        return self._open_stage()

    def read(self, record: Incoming) -> AlertRecord:
        """See `stream.roles.Role.read`."""
        return read_alert_record(record)

    async def process(self, stage: DecideStage, words: Sequence[AlertRecord], partition: int) -> Sequence[Outgoing]:
        """See `stream.roles.Role.process`."""
        decisions = [d for word in words if isinstance(word, Alert) for d in stage.feed(word)]
        return [Outgoing(RESPONSES.word, d.id.encode(), d.encode()) for d in decisions]

    def announce(self, stage: DecideStage, *, quiet: bool) -> Sequence[Outgoing]:
        """Nothing to announce."""
        return ()
