"""What responses have in a cluster, read back from the objects that carry our labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from response.gateway import Managed
from response.objects import (
    ALERT_ANNOTATION,
    DETACHED_ANNOTATION,
    EXPIRES_ANNOTATION,
    QUARANTINE_LABEL,
    RESPONSE_LABEL,
    TICK_ANNOTATION,
    read_taken,
)
from response.steps import delete_detached, restore_labels, undo_label, undo_node_mark, undo_policy
from schemas.policy.cluster import Pod

_NETWORKING = "networking.k8s.io/v1"


def group_managed(policies: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> tuple[Managed, ...]:
    """Our policies, and the nodes and pods with our label, by response id, with the steps that take them back.

    Labels come off before policies go. An object without readable annotations keeps empty ones; it is still listed.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for item in pods:
        found.setdefault(_label(item, QUARANTINE_LABEL), []).append({**item, "kind": "Pod"})
    for item in policies:
        # Lists leave out what all their items share; only NetworkPolicies come without.
        known = {"kind": item.get("kind") or "NetworkPolicy", "apiVersion": item.get("apiVersion") or _NETWORKING}
        found.setdefault(_label(item, RESPONSE_LABEL), []).append({**item, **known})
    return tuple(_managed(response_id, found[response_id]) for response_id in sorted(found))


def _managed(response_id: str, items: list[Mapping[str, Any]]) -> Managed:
    names = [_name(item["metadata"]) for item in items]
    tick = _annotation(items, TICK_ANNOTATION)
    return Managed(
        response_id=response_id,
        alert_id=_annotation(items, ALERT_ANNOTATION),
        decided_tick=int(tick) if tick.isascii() and tick.isdigit() else 0,
        expires_at=_annotation(items, EXPIRES_ANNOTATION),
        undo=tuple(_undo(item) for item in items),
        target=", ".join(names),
        objects=tuple(items),
    )


def _undo(item: Mapping[str, Any]) -> dict[str, Any]:
    if item["kind"] == "Node":
        return undo_node_mark(str(item["metadata"]["name"]))
    if item["kind"] != "Pod":
        return undo_policy(item)
    metadata = item["metadata"]
    pod = Pod(metadata["namespace"], metadata["name"], uid=str(metadata.get("uid", "")))
    notes = metadata.get("annotations") or {}
    if notes.get(DETACHED_ANNOTATION):
        return delete_detached(pod, _label(item, QUARANTINE_LABEL))
    taken = read_taken(notes)
    return restore_labels(pod, taken) if taken else undo_label(pod)


def _name(metadata: Mapping[str, Any]) -> str:
    space = metadata.get("namespace")
    return f"{space}/{metadata['name']}" if space else str(metadata["name"])


def _label(item: Mapping[str, Any], name: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(name, ""))


def _annotation(items: Iterable[Mapping[str, Any]], name: str) -> str:
    """The smallest value of an annotation among some objects: for expiries, the earliest."""
    values = [(item["metadata"].get("annotations") or {}).get(name) for item in items]
    return min((value for value in values if value), default="")


def together(found: Iterable[Managed]) -> tuple[Managed, ...]:
    """Everything that each response has, wherever it was found, by response id."""
    made: dict[str, Managed] = {}
    for item in found:
        before = made.get(item.response_id)
        made[item.response_id] = item if before is None else _both(before, item)
    return tuple(made[key] for key in sorted(made))


def _both(one: Managed, other: Managed) -> Managed:
    """What a response has in both places; it ends when the first of them does."""
    ends = [text for text in (one.expires_at, other.expires_at) if text]
    return replace(
        one,
        alert_id=one.alert_id or other.alert_id,
        decided_tick=one.decided_tick or other.decided_tick,
        expires_at=min(ends) if len(ends) == 2 else "",
        undo=(*one.undo, *other.undo),
        target=", ".join((one.target, other.target)),
        objects=(*one.objects, *other.objects),
    )
