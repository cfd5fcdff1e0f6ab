"""What a source cannot know reaches alerts of both stages, and is not taken for an attack."""

from __future__ import annotations

from detectors.columns import Columns, TickBatch
from detectors.frame import FlowFrame
from schemas.event_codec import rows_to_batch
from schemas.events import CAPTURE_CAPABILITIES, Capability
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CONVERSATION, Node, flow

NOTE = "a made-up source: it counts on its fingers"


def test_notes_are_in_the_alerts_of_both_stages() -> None:
    node, pipeline = Node(notes=(NOTE,)), Pipeline(Parts(PipelineSettings()))
    scan = [flow("10.0.0.1", "10.0.0.2", port) for port in range(1, 200)]
    flood = [flow(f"10.1.{n >> 8}.{n & 255}", "10.0.0.3", marks=CONVERSATION) for n in range(4000)]
    seconds = [node.second(n, flows=[*flood, *(scan if n == 3 else [])]) for n in range(1, 30)]
    alerts = [a for output in pipeline.run([*seconds, node.second(40, final=True)]) for a in output.alerts]
    noted = {a.detector for a in alerts if NOTE in a.data_quality.notes}
    assert {"port_scan", "connection_flood", "detector_blind"} & {a.detector for a in alerts} <= noted
    assert {"port_scan", "connection_flood"} <= noted


def test_flags_that_are_not_told_are_no_odd_probes() -> None:
    rows = [flow("10.0.0.1", "10.0.0.2", src_syn=0, src_flags=0)]
    batch = rows_to_batch("flow", rows, BEGIN)
    for able, count in ((CAPTURE_CAPABILITIES, 1), (CAPTURE_CAPABILITIES & ~Capability.TCP_FLAGS, 0)):
        assert FlowFrame(Columns([TickBatch(0, 0, BEGIN, int(able), batch)])).odd_probes.tolist() == [count]
