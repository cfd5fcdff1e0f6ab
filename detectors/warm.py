"""Compile the engine's loops: run by ``make setup`` and when the image is built, so that no start has to.

``python -m detectors.warm`` feeds a made-up minute of two nodes through both stages. What it does not reach is
compiled where it is first needed.
"""

from __future__ import annotations

import numpy as np

from detectors.channels import Channels, regularity
from detectors.correlate import CorrelateEngine
from detectors.detect import DetectEngine
from detectors.kernels.grouping import rank_by, top_by
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from schemas.event_codec import EventMessage, decode, encode, rows_to_batch
from schemas.events import CAPTURE_CAPABILITIES, EventHeader, FlowMark
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from schemas.rollups import decode_rollup

_BEGIN = 1_700_000_100
_SECONDS = (1, 2, 62, 63)


def _message(node: int, sequence: int, second: int) -> EventMessage:
    cut = _BEGIN + second
    header = EventHeader(
        cluster="warm", node=f"node{node}", exporter="warm", boot="warm", sequence=sequence, cut=cut, source="capture",
        capabilities=int(CAPTURE_CAPABILITIES), clock="capture",
    )  # fmt: skip
    flows = [
        {"src": f"10.0.{node}.{i % 5}", "dst": f"10.0.9.{i % 3}", "proto": 6, "dst_port": i, "src_packets": 1,
         "src_bytes": 60, "dst_bytes": 60 * (i % 2), "src_syn": 1, "marks": 1 | 2 * (i % 2)} for i in range(1, 40)
    ]  # fmt: skip
    source = f"10.0.{node}.1"
    tried = {"proto": 6, "dst_port": 100 + sequence, "src_packets": 1, "marks": int(FlowMark.OPENED | FlowMark.REFUSED)}
    spoken = {"proto": 6, "dst_port": 443, "src_packets": 1, "marks": int(FlowMark.OPENED | FlowMark.EXCHANGED)}
    flows += [
        tried | {"src": source, "dst": "10.0.9.9"},
        spoken | {"src": source, "dst": f"192.0.2.{sequence}", "src_payload": 1, "dst_payload": 1},
    ]
    names = [
        {"client": f"10.0.{node}.1", "server": "10.0.9.53", "qname": f"n{i}.example.com", "rcode": 0, "query_bytes": 40}
        for i in range(5)
    ]
    return EventMessage(header, {"flow": rows_to_batch("flow", flows, cut), "dns": rows_to_batch("dns", names, cut)})


def warm() -> None:
    """Run every loop once; takes seconds where the machine code is there, else a minute."""
    settings = EngineSettings(event_partitions=1, rollup_partitions=1)
    pod = InventoryObject(kind="Pod", uid="warm", namespace="warm", name="warm", ips=("10.0.0.1",))
    first = DetectEngine(0, settings, build_detectors(), IdentityTable([pod]))
    second = CorrelateEngine(0, settings, build_detectors(), IdentityTable())
    for sequence, at in enumerate(_SECONDS):
        output = first.feed([decode(encode(_message(node, sequence, at))) for node in range(2)])
        second.feed([decode_rollup(rollup.encode()) for rollup in output.rollups])
    for table in (*first.tables.values(), second.table):
        table.evict()
    _crowd()
    # The numbers of a grouping have 32 bits where nobody widened them.
    groups, values = np.zeros(1, np.int32), np.ones(1, np.int64)
    rank_by(groups, 1)
    top_by(groups, values, values.view(np.uint64), 1, 1)


def _crowd() -> None:
    """More channels than there is room for, and what is asked of one with many calls."""
    channels = Channels(1, 60)
    for tick in (1, 2):
        channels.touch(np.array([tick], np.uint64), np.zeros(1, np.int64), np.array([tick]), np.ones(1, np.bool_))
    slots = np.zeros(1, np.int64)
    channels.heads(slots)
    regularity(channels.rows, slots)


if __name__ == "__main__":
    warm()
