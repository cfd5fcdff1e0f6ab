from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

import schemas
from schemas.action import Action
from schemas.alert import Alert, Watermark
from schemas.command import Command
from schemas.edge import Edge
from schemas.event_codec import EventMessage, encode_json
from schemas.events import CAPTURE_CAPABILITIES, KINDS
from schemas.finding import DataQuality, Endpoint, Evidence, Finding
from schemas.incident import Incident, IncidentAlert
from schemas.inventory import InventoryObject, ServiceEndpoint, ServicePort
from schemas.json_schemas import WORDS, schema_text
from schemas.json_schemas import schemas as all_schemas
from schemas.node_command import Cut, Limit, NodeCommand
from schemas.node_report import NodeEntry, NodeRefusal, NodeReport
from schemas.policy.networkpolicy import PolicySpec
from schemas.reference import documents
from schemas.response import ResponseDecision
from schemas.rollups import SECTIONS
from schemas.state import ChunkPlace, SnapshotManifest
from schemas.topics import TOPICS
from schemas.watch import WatchRow
from schemas.word import Word
from tests.unit.schemas.messages import event_messages, small_event

SCHEMAS = all_schemas()
DOCS = Path(__file__).resolve().parents[3] / "docs"
POD = Endpoint(ip="10.0.0.1", port=80, protocol="TCP", pod="web", namespace="shop", labels={"a": "b"}, identity="known")
FOUND: dict[str, Any] = {
    "detector": "port_scan", "kind": "port_scan_vertical", "title": "Port scan", "severity": "low", "confidence": 0.9,
    "node": "n1", "subject": "10.0.0.1", "attackers": (POD,), "victims": (Endpoint(ip="::1"),), "spoofable": False,
    "evidence": (Evidence(name="ports", value=11, limit=10, unit="ports", window=300),), "techniques": ("T1046",),
    "data_quality": DataQuality(notes=("blind",)),
}  # fmt: skip
NOW = "2026-01-01T00:00:00.000Z"
DECIDED: dict[str, Any] = {"cluster": "c1", "mode": "dry-run", "alert_id": "a1"}
SAMPLES: dict[str, Word] = {
    "inventory": InventoryObject(
        kind="Service", uid="u1", name="web", ips=("10.96.0.1",),
        service_ports=(ServicePort(port=80, target_port="http"),), endpoints=(ServiceEndpoint(address="10.0.0.1"),),
        policy=PolicySpec.model_validate({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"port": "http"}]}]}),
    ),
    "edge": Edge(
        cluster="c1", node="n1", namespace="shop", workload="Deployment/web", hour=0, peer="192.0.2.1", port=443,
        protocol="TCP", initiated=True, flows=1, bytes_sent=2, bytes_received=3,
    ),
    "watch": WatchRow(
        cluster="c1", response_id="r1", node="n1", tick=1, attempts=1, answered=0, unsure=0, last_packet=5,
        last_answered=0,
    ),
    "alert": Alert(
        id="a1", revision=1, status="open", cluster="c1", started_at=NOW, detected_at=NOW, ended_at=NOW, tick=1,
        explanation="Because.", occurrences=1, **FOUND,
    ),
    "watermark": Watermark(sender="detect/0", tick=1, senders=2),
    "incident": Incident(
        id="i1", revision=1, status="open", cluster="c1", severity="high", started_at=NOW, updated_at=NOW, tick=1,
        attackers=("shop/web",), victims=(), techniques=(), alerts_total=1, summary="One.",
        alerts=(IncidentAlert(id="a1", detector="d", kind="d", severity="low", detected_at=NOW, explanation="So."),),
    ),
    "response": ResponseDecision(
        id="r1", alert_revision=1, detector="d", kind="d", severity="high", confidence=1, category="intrusion",
        actions=("quarantine_pod",), attackers=(POD,), victims=(), spoofable=False, decided_tick=1, deadline_s=900,
        ttl_s=600, reason="intrusion", **DECIDED,
    ),
    "command": Command(
        id="12345678", verb="approve", target="r1", issued_at=NOW, key_id="k1", signature="00",
    ),
    "action": Action(
        id="x1", response_id="r1", action="quarantine_pod", outcome="proposed", target="shop/web", reason="dry_run",
        message="Would quarantine.", manifests=({"kind": "NetworkPolicy"},), proof={"blocked": True}, decided_tick=1,
        at=NOW, **DECIDED,
    ),
    "node_command": NodeCommand(
        id="12345678", cluster="c1", node="n1", verb="apply", response_id="r1", issued_at=NOW, expires_at=NOW,
        cuts=(Cut(source="10.0.0.1", destination="192.0.2.1"),), key_id="k1", signature="00",
        limits=(Limit(victim="10.0.0.2", protocol="TCP", port=80, per_source=20, in_all=500),),
    ),
    "node_report": NodeReport(
        cluster="c1", node="n1", at=NOW, state="enforcing", obeyed=("12345678",),
        entries=(NodeEntry(kind="cut", what="a", response_id="r1", packets=1, bytes=60, last_cut=1, expires_in=9),),
        refused=(NodeRefusal(command_id="12345679", reason="unsigned"),),
    ),
    "snapshot": SnapshotManifest(
        agent="detect", partition=0, partitions=4, epoch=3, next_offset=9, size=0, page=4096, sections=(), chunks=(),
        index=(ChunkPlace(number=0, next_offset=9, size=1, sha256="0" * 64),),
    ),
    "finding": Finding(tick=1, started=1, summary="11 ports, limit 10", **FOUND),
}  # fmt: skip


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[name], format_checker=FormatChecker())


def test_the_committed_files_are_what_the_definitions_say() -> None:
    for name, text in documents().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"docs/{name}: run python docs/generate.py"
    made = {f"schema/{path.name}" for path in (DOCS / "schema").iterdir()}
    assert made == {name for name in documents() if name.startswith("schema/")}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_each_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert orjson.loads(schema_text(SCHEMAS[name])) == SCHEMAS[name]


def said(word: type[Word]) -> set[type[Word]]:
    """The words below one that others are not made from."""
    below = word.__subclasses__()
    return set().union(*map(said, below)) if below else {word}


def test_every_word_has_a_schema_or_is_part_of_one() -> None:
    for module in pkgutil.iter_modules(schemas.__path__):
        importlib.import_module(f"schemas.{module.name}")
    ours = {word.__name__ for word in said(Word) if word.__module__.startswith("schemas.")}
    inner = {name for schema in SCHEMAS.values() for name in schema.get("$defs", {})}
    assert ours - inner - {item.word.__name__ for item in WORDS.values()} == set()


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_sample_is_valid_and_one_without_a_field_is_not(name: str) -> None:
    sample = orjson.loads(SAMPLES[name].encode())
    assert isinstance(SAMPLES[name], WORDS[name].word)
    validator(name).validate(sample)
    for field in SCHEMAS[name]["required"]:
        with pytest.raises(ValidationError):
            validator(name).validate({key: value for key, value in sample.items() if key != field})


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(event_messages())
def test_json_events_are_valid(message: EventMessage) -> None:
    validator("event").validate(orjson.loads(encode_json(message)))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("src", "nowhere"),
        ("src", 5),
        ("src_port", 70_000),
        ("src_packets", -1),
        ("copy", 1),
        ("app", "x" * 513),
        ("odd", 1),
    ],
)
def test_json_events_that_are_refused_are_invalid_too(column: str, value: object) -> None:
    event = orjson.loads(encode_json(small_event()))
    event["rows"]["flow"][0][column] = value
    with pytest.raises(ValidationError):
        validator("event").validate(event)


def test_the_page_names_every_topic_column_and_field() -> None:
    page = documents()["schemas.md"]
    for topic in TOPICS:
        assert f"| `{topic.word}` | {topic.key} |" in page
    for columns in (*KINDS.values(), *SECTIONS.values()):
        for column in columns:
            assert f"| `{column.name}` | " in page
            assert column.meaning.replace("|", "\\|") in page
    for item in WORDS.values():
        assert all(f"| `{field}` | " in page for field in item.word.model_fields)


def test_the_page_promises_only_what_a_source_fills() -> None:
    lines = documents()["schemas.md"].splitlines()
    flow = lines[lines.index("### Rows of kind `flow`") : lines.index("### Rows of kind `dns`")]
    filled = {c.name for c in KINDS["flow"] if c.needs in CAPTURE_CAPABILITIES}
    assert {line.split("`")[1] for line in flow if line.endswith("| capture |")} == filled
    tls = lines[lines.index("### Rows of kind `tls`") : lines.index("### Rows of kind `http`")]
    assert sum(line.endswith("| capture |") for line in tls) == len(KINDS["tls"])


@pytest.mark.parametrize("name", sorted(set(WORDS) - {"finding"}))
def test_every_field_of_a_word_has_a_meaning(name: str) -> None:
    schema = SCHEMAS[name]
    for part in (schema, *schema.get("$defs", {}).values()):
        plain = {key for key, field in part["properties"].items() if not field.get("description")}
        assert plain <= {"type", "schema_version"}
