"""Event messages of ordinary cluster traffic, from a seed: what every benchmark but the exporter's reads.

Each node has 60 pods, each pod 8 (host, port) peers that it calls over and over, skewed so that the busiest
peer takes about a quarter. Seven flow rows in ten open a conversation, three go on with or close one; a few
in a hundred are attempts that dangle or are refused, one in eight comes from an outside client. DNS rows
come on top, one for every twenty flow rows. No host gets so much that a detector would call it flooded: what
is measured is the cost of watching, not of alerting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.event_codec import EventMessage
from schemas.events import ADDRESS, CAPTURE_CAPABILITIES, KINDS, WORD, EventHeader, FlowMark, arrow_schema

# The second after a whole minute: the minute's rows, which models read, fall due once in a run of 61 s.
BEGIN = 1_700_000_101
PODS, PEERS = 60, 8
CLUSTER_NODES = 80  # nodes whose pods are called; the measured nodes are the first of them
FLOWS_PER_DNS_ROW = 20

_OUTSIDE_SERVERS = 4800
_OUTSIDE_CLIENTS = 20_000
_SERVICES = np.array([443, 443, 80, 8080, 5432, 6379, 9092, 3306, 50051, 8443, 9200, 5672], np.int64)
_APPS = np.array(["", "http", "tls"])
_TLS = 2
_ALWAYS_TLS = (6379, 5672)  # Redis and AMQP in clear would be alerted, rightly
_ZONES = ("svc.cluster.local", "example.com", "example.org", "example.net")
_NEW, _INGRESS, _DANGLING, _REFUSED, _CROSSING = 0.70, 0.125, 0.02, 0.01, 0.04
_TCP, _UDP = 6, 17
_OPENED, _SPOKE = int(FlowMark.OPENED), int(FlowMark.OPENED | FlowMark.ESTABLISHED | FlowMark.EXCHANGED)

Array = npt.NDArray[Any]
U8 = npt.NDArray[np.uint8]


def _addresses(first: int, second: int, third: Array, fourth: Array) -> U8:
    """Return IPv4-mapped addresses, uint8, shape (n, 16)."""
    out = np.zeros((len(fourth), 16), np.uint8)
    out[:, 10:12] = 255
    out[:, 12], out[:, 13], out[:, 14], out[:, 15] = first, second, third, fourth
    return out


# Every host there is, by number: the cluster's pods, servers outside, clients outside.
_INSIDE, _SERVERS, _CLIENTS = (np.arange(n) for n in (CLUSTER_NODES * PODS, _OUTSIDE_SERVERS, _OUTSIDE_CLIENTS))
_HOSTS = np.concatenate([
    _addresses(10, 244, _INSIDE // PODS, 10 + _INSIDE % PODS),
    _addresses(198, 18, _SERVERS // 250, 1 + _SERVERS % 250),
    _addresses(198, 19, _CLIENTS // 250, 1 + _CLIENTS % 250),
])  # fmt: skip
_OUTSIDE_CLIENT = len(_INSIDE) + len(_SERVERS)
_RESOLVER = len(_INSIDE) - 1


@dataclass(frozen=True)
class Shape:
    """What to generate: ``nodes`` messages of ``rows`` flow rows for each of ``seconds`` seconds."""

    nodes: int
    seconds: int
    rows: int

    @property
    def flows(self) -> int:
        """Flow rows in all."""
        return self.nodes * self.seconds * self.rows


def ordinary(shape: Shape, seed: int) -> Iterator[EventMessage]:
    """Yield the messages in log order: second by second, within a second node by node.

    Args:
        shape: how much.
        seed: equal seeds and shapes give equal messages.
    """
    dice = np.random.default_rng(seed)
    nodes = [_Node(number, dice) for number in range(shape.nodes)]
    return (node.second(second, shape.rows) for second in range(shape.seconds) for node in nodes)


class _Node:
    """One node: its pods, whom they call, and the messages it has sent."""

    def __init__(self, number: int, dice: np.random.Generator) -> None:
        self._number, self._dice, self._sequence = number, dice, 0
        self._pods = np.arange(PODS) + PODS * number
        self._peer = dice.integers(0, _OUTSIDE_CLIENT, (PODS, PEERS))
        self._port = dice.choice(_SERVICES, (PODS, PEERS))
        self._interfaces = [f"veth{number}x{pod}" for pod in range(PODS)]
        self._names = [f"{word}.{_ZONES[i % 4]}" for i, word in enumerate(_words(dice, 400))]
        weights = np.arange(1, PEERS + 1) ** -0.5
        self._usual = weights / weights.sum()

    def second(self, second: int, rows: int) -> EventMessage:
        """Return the message of one second."""
        cut = BEGIN + second
        header = EventHeader(
            cluster="bench", node=f"node{self._number}", exporter="bench", boot="one", sequence=self._sequence,
            cut=cut, source="capture", capabilities=int(CAPTURE_CAPABILITIES), clock="capture",
        )  # fmt: skip
        self._sequence += 1
        batches = {"flow": self._flows(cut, rows), "dns": self._dns(cut, max(1, rows // FLOWS_PER_DNS_ROW))}
        return EventMessage(header, batches)

    def _flows(self, cut: int, rows: int) -> pa.RecordBatch:
        dice = self._dice
        pod = dice.integers(0, PODS, rows)
        peer = dice.choice(PEERS, rows, p=self._usual)
        marks = self._marks(rows)
        port = self._port[pod, peer]
        ingress = dice.random(rows) < _INGRESS
        clients = dice.integers(_OUTSIDE_CLIENT, len(_HOSTS), rows)
        src = np.where(ingress, clients, self._pods[pod])
        dst = np.where(ingress, self._pods[pod], self._peer[pod, peer])
        given: dict[str, Array | pa.Array] = {
            "src": _hosts(src), "dst": _hosts(dst), "marks": marks,
            "src_port": dice.integers(32_768, 61_000, rows), "dst_port": np.where(ingress, 8080, port),
            "proto": np.where((port == 443) & (dice.random(rows) < 0.1), _UDP, _TCP),
            "flow_id": dice.integers(0, 1 << 63, rows), "direction_known": np.ones(rows, np.bool_),
            "interface": _text(np.where(ingress, PODS, pod), [*self._interfaces, "eth0"]),
            "app": _text(np.where(np.isin(port, _ALWAYS_TLS), _TLS, dice.integers(0, len(_APPS), rows)), list(_APPS)),
            "src_mac": np.where(ingress, 2, 16 + pod), "ttl_min": np.full(rows, 63), "ttl_max": np.full(rows, 64),
        }  # fmt: skip
        return filled_batch("flow", rows, given | self._volumes(cut, marks))

    def _marks(self, rows: int) -> Array:
        dice = self._dice
        chance = dice.random(rows)
        marks = np.full(rows, _SPOKE)
        # Handshakes whose first payload falls into the next second, attempts without an answer, refusals.
        marks[chance < _CROSSING + _DANGLING + _REFUSED] = _OPENED | int(FlowMark.ESTABLISHED)
        marks[chance < _DANGLING + _REFUSED] = _OPENED
        marks[chance < _REFUSED] = _OPENED | int(FlowMark.REFUSED)
        later = dice.choice([0, int(FlowMark.CLOSED), int(FlowMark.EXCHANGED)], rows, p=[0.4, 0.5, 0.1])
        return np.where(dice.random(rows) < _NEW, marks, later)

    def _volumes(self, cut: int, marks: Array) -> dict[str, Array]:
        dice, rows = self._dice, len(marks)
        opened, spoke = (marks & _OPENED) != 0, (marks & int(FlowMark.ESTABLISHED)) != 0
        answered = spoke | ~opened
        end = cut * 1_000_000_000 - dice.integers(1, 1_000_000_000, rows)
        up, down = dice.geometric(0.12, rows), np.where(answered, dice.geometric(0.10, rows), 0)
        src_payload, dst_payload = np.where(answered, up * 180, 0), down * 640
        return {
            "conn_start": end - np.where(opened, 2_000_000, 5_000_000_000), "start": end - 1_500_000, "end": end,
            "src_packets": np.where(answered, up + 2, 1), "dst_packets": np.where(answered, down + 2, 0),
            "src_bytes": src_payload + 52 * (up + 2), "dst_bytes": dst_payload + 52 * down,
            "src_payload": src_payload, "dst_payload": dst_payload,
            "src_syn": opened.astype(np.int64), "dst_synack": spoke.astype(np.int64),
            "src_flags": np.where(opened, 2, 0) | np.where(answered, 24, 0), "dst_flags": np.where(answered, 26, 0),
        }  # fmt: skip

    def _dns(self, cut: int, rows: int) -> pa.RecordBatch:
        dice = self._dice
        given: dict[str, Array | pa.Array] = {
            "time": cut * 1_000_000_000 - dice.integers(1, 1_000_000_000, rows),
            "client": _hosts(self._pods[dice.integers(0, PODS, rows)]), "server": _hosts(np.full(rows, _RESOLVER)),
            "client_port": dice.integers(32_768, 61_000, rows), "transport": np.full(rows, _UDP),
            "id": dice.integers(0, 1 << 16, rows), "qname": _text(dice.integers(0, 400, rows), self._names),
            "qtype": dice.choice([1, 28], rows), "rcode": dice.choice([0, 3], rows, p=[0.7, 0.3]),
            "answer_number": np.ones(rows), "query_bytes": np.full(rows, 48), "answer_bytes": np.full(rows, 96),
            "latency": dice.integers(100_000, 20_000_000, rows),
        }  # fmt: skip
        return filled_batch("dns", rows, given)


def _words(dice: np.random.Generator, count: int) -> list[str]:
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    return [bytes(dice.choice(letters, int(dice.integers(4, 12)))).decode() for _ in range(count)]


def _hosts(number: Array) -> pa.Array:
    """Return hosts as exporters send them: each distinct address once, and indices."""
    used, indices = np.unique(number, return_inverse=True)
    distinct = pa.Array.from_buffers(pa.binary(16), len(used), [None, pa.py_buffer(_HOSTS[used].tobytes())])
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), distinct)


def _text(number: Array, words: list[str]) -> pa.Array:
    used, indices = np.unique(number, return_inverse=True)
    return pa.DictionaryArray.from_arrays(
        pa.array(indices.astype(np.int32)), pa.array([str(words[n]) for n in used], pa.string())
    )


def filled_batch(kind: str, rows: int, given: Mapping[str, Array | pa.Array]) -> pa.RecordBatch:
    """Return a batch; columns that are not given hold what stands for "absent"."""
    arrays = []
    for column in KINDS[kind]:
        values = given.get(column.name)
        if isinstance(values, pa.Array):
            arrays.append(values)
        elif column.dtype in (ADDRESS, WORD):
            nothing = pa.array([bytes(16)] if column.dtype == ADDRESS else [""], column.dtype.value_type)
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), nothing))
        else:
            kept = np.zeros(rows, np.int64) if values is None else values
            arrays.append(pa.array(kept.astype(column.dtype.to_pandas_dtype())))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(kind))
