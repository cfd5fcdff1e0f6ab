"""Slow scans: recorded ones whose rows are moved hours apart, the limits, and failures of ordinary programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.kernels.tries import add_tries
from exporter.sources.capture import read_messages
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import CONVERSATION, OPENED, REFUSED, UDP, UNANSWERED, Node, Row, flow

CASES = Path(__file__).parents[2] / "cases"
SCANNER, HOST = "10.0.0.66", "10.0.0.7"


def run(messages: Sequence[EventMessage], identities: IdentityTable | None = None) -> list[Alert]:
    found = [a for output in Pipeline(Parts(PipelineSettings(), identities)).run(messages) for a in output.alerts]
    return [a for a in found if a.detector in ("slow_scan", "port_scan", "host_sweep")]


def tried(port: int, host: str = HOST, marks: int = OPENED | REFUSED, **more: object) -> Row:
    return flow(SCANNER, host, port, marks=marks) | more


def apart(rows: Sequence[Row], seconds: int = 600) -> list[EventMessage]:
    """One row each so many seconds."""
    node = Node()
    return [node.second(1 + at * seconds, flows=[row]) for at, row in enumerate(rows)]


def severities(rows: Sequence[Row], seconds: int = 600, identities: IdentityTable | None = None) -> list[str]:
    return sorted({a.id: a.severity for a in run(apart(rows, seconds), identities)}.values())


@pytest.mark.parametrize("name", ["syn_slow", "connect"])
def test_recorded_tries_of_nmap_moved_apart(name: str) -> None:
    """The first sixteen ports that nmap tried, one in ten minutes instead of one in a second or less."""
    rows = [
        row
        for message in read_messages(CASES / "port_scan" / name / "capture.pcapng.gz", "node1", "lab")
        if "flow" in message.batches
        for row in message.batches["flow"].to_pylist()
        if row["src"][-1] == 66 and row["marks"] & (REFUSED | UNANSWERED)
    ][:16]
    (alert,) = {a.id: a for a in run(apart(rows))}.values()
    assert (alert.detector, alert.severity) == ("slow_scan", "medium")
    assert [e.ip for e in alert.attackers] == ["10.244.1.66"]
    assert [e.ip for e in alert.victims] == ["10.244.1.10"]


@pytest.mark.parametrize(("count", "expected"), [(10, []), (11, ["medium"])])
@pytest.mark.parametrize("marks", [OPENED | REFUSED, OPENED | UNANSWERED, UNANSWERED])
def test_ports_of_one_host_at_and_above_the_limit(count: int, expected: list[str], marks: int) -> None:
    assert severities([tried(1000 + n, marks=marks) for n in range(count)]) == expected


@pytest.mark.parametrize(("count", "expected"), [(40, []), (41, ["low"])])
def test_hosts_at_and_above_the_limit(count: int, expected: list[str]) -> None:
    assert severities([tried(22, f"10.0.1.{n}") for n in range(count)]) == expected


@pytest.mark.parametrize(
    "rows",
    [
        [tried(80)] * 90,  # a client whose server is down
        [tried(1000 + n % 9) for n in range(90)],
        [tried(1000 + n, marks=CONVERSATION) for n in range(60)],
        [tried(33440 + n, marks=OPENED | UNANSWERED, proto=UDP) for n in range(60)],  # traceroute
        [tried(40000 + n, marks=UNANSWERED, proto=UDP, direction_known=False) for n in range(60)],
        [tried(1000 + n, copy=True) for n in range(60)],
    ],
    ids=["retry", "few ports", "served", "traceroute", "answers", "copy"],
)
def test_what_is_no_slow_scan(rows: list[Row]) -> None:
    assert severities(rows) == []


def test_what_is_fast_has_a_detector_of_its_own() -> None:
    node = Node()
    burst = [node.second(at, flows=[tried(1000 + at)]) for at in range(1, 200)]
    assert {a.detector for a in run(burst)} == {"port_scan"}


def test_a_fast_scan_that_comes_again_is_no_slow_one() -> None:
    """Six ports a second, the same sixty every twelve minutes: each time the fast detector's."""
    node = Node()
    messages = [
        node.second(begin + at, flows=[tried(1000 + 6 * at + n) for n in range(6)])
        for begin in range(1, 5 * 720, 720)
        for at in range(10)
    ]
    assert {a.detector for a in run(messages)} == {"port_scan"}


def test_a_day_later_all_is_forgotten() -> None:
    assert severities([tried(1000 + n) for n in range(60)], 9000) == []


def test_a_node_is_many() -> None:
    shared = IdentityTable([InventoryObject(kind="Node", uid="n", name="node1", ips=(SCANNER,))])
    assert severities([tried(1000 + n) for n in range(30)], 600, shared) == []


def test_spoofed_sources_of_a_flood_hide_no_slow_scanner() -> None:
    node = Node()

    def second(n: int, at: int) -> EventMessage:
        noise = [flow(f"11.{n}.{i >> 8}.{i & 255}", "10.0.0.8", 80, marks=UNANSWERED) for i in range(900)]
        return node.second(1 + n * 600 + at * 9, flows=[*noise, *([tried(1000 + n)] if at == 0 else [])])

    assert "slow_scan" in {a.detector for a in run([second(n, at) for n in range(16) for at in range(4)])}


def simply(tries: Sequence[tuple[int, int, int]], per_slot: int, window: int) -> tuple[list[int], list[list[int]]]:
    """The numbers and the tries that the compiled loop gives, by lists; spans of 300 s, at most 64 tries."""
    tried: list[list[int]] = []
    fast, out = 0, []
    for host, port, tick in tries:
        out.append(0)
        last, slot = tried[-per_slot:], tick // 300
        if fast == slot:
            continue
        if len(last) == per_slot and last[0][2] // 300 == slot:
            if all(t[0] == host for t in last) and [host, port] not in [t[:2] for t in tried]:
                fast, tried = slot, tried[:-per_slot]
            continue
        tried = [t for t in tried if t[2] > tick - window]
        if [host, port] not in [t[:2] for t in tried]:
            tried = [*tried, [host, port, tick]][-64:]
            out[-1] = len(tried)
    return out, tried


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(0, 200)), max_size=150), st.integers(2, 12)
)
def test_the_compiled_loop_says_what_lists_say(tries: list[tuple[int, int, int]], per_slot: int) -> None:
    ticks = 1_700_000_000 + np.cumsum(np.array([gap for *_, gap in tries], np.int64))
    rows = np.zeros((2, 2 + 3 * 64), np.int64)
    hosts = np.array([[host, -host] for host, *_ in tries], np.int64).reshape(-1, 2)
    ports = np.array([port for _, port, _ in tries], np.int64)
    told = add_tries(rows, np.ones(len(tries), np.int64), hosts, ports, ticks, (per_slot, 300, 3600))
    expected, kept = simply([(h, p, t) for (h, p, _), t in zip(tries, ticks.tolist(), strict=True)], per_slot, 3600)
    assert told.tolist() == expected
    whole = rows[1, 2 : 2 + 3 * len(kept)].reshape(-1, 3)
    assert [[int(h), int(w) & 0xFFFF, int(w) >> 16] for h, _, w in whole] == kept
    assert not rows[0].any()
