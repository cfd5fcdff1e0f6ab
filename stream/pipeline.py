"""All stages composed in one process, as ``sluicegate replay`` runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from aiokafka.partitioner import murmur2

from detectors.assembly import says_something
from detectors.senders import JOIN_MS
from detectors.snapshot import Section
from schemas.alert import Alert, AlertRecord
from schemas.event_codec import EventMessage
from schemas.incident import Incident
from schemas.response import ResponseDecision
from schemas.rollups import RollupMessage
from stream.stages import CorrelateStage, DecideStage, DetectStage, IncidentStage, Parts, Sections


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
        self._begun: int | None = None  # cut of the first message that says something
        self._announced = False
        self._waited: set[int] = set()  # event partitions that stage 2 waits for

    def snapshot(self) -> list[dict[str, Section]]:
        """Return the state of every stage; arrays may be live views, which hold until the next feed."""
        return [s.snapshot() for s in self._stages()]

    def restore(self, states: Sequence[Sections]) -> None:
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
        if not self._announced:
            yield self._step([], ended=True)

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
        # As the Kafka client places the exporter's key: a full table refuses the same keys in a replay as in a worker.
        key = f"{message.header.cluster}/{message.header.node}".encode()
        return int(murmur2(key) & 0x7FFFFFFF) % len(self._detect)

    def _all_have_begun(self, placed: Sequence[tuple[int, EventMessage]]) -> bool:
        """Tell whether the log has gone on for as long as those that begin together may differ."""
        for _, message in placed:
            if self._begun is None and says_something(message):
                # While exporters only say hello, others may still do so.
                self._begun = message.header.cut
            if self._begun is not None and (message.header.cut - self._begun) * 1000 >= JOIN_MS:
                return True
        return False

    def _step(self, placed: Sequence[tuple[int, EventMessage]], *, ended: bool = False) -> PipelineOutput:
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
        if not self._announced and (ended or self._all_have_begun(placed)):
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
