"""Running one detector over rows, and pods for its inventory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detectors.detect import DetectEngine
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from schemas.event_codec import EventMessage
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject


def run(
    name: str, messages: Iterable[EventMessage], inventory: Sequence[InventoryObject] = (), **config: Any
) -> list[Finding]:
    detectors = [d for d in build_detectors({name: config}) if d.meta.id == name]
    engine = DetectEngine(0, EngineSettings(), detectors, IdentityTable(inventory))
    return [f for m in messages for t in engine.feed([m]).ticks for f in t.findings if f.detector == name]


def pod(name: str, ip: str, workload: str, namespace: str = "shop", **labels: str) -> InventoryObject:
    return InventoryObject(kind="Pod", uid=name, namespace=namespace, name=name, ips=(ip,), workload=workload,
                           labels={k.replace("__", "/").replace("_", "."): v for k, v in labels.items()})  # fmt: skip
