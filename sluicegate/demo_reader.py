"""Reads what the demo's processes write: alerts and actions as they come, events once at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.action import Action
from schemas.alert import Alert, decode_alert_record
from schemas.event_codec import decode
from schemas.topics import ACTIONS, ALERTS, EVENTS
from sluicegate.demo_screen import Counted, DemoScreen
from stream.connection import client_arguments, unreachable
from stream.settings import KafkaSettings
from stream.stages import DecideStage

_POLL_MS = 200
_LOOK_SECONDS = 0.2
# Seeking to the beginning after assign() would race with the client's own reset to the end.
_FROM_BEGINNING = {"auto_offset_reset": "earliest", "enable_auto_commit": False}


class DemoReader:
    """Follows alerts.v1 and actions.v1 from their beginning and knows when everything has been said.

    Deciding is a pure function of an alert, so what the decide agent will say is known here as soon as the
    alert is: the demo waits for exactly those responses.
    """

    def __init__(self, kafka: KafkaSettings, screen: DemoScreen, decide: DecideStage) -> None:
        self._kafka = kafka
        self._screen = screen
        self._decide = decide
        self._expected: set[str] = set()
        self._answered: set[str] = set()
        self._watermarks: dict[str, int] = {}
        self._senders = 0
        self.appended: dict[tuple[str, int], float] = {}

    async def follow(self) -> None:
        """Read until cancelled.

        Raises:
            ConnectionProblem: the broker does not answer.
        """
        prefix = self._kafka.prefix
        places = [TopicPartition(spec.name(prefix), 0) for spec in (ALERTS, ACTIONS)]
        consumer = AIOKafkaConsumer(**client_arguments(self._kafka, "demo"), **_FROM_BEGINNING)
        try:
            await consumer.start()
            consumer.assign(places)
            while True:
                batches = await consumer.getmany(*places, timeout_ms=_POLL_MS)
                for place, take in zip(places, (self._alert, self._action), strict=True):
                    for record in batches.get(place, []):
                        take(record.value, record.timestamp / 1000)
        except (KafkaError, OSError) as error:
            raise unreachable(self._kafka, error) from None
        finally:
            await consumer.stop()

    def _alert(self, value: bytes, appended: float) -> None:
        record = decode_alert_record(value)
        if not isinstance(record, Alert):
            self._watermarks[record.sender] = record.tick
            self._senders = record.senders
            return
        self.appended[record.id, record.revision] = appended
        self._screen.alert(record)
        self._expected |= {decision.id for decision in self._decide.feed(record)}

    def _action(self, value: bytes, _appended: float) -> None:
        action = Action.decode(value)
        self._answered.add(action.response_id)
        self._screen.action(action)

    def complete(self, cut: int) -> bool:
        """Tell whether every sender has passed a cut and every decision has been answered."""
        passed = len(self._watermarks) == self._senders > 0 and min(self._watermarks.values()) >= cut
        return passed and self._expected <= self._answered

    def heard(self) -> tuple[int, int]:
        """Return what grows while anything still comes."""
        return sum(self._watermarks.values()), len(self._answered)

    def waiting_for(self, cut: int) -> str:
        """Return what is still to come, for a progress line."""
        if len(self._watermarks) < max(1, self._senders) or min(self._watermarks.values()) < cut:
            return "the worker to pass the last second of the capture"
        return f"{len(self._expected - self._answered)} responses"


async def read_events(kafka: KafkaSettings, partitions: int, counted: Counted) -> dict[int, float]:
    """Count what comes on events.v1 up to the exporter's last message.

    Returns:
        When each cut's last message was appended, s since epoch.

    Raises:
        ConnectionProblem: the broker does not answer.
    """
    places = [TopicPartition(EVENTS.name(kafka.prefix), number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(**client_arguments(kafka, "demo-events"), **_FROM_BEGINNING)
    appended: dict[int, float] = {}
    final = False
    try:
        await consumer.start()
        consumer.assign(places)
        while not final:
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    message = decode(record.value)
                    counted.add(message)
                    cut = message.header.cut
                    appended[cut] = max(appended.get(cut, 0.0), record.timestamp / 1000)
                    final = final or message.header.final
    except (KafkaError, OSError) as error:
        raise unreachable(kafka, error) from None
    finally:
        await consumer.stop()
    return appended


async def settled(reader: DemoReader, cut: int, patience: float, each: Callable[[], None]) -> bool:
    """Wait until everything up to a cut has been said; tell whether it was.

    Gives up when nothing new was heard for ``patience`` seconds, however slow the machine is until then.
    ``each`` is called at every look and may raise.
    """
    loop = asyncio.get_running_loop()
    heard, since = reader.heard(), loop.time()
    while not reader.complete(cut):
        each()
        if reader.heard() != heard:
            heard, since = reader.heard(), loop.time()
        elif loop.time() - since > patience:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True
