"""Attacks put into generated traffic, from a seed: who does what to whom, and in which seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.generate import BEGIN, CLUSTER_NODES
from schemas.event_codec import EventMessage
from tests.torture.recut import in_sequence
from tests.torture.rows import attempts, conversations, ip4, lookups, random_names

# Hosts above the pods of the generated traffic (10 to 69), so that nobody else calls them.
SCANNER, SCANNED, SWEEPER, FLOODED, CALLED, CALLER, LEAKER = 200, 201, 202, 203, 204, 205, 206
RESOLVER = ip4(198, 51, 100, 53)
ZONE = "t.hidden.example"
_EVERY_S = 90  # s of event time in which each kind of attack happens once
_QUIET_S = 20  # s at both ends without one
_PART_ROWS = 2000  # rows of a kind in a message, as exporters send them

Rows = Callable[[int, int, np.random.Generator], pa.RecordBatch]


@dataclass(frozen=True)
class Attack:
    """One attack: its rows leave `node` in `seconds` seconds from `begin` (s after the stream's first second).

    `rows` makes a second's rows from (cut, second of the attack, dice).
    """

    kind: str
    detector: str
    node: int
    begin: int
    seconds: int
    table: str
    rows: Rows

    def during(self, second: int) -> bool:
        """Tell whether it goes on."""
        return self.begin <= second < self.begin + self.seconds


def plan(seed: int, nodes: int, seconds: int) -> list[Attack]:
    """Return every kind of attack once in each `_EVERY_S` seconds, from nodes and at times that the seed chooses."""
    dice = np.random.default_rng([seed, 0])
    made = []
    for _ in range(max(1, seconds // _EVERY_S)):
        for kind in KINDS.values():
            node = int(dice.integers(0, nodes))
            attack = kind(node, 0)
            latest = max(_QUIET_S + 1, seconds - attack.seconds - _QUIET_S)
            made.append(kind(node, int(dice.integers(_QUIET_S, latest))))
    return sorted(made, key=lambda attack: (attack.begin, attack.kind, attack.node))


def scan(node: int, begin: int) -> Attack:
    """A pod tries 300 ports of another in 10 s."""
    src, dst = pod(node, SCANNER), pod(node + 1, SCANNED)

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        return attempts(cut, np.full(30, src), dst, 1000 + 30 * second + np.arange(30), dice)

    return Attack("scan", "port_scan", node, begin, 10, "flow", rows)


def sweep(node: int, begin: int) -> Attack:
    """A pod tries ssh on 240 outside hosts in 12 s."""

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        return attempts(cut, np.full(20, pod(node, SWEEPER)), ip4(203, 0, 113, 20 * second + np.arange(20)), 22, dice)

    return Attack("sweep", "host_sweep", node, begin, 12, "flow", rows)


def syn_flood(node: int, begin: int, *, per_second: int = 500, seconds: int = 20) -> Attack:
    """One false source per packet, from the uplink, to one pod's web server."""

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        src = dice.integers(11 << 24, 223 << 24, per_second).astype(np.uint32)
        return attempts(cut, src, pod(node, FLOODED), 80, dice)

    return Attack("syn flood", "syn_flood", node, begin, seconds, "flow", rows)


def connection_flood(node: int, begin: int) -> Attack:
    """Forty outside clients make 2,400 connections to one pod's database in 30 s, and talk."""

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        return conversations(cut, ip4(192, 0, 2, np.arange(80) % 40 + 1), pod(node, CALLED), 5432, dice)

    return Attack("connection flood", "connection_flood", node, begin, 30, "flow", rows)


def tunnel(node: int, begin: int) -> Attack:
    """A pod asks one zone for 800 names that are data, in 40 s."""

    def rows(cut: int, second: int, dice: np.random.Generator) -> pa.RecordBatch:
        return lookups(cut, pod(node, LEAKER), RESOLVER, random_names(20, 40, ZONE, dice), dice)

    return Attack("tunnel", "dns_tunnel", node, begin, 40, "dns", rows)


KINDS: dict[str, Callable[[int, int], Attack]] = {
    "scan": scan, "sweep": sweep, "syn_flood": syn_flood, "connection_flood": connection_flood, "tunnel": tunnel,
}  # fmt: skip


def injected(messages: Iterable[EventMessage], attacks: Sequence[Attack], seed: int) -> Iterator[EventMessage]:
    """Yield a generated stream (`benchmarks.generate.ordinary`) with the attacks' rows as further parts of seconds."""
    by_node: dict[str, list[tuple[int, Attack]]] = {}
    for number, attack in enumerate(attacks):
        by_node.setdefault(f"node{attack.node}", []).append((number, attack))
    return in_sequence(_injected(messages, by_node, seed))


def _injected(
    messages: Iterable[EventMessage], by_node: dict[str, list[tuple[int, Attack]]], seed: int
) -> Iterator[EventMessage]:
    for message in messages:
        cut, parts = message.header.cut, [message]
        for number, attack in by_node.get(message.header.node, ()):
            second = cut - BEGIN
            if attack.during(second):
                dice = np.random.default_rng([seed, 1, number, second])
                rows = attack.rows(cut, second - attack.begin, dice)
                pieces = [rows.slice(at, _PART_ROWS) for at in range(0, rows.num_rows, _PART_ROWS)]
                if len(pieces) == 1:
                    parts[0] = _beside(parts[0], attack.table, pieces.pop())
                parts += [EventMessage(message.header, {attack.table: piece}) for piece in pieces]
        if len(parts) > 1:
            parts = [
                EventMessage(part.header.model_copy(update={"part": place, "parts": len(parts)}), part.batches)
                for place, part in enumerate(parts)
            ]
        yield from parts


def _beside(message: EventMessage, kind: str, rows: pa.RecordBatch) -> EventMessage:
    """Return a message with more rows of a kind after its own, in one batch."""
    own = [message.batches[kind]] if kind in message.batches else []
    table = pa.Table.from_batches([*own, rows]).unify_dictionaries().combine_chunks()
    return EventMessage(message.header, {**message.batches, kind: table.to_batches()[0]})


def pod(node: int, host: int) -> np.uint32:
    """Return the address of a host on a node of the generated traffic."""
    return np.uint32(ip4(10, 244, node % CLUSTER_NODES, host))
