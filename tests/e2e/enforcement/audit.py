"""What the API server itself says was written, from its audit log."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.apiserver import ApiServer

_WRITES = ("create", "update", "patch", "delete", "deletecollection")
_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Request",
            "verbs": list(_WRITES),
            "resources": [
                {"group": "", "resources": ["pods", "namespaces"]},
                {"group": "networking.k8s.io", "resources": ["networkpolicies"]},
            ],
        },
        {"level": "None"},
    ],
}


def flags(folder: Path) -> tuple[str, ...]:
    """What a server needs to be told to keep the log in its folder."""
    policy = folder / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(_POLICY))
    return f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}", "--audit-log-batch-max-size=1"


def entries(server: ApiServer) -> Iterator[dict[str, Any]]:
    """Every write to pods, namespaces and policies so far, in the order of their completion."""
    for line in (server.directory / "audit.log").read_text().splitlines():
        yield json.loads(line)


def written(server: ApiServer, response_id: str, told: float) -> float:
    """When everything that a response had written by the time it was told of was there; all in s since the epoch."""
    done: list[float] = []
    for entry in entries(server):
        named = response_id in entry["objectRef"].get("name", "")
        if named or response_id in json.dumps(entry.get("requestObject", {})):
            done.append(datetime.datetime.fromisoformat(entry["stageTimestamp"]).timestamp())
    return max(moment for moment in done if moment <= told)
