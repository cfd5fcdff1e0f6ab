"""What addresses are called that no inventory names: as clients of their node asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from alerts.wording import title
from detectors.detect import DetectEngine
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from detectors.snapshot import decode_state, encode_state
from schemas.event_codec import EventMessage
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.event_rows import Node, Row, flow, query
from tests.unit.detectors.one_detector import pod

SCANNER, TARGET = "10.0.0.5", "203.0.113.9"


def told(name: str, address: str = TARGET) -> Row:
    return query("10.0.0.7", name, record_type=1, record_data=address)


def scan(dst: str = TARGET) -> list[Row]:
    return [flow(SCANNER, dst, port, marks=1) for port in range(1, 40)]


def engine(inventory: Sequence[InventoryObject] = ()) -> DetectEngine:
    detectors = [d for d in build_detectors() if d.meta.id == "port_scan"]
    return DetectEngine(0, EngineSettings(), detectors, IdentityTable(inventory))


def messages(seconds: Mapping[int, Sequence[Row]], node: Node | None = None) -> list[EventMessage]:
    node = node or Node()
    return [
        node.second(at, flows=[r for r in rows if "dst" in r], dns=[r for r in rows if "qname" in r])
        for at, rows in sorted(seconds.items())
    ]


def scans(one: DetectEngine, given: Sequence[EventMessage]) -> list[Finding]:
    return [f for m in given for t in one.feed([m]).ticks for f in t.findings if f.detector == "port_scan"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({1: [told("www.shop.example")]}, "www.shop.example"),
        ({1: [told("old.example")], 2: [told("new.example")]}, "new.example"),
        ({1: [told("db")]}, "db"),  # names without a zone, as container networks have them
        ({1: [told("www.shop.example", "203.0.113.10")]}, None),
        ({}, None),
    ],
)
def test_an_address_is_called_as_it_was_asked_for_last(asked: dict[int, list[Row]], expected: str | None) -> None:
    (finding, *_) = scans(engine(), messages(asked | {5: scan(), 6: []}))
    assert finding.victims[0].dns_name == expected
    assert finding.attackers[0].dns_name is None


def test_an_hour_later_nobody_remembers() -> None:
    (finding, *_) = scans(engine(), messages({1: [told("www.shop.example")], 4000: scan(), 4001: []}))
    assert finding.victims[0].dns_name is None


def test_what_the_inventory_names_needs_no_hint() -> None:
    known = engine([pod("db-0", "10.0.0.9", "StatefulSet/db")])
    (finding, *_) = scans(known, messages({1: [told("evil.example", "10.0.0.9")], 5: scan("10.0.0.9"), 6: []}))
    assert (finding.victims[0].pod, finding.victims[0].dns_name) == ("db-0", None)


def test_the_names_are_part_of_the_state() -> None:
    node, first, second = Node(), engine(), engine()
    given = messages({1: [told("www.shop.example")], 2: []}, node)
    scans(first, given)
    state = {name: part for name, part in first.snapshot().items() if name == "answered_names"}
    kept = decode_state(encode_state(state["answered_names"].state))
    second.restore(first.snapshot())
    (finding, *_) = scans(second, messages({5: scan(), 6: []}, node))
    assert finding.victims[0].dns_name == "www.shop.example"
    assert list(kept["names"]) == ["0"]


def test_people_read_it_behind_the_address() -> None:
    (finding, *_) = scans(engine(), messages({1: [told("www.shop.example")], 5: scan(), 6: []}))
    assert title(finding.victims[0]) == f"{TARGET} (asked for as www.shop.example)"
