"""What every detector must keep, found by discovery; and what the engine keeps for them all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from detectors.base import Detector
from detectors.registry import build_detectors, detector_classes
from detectors.rule_file import load_rule_file
from detectors.snapshot import Section, decode_state, encode_state
from detectors.spaces import SWEEP
from exporter.sources.capture import read_messages
from schemas.alert import Alert
from schemas.event_codec import EventMessage, encode
from schemas.events import FLOW, KINDS, Capability
from schemas.finding import SEVERITIES
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import Node, flow, query
from tests.mission import MISSION

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"

# Detectors whose events cannot be recorded from tools; why, and what tests them instead.
GENERATED = {
    "traffic_anomaly": "its warm-up takes hours; generated feature rows in tests/unit/detectors",
    "dns_anomaly": "a day's habits are its warm-up; generated questions in tests/unit/detectors",
    "peer_anomaly": "a day's habits are its warm-up; generated conversations in tests/unit/detectors",
    "promiscuous_interface": "told by a node's own state, which no capture holds; tests/unit/detectors",
    "kube_api_abuse": "the laboratory has no API server; rows and identities in tests/unit/detectors",
    "slow_scan": "takes hours; recorded scans whose rows are moved apart, in tests/unit/detectors",
    "load_balancer_skew": "learns an hour of several replicas; generated minutes and flows in tests/unit/detectors",
    "long_connection": "takes hours; rows, and a recorded session whose clock is turned on, in tests/unit/detectors",
    "new_external_destination": "takes a day; rows, and recordings a day apart, in tests/unit/detectors",
    "strobe": "takes hours; rows in tests/unit/detectors",
    "packet_socket": "told by a node's own state, which no capture holds; tests/unit/detectors",
}

every_detector = pytest.mark.parametrize("detector", build_detectors(), ids=lambda d: d.meta.id)


@cache
def mixed() -> tuple[EventMessage, ...]:
    """The demo's capture: benign traffic, a scan, a SYN flood and a DNS tunnel."""
    return tuple(read_messages(CASES / "demo" / "mixed" / "capture.pcapng.gz", "node1", "lab"))


def parts() -> Parts:
    return Parts(PipelineSettings(), rules=load_rule_file(MISSION))


def run(messages: Sequence[EventMessage], batch: int = 64) -> list[Alert]:
    return [a for output in Pipeline(parts()).run(messages, batch) for a in output.alerts]


def in_order(alerts: Sequence[Alert]) -> list[bytes]:
    return [a.encode() for a in sorted(alerts, key=lambda a: (a.id, a.revision))]


@every_detector
def test_says_what_it_is(detector: Detector) -> None:
    meta = detector.meta
    assert meta.severity in SEVERITIES
    assert meta.techniques
    assert all(re.fullmatch(r"T\d{4}(\.\d{3})?", t) for t in meta.techniques)
    assert meta.blind
    assert "see" in meta.blind or "blind" in meta.blind


@every_detector
def test_every_limit_is_explained(detector: Detector) -> None:
    for name, field in detector.Config.model_fields.items():
        assert name == "enabled" or field.description, f"{detector.meta.id}.{name} has no description"


@every_detector
def test_has_a_docs_page_that_says_what_users_ask(detector: Detector) -> None:
    page = ROOT / "docs" / "detectors" / f"{detector.meta.id}.md"
    text = page.read_text()
    for heading in ("## What it sees", "## What evades it", "## False positives", "## Tuning", "## Response"):
        assert heading in text, f"{page.name} lacks {heading!r}"
    for name in detector.Config.model_fields:
        assert name == "enabled" or f"`{name}`" in text, f"{page.name} does not name the setting {name}"


@every_detector
def test_has_recorded_cases_of_both_kinds(detector: Detector) -> None:
    if detector.meta.id in GENERATED:
        return
    folder = CASES / detector.meta.id
    expectations = [p.read_text() for p in folder.glob("*/case.json")]
    assert any('"expect": "alert"' in text for text in expectations), f"no positive case in {folder.name}"
    assert any('"expect": "alert"' not in text for text in expectations), f"no negative case in {folder.name}"


def test_generated_ones_exist_and_are_few() -> None:
    assert set(GENERATED) <= set(detector_classes())


@every_detector
def test_every_capability_it_needs_is_one_that_some_column_has(detector: Detector) -> None:
    columns = [c for kind in KINDS.values() for c in kind]
    offered = Capability(0)
    for column in columns:
        offered |= column.needs
    # These say which rows a source gives and how exact their times are, not which columns of them it fills.
    offered |= Capability.ATTEMPTS | Capability.ICMP_CLAIMS | Capability.HOST | Capability.EXACT_TIME
    assert detector.meta.needs & ~offered == Capability(0)
    assert FLOW


def test_silent_on_nothing_and_on_a_single_event() -> None:
    node = Node()
    assert run([node.second(1)]) == []
    assert run([node.second(2, flows=[flow("10.0.0.1", "10.0.0.2")])]) == []
    assert run([node.second(3, dns=[query("10.0.0.1", "www.example.com")])]) == []


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_and_runs_do_not_change_a_byte(batch: int) -> None:
    assert in_order(run(mixed(), batch)) == in_order(run(mixed()))


def test_input_is_not_changed() -> None:
    before = [encode(m) for m in mixed()]
    run(mixed())
    assert [encode(m) for m in mixed()] == before


def kept(sections: Mapping[str, Section]) -> dict[str, tuple[int, bytes]]:
    """A stage's state as bytes: what it shares with the live stage stays behind."""
    return {name: (section.version, encode_state(section.state)) for name, section in sections.items()}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_snapshot_in_the_middle_changes_nothing(share: float) -> None:
    """Every stage is replaced by a restored one, on both sides of the attacks."""
    messages = mixed()
    middle = int(len(messages) * share)
    whole = Pipeline(parts())
    alerts = [a for o in whole.run(messages[:middle]) for a in o.alerts]
    resumed = Pipeline(parts())
    states = [kept(stage) for stage in whole.snapshot()]
    resumed.restore([{n: Section(s, decode_state(data)) for n, (s, data) in state.items()} for state in states])
    assert [kept(stage) for stage in resumed.snapshot()] == states
    alerts += [a for o in resumed.run(messages[middle:]) for a in o.alerts]
    assert in_order(alerts) == in_order(run(messages))


def test_every_alert_of_the_mixed_hour_explains_itself() -> None:
    alerts = run(mixed())
    assert {"port_scan", "syn_flood", "dns_tunnel"} <= {a.detector for a in alerts}
    for alert in alerts:
        limited = [e for e in alert.evidence if e.limit is not None]
        assert limited, alert.detector
        assert any(e.value > e.limit for e in limited if e.limit is not None), alert.explanation
        assert alert.explanation.isprintable()
        assert alert.victims


def test_state_is_bounded_and_refusals_are_said() -> None:
    """More dangling keys than the smallest table takes, then silence: nothing grows, and it is alerted."""
    node, pipeline, alerts = Node(), Pipeline(parts()), []
    per_second = 20_000
    for second in range(SWEEP.capacity // per_second + 2):
        rows = [flow(f"11.{second}.{i >> 8}.{i & 255}", "10.0.0.2", 1 + i % 60000) for i in range(per_second)]
        alerts += [a for o in pipeline.run([node.second(second + 1, flows=rows)]) for a in o.alerts]
    assert "state_shed" in {a.detector for a in alerts}
    assert not {a.detector for a in alerts} & {"port_scan", "host_sweep"}
