"""Stages that only count, so that anything lost, doubled or out of order shows in what they say.

For each message a detect stage sends one alert: its id is the node, its revision how many messages of that
node the stage has seen, its explanation a digest over all of them in order. A stage that misses a message,
sees one twice or forgets its state cannot give the right chain of digests.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from detectors.snapshot import Section
from schemas.alert import Alert, Watermark
from schemas.edge import Edge
from schemas.event_codec import EventMessage, encode
from schemas.events import EventHeader
from schemas.finding import DataQuality
from schemas.incident import Incident, IncidentAlert
from schemas.response import ResponseDecision
from schemas.rollups import RollupHeader, RollupMessage
from schemas.watch import WatchRow
from stream.settings import HealthSettings, KafkaSettings, StreamSettings, TopicSettings, WorkerSettings
from stream.worker import StageFactories

CRASHING_CUT = 13
STUCK = "stuck"  # name of a node whose messages are never done with
STALL_S = 5.0
LONG_AGO_MS = 1_700_000_000_000


def make_settings(bootstrap: str, prefix: str, **worker: float) -> StreamSettings:
    return StreamSettings(
        kafka=KafkaSettings(bootstrap=bootstrap, prefix=prefix, request_timeout_s=10),
        topics=TopicSettings(event_partitions=4, rollup_partitions=2, state_partitions=2),
        # One message at a time: a stage that fails then sets aside that message alone, and the tests can tell which.
        worker=WorkerSettings(session_timeout_s=6, feed_messages=1, **worker),
        health=HealthSettings(port=0, check_interval_s=0.2, stall_s=STALL_S),
    )


def event_value(node: str, sequence: int) -> bytes:
    """A heartbeat; sequence 13 of a node named `poison…` makes the stage fail."""
    header = EventHeader(
        cluster="c", node=node, exporter="e", boot="b", sequence=sequence, cut=sequence, source="capture",
        capabilities=0,
    )  # fmt: skip
    return encode(EventMessage(header))


def chain(node: str, sequences: Sequence[int]) -> list[str]:
    """The explanations of a node's alerts in order of revision, when everything was seen once and in order."""
    digest, digests = "", []
    for sequence in sequences:
        digest = _link(digest, node, sequence)
        digests.append(digest)
    return digests


@dataclass
class Output:
    alerts: list[Alert] = field(default_factory=list)
    rollups: list[RollupMessage] = field(default_factory=list)
    watermark: Watermark | None = None
    incidents: list[Incident] = field(default_factory=list)
    excepted: dict[str, int] = field(default_factory=dict)
    watched: list[WatchRow] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)


class CountingDetect:
    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.nodes: dict[str, list[Any]] = {}
        self.tick = 0
        # Larger than one chunk, so that every test writes and reads several.
        self.weight = np.zeros(1 << 20, np.uint8)

    def feed(self, messages: Sequence[EventMessage]) -> Output:
        output = Output()
        for message in messages:
            node, sequence = message.header.node, message.header.sequence
            assert (message.appended_ms or 0) > LONG_AGO_MS, "every record of a broker has its append time"
            if node.startswith("poison") and sequence == CRASHING_CUT:
                raise RuntimeError("the thirteenth")
            count, digest = self.nodes.get(node, [0, ""])
            digest = _link(str(digest), node, sequence)
            self.nodes[node] = [count + 1, digest]
            self.weight[int(digest, 16) % len(self.weight)] += 1
            output.alerts.append(make_alert(node, count + 1, digest, message.header.cut))
            self.tick = max(self.tick, message.header.cut)
            output.rollups = [self._rollup(p, "tick", message.header.cut) for p in range(2)]
            output.watermark = Watermark(sender=f"detect/{self.partition}", tick=message.header.cut, senders=4)
        return output

    def announce_empty(self) -> list[RollupMessage]:
        return [] if self.nodes else [self._rollup(p, "empty", 0) for p in range(2)]

    def announce_idle(self) -> list[RollupMessage]:
        return self.announce_empty() or [self._rollup(p, "idle", self.tick) for p in range(2)]

    def table_counts(self) -> dict[str, dict[str, int]]:
        return {}

    def counts(self) -> dict[str, int]:
        return {"nodes_going": len(self.nodes)}

    def snapshot(self) -> dict[str, Section]:
        own = {"nodes": self.nodes, "tick": self.tick}
        return {"nodes": Section(1, own), "weight": Section(1, {"weight": self.weight})}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        if not sections:
            return ["nodes", "weight"]
        self.nodes, self.tick = sections["nodes"].state["nodes"], sections["nodes"].state["tick"]
        self.weight = sections["weight"].state["weight"]
        # Every message turned one page of it: a page that came from an older checkpoint than it should shows here.
        expected = sum(count for count, _ in self.nodes.values())
        assert int(self.weight.sum()) == expected, f"{int(self.weight.sum())} pages of {expected}"
        return []

    def _rollup(self, partition: int, kind: Literal["tick", "empty", "idle"], tick: int) -> RollupMessage:
        header = RollupHeader(
            cluster="c", sender=self.partition, senders=4, partition=partition, partitions=2,
            kind=kind, tick=tick,
        )  # fmt: skip
        return RollupMessage(header)


class CountingCorrelate:
    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.count = 0

    def feed(self, messages: Sequence[RollupMessage]) -> Output:
        self.count += len(messages)
        return Output(watermark=Watermark(sender=f"correlate/{self.partition}", tick=self.count, senders=2))

    def table_counts(self) -> dict[str, dict[str, int]]:
        return {}

    def counts(self) -> dict[str, int]:
        return {}

    def snapshot(self) -> dict[str, Section]:
        return {"count": Section(1, self.count)}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        if not sections:
            return ["count"]
        self.count = int(sections["count"].state)
        return []


class CountingIncidents:
    def __init__(self) -> None:
        self.count = 0

    def feed(self, records: Sequence[Alert | Watermark]) -> Output:
        alerts = [r for r in records if isinstance(r, Alert)]
        self.count += len(alerts)
        incidents = [
            Incident(
                id="i", revision=self.count, status="open", cluster="c", severity="low", started_at="", updated_at="",
                tick=a.tick, attackers=(), victims=(), techniques=(), alerts_total=self.count, summary="",
                alerts=(_place(a),),
            )
            for a in alerts
        ]  # fmt: skip
        return Output(incidents=incidents)

    def snapshot(self) -> dict[str, Section]:
        return {"count": Section(1, self.count)}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        if not sections:
            return ["count"]
        self.count = int(sections["count"].state)
        return []


class CountingDecide:
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def feed(self, alert: Alert) -> list[ResponseDecision]:
        if alert.id in self.seen:
            return []
        self.seen.add(alert.id)
        return [
            ResponseDecision(
                id=f"r-{alert.id}", alert_id=alert.id, alert_revision=alert.revision, cluster="c", detector="d",
                kind="k", severity="low", confidence=1, category="other", mode="dry-run",
                actions=(), attackers=(), victims=(), spoofable=False,
                decided_tick=alert.tick, deadline_s=1, ttl_s=60, reason="test",
            )
        ]  # fmt: skip

    def snapshot(self) -> dict[str, Section]:
        return {"seen": Section(1, sorted(self.seen))}

    def restore(self, sections: Mapping[str, Section]) -> list[str]:
        if not sections:
            return ["seen"]
        self.seen = set(sections["seen"].state)
        return []


def make_alert(node: str, revision: int, explanation: str, tick: int) -> Alert:
    return Alert(
        id=node, revision=revision, status="open", cluster="c", node=node, detector="counting", kind="counting",
        title="t", severity="low", confidence=1, subject=node, started_at="", detected_at="", ended_at="", tick=tick,
        attackers=(), victims=(), techniques=(), evidence=(), explanation=explanation, spoofable=False,
        data_quality=DataQuality(), occurrences=1,
    )  # fmt: skip


STAGES = StageFactories(
    detect=CountingDetect, correlate=CountingCorrelate, incidents=CountingIncidents, decide=CountingDecide
)


def _place(alert: Alert) -> IncidentAlert:
    return IncidentAlert(id=alert.id, detector="d", kind="k", severity="low", detected_at="", explanation="")


def _link(digest: str, node: str, sequence: int) -> str:
    return hashlib.sha256(f"{digest}/{node}/{sequence}".encode()).hexdigest()[:16]
