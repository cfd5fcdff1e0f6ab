"""What pods say about incidents: an annotation for each response, and one label by which such pods are found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from response.gateway import Managed
from response.guard import Refusal, subject_of
from response.objects import INCIDENT_PREFIX, NOTED_LABEL, incident_key, pod_change_object
from response.plan import PlanContext
from schemas.policy.cluster import Pod


def involved_pods(context: PlanContext) -> tuple[Pod, ...] | Refusal:
    """The pods of attackers and victims that may be touched, each once; the first refusal where there is none."""
    refusal: Refusal | None = None
    pods: dict[str, Pod] = {}
    for endpoint in (*context.decision.attackers, *context.decision.victims):
        found = subject_of(endpoint, context.view, context.settings)
        if isinstance(found, Refusal):
            refusal = refusal or found
        else:
            pods[found.key] = found
    if pods:
        return tuple(pods.values())
    return refusal or Refusal("no_attacker", "the alert names nobody")


def mark(pod: Pod, context: PlanContext) -> dict[str, Any]:
    """The change that notes a decision on a pod."""
    decision = context.decision
    said = {
        "alert": decision.alert_id, "kind": decision.kind, "severity": decision.severity,
        "decided_tick": decision.decided_tick, "expires_at": context.expires_at,
    }  # fmt: skip
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
    return pod_change_object(pod, {NOTED_LABEL: "true"}, {incident_key(decision.id): text})


def unmark(pod: Pod, response_id: str) -> dict[str, Any]:
    """The step that takes a note back; the label goes with the last of them."""
    return {"step": "unmark", "object": pod_change_object(pod, {NOTED_LABEL: None}, {incident_key(response_id): None})}


def marked(pods: Iterable[Mapping[str, Any]]) -> tuple[Managed, ...]:
    """What each response noted on pods, read back from them."""
    found: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for item in pods:
        for response_id, said in _notes(item):
            found.setdefault(response_id, []).append((item, said))
    return tuple(_managed(response_id, found[response_id]) for response_id in sorted(found))


def _notes(item: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, text in sorted((item["metadata"].get("annotations") or {}).items()):
        if key.startswith(INCIDENT_PREFIX):
            yield key.removeprefix(INCIDENT_PREFIX), _read(text)


def _read(text: str) -> Mapping[str, Any]:
    """What a note says; nothing where somebody spoiled it: then it counts as expired."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _managed(response_id: str, items: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Managed:
    pods = [
        Pod(item["metadata"]["namespace"], item["metadata"]["name"], uid=str(item["metadata"].get("uid", "")))
        for item, _ in items
    ]
    tick = next((said["decided_tick"] for _, said in items if isinstance(said.get("decided_tick"), int)), 0)
    return Managed(
        response_id=response_id,
        alert_id=next((said["alert"] for _, said in items if isinstance(said.get("alert"), str)), ""),
        decided_tick=tick,
        expires_at=min(str(said.get("expires_at", "")) for _, said in items),
        undo=tuple(unmark(pod, response_id) for pod in pods),
        target=", ".join(pod.key for pod in pods),
        objects=tuple({**item, "kind": "Pod"} for item, _ in items),
    )
