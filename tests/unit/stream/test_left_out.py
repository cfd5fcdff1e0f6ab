"""Nodes and partitions that fall silent, through both stages to alerts; workers that come and go beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alerts.settings import AlertSettings
from detectors.settings import EngineSettings
from detectors.snapshot import Section
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.rollups import RollupMessage
from stream.stages import CorrelateStage, DetectStage, Parts, PipelineSettings
from tests.event_rows import BEGIN, LiveNode, Node, flow
from tests.snapshots import copied

ROW = [flow("10.0.0.1", "10.0.0.2")]
PARTS = Parts(PipelineSettings(engine=EngineSettings(event_partitions=2, rollup_partitions=1), alerts=AlertSettings()))


def said(stage: DetectStage, messages: Iterable[EventMessage]) -> tuple[list[Alert], list[RollupMessage]]:
    """What a stage says of messages fed one by one."""
    outputs = [stage.feed([message]) for message in messages]
    return [a for o in outputs for a in o.alerts], [r for o in outputs for r in o.rollups]


def silences(alerts: Iterable[Alert]) -> list[tuple[str, int, str]]:
    return [(a.subject, a.revision, a.status) for a in alerts if a.detector == "exporter_silent"]


def test_a_killed_exporter_is_one_alert_taken_back_when_it_speaks_again() -> None:
    stage = PARTS.detect(0)
    steady, killed = LiveNode("steady"), LiveNode("killed")
    alerts, _ = said(stage, [m for at in range(1, 5) for m in (steady.at(at), killed.at(at))])
    assert silences(alerts) == []
    alerts, rollups = said(stage, [steady.at(at) for at in range(5, 100)])
    assert silences(alerts) == [("killed", 1, "open")]
    (alert,) = [a for a in alerts if a.detector == "exporter_silent"]
    assert alert.explanation.startswith("nothing came from the exporter of node killed for 10 s while other nodes")
    assert rollups[-1].header.silent_nodes == 1
    assert stage.counts()["nodes_silent"] == stage.counts()["silences"] == 1
    alerts, rollups = said(stage, [m for at in range(100, 103) for m in (steady.at(at), killed.at(at))])
    assert silences(alerts) == [("killed", 2, "closed")]
    assert rollups[-1].header.silent_nodes == stage.counts()["nodes_silent"] == 0


class Cluster:
    """Two event partitions and their rollup partition, each a worker's."""

    def __init__(self) -> None:
        self.detect = [PARTS.detect(0), PARTS.detect(1)]
        self.correlate: CorrelateStage = PARTS.correlate(0)
        self.alerts: list[Alert] = []
        self.mark = 0

    def feed(self, partition: int, *messages: EventMessage) -> None:
        self.tell(self.detect[partition].feed(messages).rollups)

    def tell(self, rollups: Sequence[RollupMessage]) -> None:
        output = self.correlate.feed(rollups)
        self.alerts += output.alerts
        if output.watermark is not None:
            self.mark = output.watermark.tick - BEGIN

    def take_over(self, partition: int, snapshot: Mapping[str, Section], since: Sequence[EventMessage]) -> None:
        """Another worker restores a snapshot and does again what came since."""
        self.detect[partition] = PARTS.detect(partition)
        self.detect[partition].restore(snapshot)
        self.feed(partition, *since)


def test_a_partition_whose_nodes_are_all_gone_is_left_out_by_a_record_only() -> None:
    cluster, steady, killed = Cluster(), LiveNode("steady"), LiveNode("killed")
    for at in range(1, 5):
        cluster.feed(0, steady.at(at))
        cluster.feed(1, killed.at(at))
    for at in range(5, 100):
        cluster.feed(0, steady.at(at))
    assert cluster.mark == 4, "never timed out silently"
    cluster.tell(cluster.detect[1].announce_idle())
    cluster.feed(0, steady.at(100))
    assert cluster.mark == 100
    assert silences(cluster.alerts) == [("events.v1/1", 1, "open")]
    # It comes back with what it had kept, and with the present.
    cluster.feed(1, *(killed.at(100 + cut / 1000, cut=cut) for cut in range(5, 101)))
    for at in range(101, 180):
        cluster.feed(0, steady.at(at))
        cluster.feed(1, killed.at(at))
    assert cluster.mark == 179
    assert silences(cluster.alerts)[-1] == ("events.v1/1", 2, "closed")
    assert cluster.correlate.counts()["late"] > 0


def test_a_takeover_beside_running_workers_is_no_silence_and_counts_nothing_twice() -> None:
    alone, taken = Cluster(), Cluster()
    one, other = LiveNode("one"), LiveNode("other")
    log = [(one.at(at), other.at(at)) for at in range(1, 60)]
    for cluster in (alone, taken):
        snapshot, since = copied(cluster.detect[1].snapshot()), []
        for at, (first, second) in enumerate(log, 1):
            cluster.feed(0, first)
            if cluster is taken and 20 <= at < 40:
                # The worker of the second partition was killed; its messages wait in the log.
                since.append(second)
                continue
            if cluster is taken and at == 40:
                cluster.take_over(1, snapshot, [*since, second])
                continue
            cluster.feed(1, second)
            if at == 15:
                snapshot = copied(cluster.detect[1].snapshot())
            if at > 15:
                since.append(second)
    assert taken.mark == alone.mark == 59
    assert [a.encode() for a in taken.alerts] == [a.encode() for a in alone.alerts]
    assert taken.correlate.counts()["repeats"] > 0
    assert taken.correlate.counts().get("late", 0) == taken.correlate.counts().get("silences", 0) == 0


def test_a_capture_that_goes_on_cannot_be_idle() -> None:
    stage = PARTS.detect(0)
    node = Node()
    said(stage, [node.second(1, flows=ROW), node.second(2, flows=ROW)])
    assert stage.announce_idle() == []
    said(stage, [node.second(3, final=True)])
    assert [r.header.silent_nodes for r in stage.announce_idle()] == [0]
