"""Make a case of the recorded hour: `python -m tests.lab.hour.keep CAPTURES FOLDER`.

The captures of each node become the rows of its exporter; the captures are not kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from exporter.sources.capture import read_messages
from schemas.event_codec import EventMessage, write_file
from schemas.inventory import InventoryObject, ServicePort
from sluicegate.inputs import in_cut_order
from tests.lab.hour.nodes import NODES, POD_PORTS, PODS, Pod, node_ip

CLUSTER = "lab"
ROWS_NAME = "events.sge.xz"
MAX_ROWS_BYTES = 20_000_000
_TITLE = "Three nodes on which nothing is wrong"
_NOTES = (
    "An hour by the clock. What a cluster does once in an hour (a rollout and its way back, a renewed certificate) "
    "happens once; backups and builds come more often. A packet between nodes is seen by both."
)


def _capture(folder: Path, node: int, scratch: Path) -> Path:
    """One file of a node, in the order of time."""
    parts = sorted(folder.glob(f"node{node}_*.pcapng"))
    merged, ordered = scratch / f"merged{node}.pcapng", scratch / f"node{node}.pcapng"
    subprocess.run(["mergecap", "-a", "-w", merged, *parts], check=True)
    subprocess.run(["reordercap", merged, ordered], check=True, capture_output=True)
    merged.unlink()
    return ordered


def _object(kind: str, uid: str, **words: Any) -> InventoryObject:
    return InventoryObject.model_validate({"kind": kind, "uid": uid, "cluster": CLUSTER, "name": uid} | words)


def _pod(pod: Pod) -> InventoryObject:
    port = POD_PORTS.get(pod.name)
    labels = {"app": pod.workload} | ({"k8s-app": "kube-dns"} if pod.workload == "dns" else {})
    return _object("Pod", pod.name, namespace=pod.namespace, ips=(pod.ip,), labels=labels, interface=pod.veth,
                   workload=f"{pod.kind}/{pod.workload}", node=f"node{pod.node}",
                   ports={"main": port[0]} if port else {})  # fmt: skip


def inventory() -> bytes:
    """Who has which address, as JSON lines."""
    objects = [_object("Namespace", name) for name in sorted({pod.namespace for pod in PODS})]
    objects += [_object("Node", f"node{n}", ips=(node_ip(n), f"10.244.{n}.1")) for n in NODES]
    objects += [_pod(pod) for pod in PODS]
    objects += [_object("Range", f"pods{n}", ips=(f"10.244.{n}.0/24",), role="internal") for n in NODES]
    ports = [ServicePort(name=p.lower(), protocol=p, port=53, target_port=53) for p in ("UDP", "TCP")]
    objects.append(_object("Service", "dns", namespace="kube-system", ips=("10.96.0.53",), service_ports=tuple(ports),
                           selector={"app": "dns"}))  # fmt: skip
    dumped = (each.model_dump(mode="json", exclude_defaults=True) for each in objects)
    return b"".join(orjson.dumps(each, option=orjson.OPT_SORT_KEYS) + b"\n" for each in dumped)


def _messages(folder: Path, scratch: Path) -> Iterator[EventMessage]:
    return in_cut_order(
        [read_messages(_capture(folder, n, scratch), f"node{n}", CLUSTER, boot=f"node{n}") for n in NODES]
    )


def keep(captures: Path, folder: Path) -> str:
    """Write rows, inventory and `case.json`; returns one line about it. RuntimeError when they are too large."""
    folder.mkdir(parents=True, exist_ok=True)
    target, cuts, rows = folder / ROWS_NAME, [], 0

    def counted(messages: Iterator[EventMessage]) -> Iterator[EventMessage]:
        nonlocal rows
        for message in messages:
            held = sum(message.rows(kind) for kind in message.batches)
            rows += held
            if held:
                cuts.append(message.header.cut)
            yield message

    with (
        tempfile.TemporaryDirectory(dir=captures) as scratch, target.open("wb") as file,
        lzma.open(file, "wb") as packed,
    ):  # fmt: skip
        write_file(cast(BinaryIO, packed), counted(_messages(captures, Path(scratch))))
    raw = target.read_bytes()
    if len(raw) > MAX_ROWS_BYTES:
        raise RuntimeError(f"{target} has {len(raw)} bytes, more than {MAX_ROWS_BYTES}")
    told = {
        "id": "hour", "title": _TITLE, "input": ROWS_NAME,
        "format": "events", "tier": "A", "span_s": max(cuts) - min(cuts),
        "provenance": "recorded by tests/lab/hour in network namespaces; Apache-2.0",
        "first": datetime.fromtimestamp(min(cuts) - 1, UTC).isoformat().replace("+00:00", "Z"),
        "rows": rows, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest(), "notes": _NOTES,
        "expect": [{"expect": "silence", "kind": "any", "note": "nothing is wrong"}],
    }  # fmt: skip
    (folder / "case.json").write_text(json.dumps(told, indent=2) + "\n")
    (folder / "inventory.jsonl").write_bytes(inventory())
    return f"{target}: {rows:,} rows, {len(raw) / 1e6:.1f} MB"


def main() -> int:
    """Keep the hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(keep(options.captures, options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
