"""The composition detect → correlate → episodes → incidents → decide, without a broker.

The agents of the Faust application and ``sluicegate replay`` run these same stages; only who carries
records from one to the next differs. Only correlate says watermarks: it passes a tick after every
detect stage has passed it, and a detect stage's alerts are durable before its rollups are sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, Field

from alerts.episodes import EpisodeBook
from alerts.exceptions import Exceptions
from alerts.incidents import IncidentBook
from alerts.settings import AlertSettings
from detectors.assembly import says_something
from detectors.base import Detector
from detectors.correlate import CorrelateEngine
from detectors.detect import DetectEngine
from detectors.hashing import hash_text
from detectors.registry import build_detectors
from detectors.rule_detector import rule_detectors
from detectors.rule_file import RuleFile
from detectors.settings import EngineSettings
from detectors.snapshot import decode_state, encode_state
from response.decide import decide
from response.policyfile import DecisionPolicy, load_policy
from schemas.alert import Alert, AlertRecord, Watermark
from schemas.event_codec import EventMessage
from schemas.identity import IdentityTable
from schemas.incident import Incident
from schemas.response import ResponseDecision
from schemas.rollups import RollupMessage

_DECIDED = 8192  # alerts whose decision is remembered


class PipelineSettings(BaseModel):
    """Everything that decides what alerts come out of a log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: EngineSettings = EngineSettings()
    alerts: AlertSettings = AlertSettings()
    detectors: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="fields of built-in detectors' configurations to override, by detector id"
    )


@dataclass
class StageOutput:
    """What a stage says about the messages it was fed, in order."""

    alerts: list[Alert] = field(default_factory=list)
    rollups: list[RollupMessage] = field(default_factory=list)
    watermark: Watermark | None = None
    excepted: dict[str, int] = field(default_factory=dict)  # findings by the exception that covered them


@dataclass
class IncidentOutput:
    """What the incident stage says about the records it was fed, in order."""

    alerts: list[Alert] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    excepted: dict[str, int] = field(default_factory=dict)


class Parts:
    """Builds stages that agree on settings, rules and identities."""

    def __init__(self, settings: PipelineSettings, identities: IdentityTable | None = None,
                 rules: RuleFile | None = None, policy: DecisionPolicy | None = None) -> None:  # fmt: skip
        self.settings = settings
        self.identities = identities if identities is not None else IdentityTable()
        self.policy = policy if policy is not None else load_policy()
        self.rules = rules if rules is not None else RuleFile()
        self.identities.declare(self.rules.roles)
        self.detectors()  # a configuration that does not fit is an error at once, not at the first message

    def detectors(self) -> list[Detector]:
        """Return fresh detectors; stages never share their state."""
        built_in = build_detectors(self.settings.detectors, self.settings.engine.seed)
        return [*built_in, *rule_detectors(self.rules.rules)]

    def detect(self, partition: int) -> DetectStage:
        """Return a fresh stage for an event partition."""
        return DetectStage(partition, self)

    def correlate(self, partition: int) -> CorrelateStage:
        """Return a fresh stage for a rollup partition."""
        return CorrelateStage(partition, self)

    def incidents(self) -> IncidentStage:
        """Return a fresh incident stage."""
        return IncidentStage(self)

    def decide(self) -> DecideStage:
        """Return a fresh decide stage."""
        return DecideStage(self.policy)


def _opaque(data: bytes) -> npt.NDArray[np.uint8]:
    # As bytes: taken apart, a book's own order of entries would be lost.
    return np.frombuffer(data, np.uint8)


class DetectStage:
    """Stage 1 of one event partition, with one book of episodes per node."""

    def __init__(self, partition: int, parts: Parts) -> None:
        self._engine = DetectEngine(partition, parts.settings.engine, parts.detectors(), parts.identities)
        self._settings = parts.settings.alerts
        self._exceptions = Exceptions(parts.rules.exceptions)
        self._books: dict[int, EpisodeBook] = {}

    @property
    def rows(self) -> int:
        """Rows taken in so far."""
        return self._engine.rows

    def feed(self, messages: Sequence[EventMessage]) -> StageOutput:
        """Take messages of the partition in log order."""
        output = self._engine.feed(messages)
        alerts: list[Alert] = []
        for tick in output.ticks:
            book = None if tick.first else self._books.get(tick.number)
            if book is None:
                book = self._books[tick.number] = self._book()
            alerts += book.observe(tick.tick, tick.findings)
        return StageOutput(alerts, output.rollups, excepted=self._exceptions.taken())

    def _book(self) -> EpisodeBook:
        return EpisodeBook(self._engine.assembler.cluster, self._settings.episodes, self._exceptions)

    def announce_empty(self) -> list[RollupMessage]:
        """Return what tells stage 2 not to wait for this partition; nothing where it has nodes."""
        return self._engine.announce_empty()

    def announce_idle(self) -> list[RollupMessage]:
        """Return what tells stage 2 that nothing comes any more from this partition."""
        return self._engine.announce_idle()

    def counts(self) -> dict[str, int]:
        """Return what the log's clocks did so far, and how many nodes go on, are silent, have ended."""
        return self._engine.counts()

    def snapshot(self) -> bytes:
        """Return the whole state."""
        books = {str(n): _opaque(b.snapshot()) for n, b in sorted(self._books.items())}
        return encode_state({"engine": self._engine.snapshot(), "books": books})

    def restore(self, data: bytes) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            SnapshotError: it is no snapshot of this version.
        """
        state = decode_state(data)
        self._engine.restore(state["engine"])
        self._books = {}
        for number, book in state["books"].items():
            self._books[int(number)] = self._book()
            self._books[int(number)].restore(book.tobytes())


class CorrelateStage:
    """Stage 2 of one rollup partition, with its book of episodes."""

    def __init__(self, partition: int, parts: Parts) -> None:
        self._engine = CorrelateEngine(partition, parts.settings.engine, parts.detectors(), parts.identities)
        self._parts = parts
        self._exceptions = Exceptions(parts.rules.exceptions)
        self._book: EpisodeBook | None = None
        self._said = self._told = -1

    def counts(self) -> dict[str, int]:
        """Return what senders' clocks did so far."""
        return dict(self._engine.senders.counts)

    def feed(self, messages: Sequence[RollupMessage]) -> StageOutput:
        """Take messages of the partition in log order."""
        alerts: list[Alert] = []
        for advance in self._engine.feed(messages):
            if self._book is None:
                self._book = self._new_book()
            for tick, findings, _ in advance.ticks:
                alerts += self._book.observe(tick, findings)
            alerts += self._book.close_quiet(advance.watermark)
            self._said = advance.watermark
        moved = self._said > self._told
        self._told = self._said
        return StageOutput(alerts, [], self._watermark() if moved else None, self._exceptions.taken())

    def _new_book(self) -> EpisodeBook:
        return EpisodeBook(self._engine.cluster, self._parts.settings.alerts.episodes, self._exceptions)

    def _watermark(self) -> Watermark:
        senders = self._parts.settings.engine.rollup_partitions
        return Watermark(sender=f"correlate/{self._engine.partition}", tick=self._said, senders=senders)

    def snapshot(self) -> bytes:
        """Return the whole state."""
        book = None if self._book is None else _opaque(self._book.snapshot())
        return encode_state({"engine": self._engine.snapshot(), "book": book, "said": self._said})

    def restore(self, data: bytes) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            SnapshotError: it is no snapshot of this version.
        """
        state = decode_state(data)
        self._engine.restore(state["engine"])
        self._said = self._told = int(state["said"])
        self._book = None
        if state["book"] is not None:
            self._book = self._new_book()
            self._book.restore(state["book"].tobytes())


class IncidentStage:
    """Incidents of all alerts, and alerts of what several of them say together."""

    def __init__(self, parts: Parts) -> None:
        self._exceptions = Exceptions(parts.rules.exceptions)
        self._book = IncidentBook(parts.settings.alerts, parts.rules.sequences, self._exceptions)

    def feed(self, records: Sequence[AlertRecord]) -> IncidentOutput:
        """Take alerts and watermarks in log order."""
        output = IncidentOutput()
        for word in (word for record in records for word in self._book.add(record)):
            if isinstance(word, Alert):
                output.alerts.append(word)
            else:
                output.incidents.append(word)
        output.excepted = self._exceptions.taken()
        return output

    def snapshot(self) -> bytes:
        """Return the whole state."""
        return self._book.snapshot()

    def restore(self, data: bytes) -> None:
        """Take in what ``snapshot`` gave."""
        self._book.restore(data)


class DecideStage:
    """Decisions on alerts; an alert is decided again only when a later revision changes the decision."""

    def __init__(self, policy: DecisionPolicy) -> None:
        self._policy = policy
        self._decided: dict[str, str] = {}

    def feed(self, alert: Alert) -> list[ResponseDecision]:
        """Return the decision on an alert, if it is a new one."""
        decision = decide(alert, self._policy)
        if decision is None:
            return []
        gist = f"{decision.mode}/{','.join(decision.actions)}/{decision.spoofable}"
        if self._decided.get(alert.id) == gist:
            return []
        self._decided.pop(alert.id, None)
        self._decided[alert.id] = gist
        if len(self._decided) > _DECIDED:
            del self._decided[next(iter(self._decided))]
        return [decision]

    def snapshot(self) -> bytes:
        """Return the whole state; the order is the order of forgetting."""
        return orjson.dumps(list(self._decided.items()))

    def restore(self, data: bytes) -> None:
        """Take in what ``snapshot`` gave."""
        self._decided = dict(orjson.loads(data))


@dataclass(frozen=True)
class PipelineOutput:
    """What a run of messages led to, in order."""

    alerts: list[Alert]
    incidents: list[Incident]
    responses: list[ResponseDecision]
    excepted: dict[str, int] = field(default_factory=dict)


class Pipeline:
    """All stages of all partitions in one process."""

    def __init__(self, parts: Parts) -> None:
        engine = parts.settings.engine
        self._detect = [parts.detect(p) for p in range(engine.event_partitions)]
        self._correlate = [parts.correlate(p) for p in range(engine.rollup_partitions)]
        self._incidents, self._decide = parts.incidents(), parts.decide()
        self._announced = False
        self._waited: set[int] = set()  # event partitions that stage 2 waits for

    def snapshot(self) -> list[bytes]:
        """Return the state of every stage."""
        return [s.snapshot() for s in self._stages()]

    def restore(self, states: Sequence[bytes]) -> None:
        """Take in what ``snapshot`` of an equal pipeline gave."""
        for stage, state in zip(self._stages(), states, strict=True):
            stage.restore(state)
        self._announced = True
        self._waited.clear()  # not known; nothing is wrong with feeding messages alone until it is

    def _stages(self) -> list[DetectStage | CorrelateStage | IncidentStage | DecideStage]:
        return [*self._detect, *self._correlate, self._incidents, self._decide]

    @property
    def rows(self) -> int:
        """Rows taken in so far."""
        return sum(stage.rows for stage in self._detect)

    def run(self, messages: Iterable[EventMessage], batch: int = 64) -> Iterator[PipelineOutput]:
        """Feed messages a batch at a time; what comes out does not depend on the batch."""
        pending: list[EventMessage] = []
        for message in messages:
            pending.append(message)
            if len(pending) == batch:
                yield self.feed(pending)
                pending = []
        if pending:
            yield self.feed(pending)

    def feed(self, messages: Sequence[EventMessage]) -> PipelineOutput:
        """Take messages in log order; a node's messages always go to the same partition."""
        total = PipelineOutput([], [], [])
        excepted: Counter[str] = Counter()
        placed = [(self._partition(message), message) for message in messages]
        while placed:
            # Those of a partition that stage 2 does not wait for go alone: when it joins must not depend on the batch.
            count = next((i for i, (p, _) in enumerate(placed) if p not in self._waited), len(placed)) or 1
            output = self._step(placed[:count])
            total.alerts.extend(output.alerts)
            total.incidents.extend(output.incidents)
            total.responses.extend(output.responses)
            excepted.update(output.excepted)
            placed = placed[count:]
        return replace(total, excepted=dict(sorted(excepted.items())))

    def _partition(self, message: EventMessage) -> int:
        return hash_text(f"{message.header.cluster}/{message.header.node}") % len(self._detect)

    def _step(self, placed: Sequence[tuple[int, EventMessage]]) -> PipelineOutput:
        by_partition: dict[int, list[EventMessage]] = {}
        for partition, message in placed:
            by_partition.setdefault(partition, []).append(message)
        alerts: list[Alert] = []
        rollups: list[RollupMessage] = []
        excepted: Counter[str] = Counter()
        for partition, own in sorted(by_partition.items()):
            output = self._detect[partition].feed(own)
            alerts += output.alerts
            rollups += output.rollups
            excepted.update(output.excepted)
        for header in (rollup.header for rollup in rollups):
            (self._waited.discard if header.idle else self._waited.add)(header.sender)
        # While exporters only say hello, others may still do so: whoever has by then is waited for.
        if not self._announced and any(says_something(message) for _, message in placed):
            self._announced = True
            rollups += [r for stage in self._detect for r in stage.announce_empty()]
        records: list[AlertRecord] = list(alerts)
        for partition, stage in enumerate(self._correlate):
            output = stage.feed([r for r in rollups if r.partition == partition])
            alerts += output.alerts
            records += output.alerts
            excepted.update(output.excepted)
            if output.watermark is not None:
                records.append(output.watermark)
        joint = self._incidents.feed(records)
        alerts += joint.alerts
        excepted.update(joint.excepted)
        responses = [d for alert in alerts for d in self._decide.feed(alert)]
        return PipelineOutput(alerts, joint.incidents, responses, dict(sorted(excepted.items())))
