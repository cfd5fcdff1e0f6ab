"""What the detect agent takes from a record beside its value."""

from __future__ import annotations

import pytest

from schemas.event_codec import encode
from stream.agents.detect import DetectRole
from stream.records import Incoming
from stream.telemetry import make_telemetry
from tests.event_rows import BEGIN, LiveNode


@pytest.mark.parametrize(("seconds", "wanted"), [(BEGIN + 0.123, BEGIN * 1000 + 123), (0.0, None)])
def test_the_brokers_append_time_reaches_the_engine(seconds: float, wanted: int | None) -> None:
    telemetry = make_telemetry()
    role = DetectRole(lambda partition: None, telemetry)  # type: ignore[arg-type,return-value]  # not opened here
    value = encode(LiveNode().at(1))
    message = role.read(Incoming("events.v1", 0, 7, b"k", value, (), seconds))
    assert message.appended_ms == wanted


def test_counts_become_metrics_by_event_and_by_state() -> None:
    telemetry = make_telemetry()
    telemetry.note_log("detect", 3, {"late": 2, "nodes_silent": 1})
    value = telemetry.registry.get_sample_value
    assert value("sluicegate_log_events", {"agent": "detect", "partition": "3", "event": "late"}) == 2
    assert value("sluicegate_nodes", {"partition": "3", "state": "silent"}) == 1
