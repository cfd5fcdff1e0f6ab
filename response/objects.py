"""The objects that responses write: names, labels, annotations, and the policies' rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import orjson

from schemas.policy.addresses import span_of_cidr
from schemas.policy.cluster import NAMESPACE_NAME_LABEL, Pod

MANAGER = "sluicegate"
MANAGED_LABEL = "app.kubernetes.io/managed-by"
RESPONSE_LABEL = "sluicegate.io/response"
QUARANTINE_LABEL = "sluicegate.io/quarantine"
EXPIRES_ANNOTATION = "sluicegate.io/expires-at"
TICK_ANNOTATION = "sluicegate.io/decided-tick"
ALERT_ANNOTATION = "sluicegate.io/alert"
REASON_ANNOTATION = "sluicegate.io/reason"
# On a pod that an incident is about: a label to find it by, and an annotation for each response (JSON).
NOTED_LABEL = "sluicegate.io/noted"
INCIDENT_PREFIX = "incident.sluicegate.io/"
# On a pod: which labels were taken off it (JSON), and from which controller it was taken (Kind/name).
TAKEN_ANNOTATION = "sluicegate.io/taken-labels"
DETACHED_ANNOTATION = "sluicegate.io/detached-from"

# Done once and not there afterwards: nothing to look after, and not to be done again.
EVICTION = "Eviction"

# A product of exclusions grows fast; beyond this a policy is neither readable nor cheap for enforcers.
MAX_PEERS = 64


class TooManyPeersError(ValueError):
    """The exclusions cannot be written in a policy of reasonable size."""


def policy_object(
    namespace: str, name: str, response_id: str, annotations: Mapping[str, str], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """A NetworkPolicy of ours, as an API object."""
    return managed_object("networking.k8s.io/v1", "NetworkPolicy", namespace, name, response_id, annotations, spec)


def managed_object(
    api_version: str,
    kind: str,
    namespace: str,
    name: str,
    response_id: str,
    annotations: Mapping[str, str],
    spec: Mapping[str, Any],
) -> dict[str, Any]:
    """An object of ours of any kind; an empty namespace is an object of the whole cluster."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            "labels": {MANAGED_LABEL: MANAGER, RESPONSE_LABEL: response_id},
            "annotations": dict(sorted(annotations.items())),
        },
        "spec": dict(spec),
    }


def pod_label_object(
    pod: Pod, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A server-side-apply patch that owns just these labels and annotations of a pod.

    One with none gives back whatever an earlier one owned, and nothing else.
    """
    metadata: dict[str, Any] = {"name": pod.name, "namespace": pod.namespace}
    if labels:
        metadata["labels"] = dict(sorted(labels.items()))
    if annotations:
        metadata["annotations"] = dict(sorted(annotations.items()))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def pod_change_object(
    pod: Pod, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]
) -> dict[str, Any]:
    """A change of labels and annotations of just this pod, not of a later one of its name; None takes one off.

    Labels that are others' cannot be taken off by declaring what is ours, so this is a merge patch (RFC 7396).
    """
    metadata: dict[str, Any] = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
    metadata["labels"] = dict(sorted(labels.items()))
    metadata["annotations"] = dict(sorted(annotations.items()))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def incident_key(response_id: str) -> str:
    """The annotation by which a pod says that a response is about it."""
    return f"{INCIDENT_PREFIX}{response_id}"


def taken_text(labels: Mapping[str, str]) -> str:
    """Labels as an annotation keeps them."""
    return orjson.dumps(dict(labels), option=orjson.OPT_SORT_KEYS).decode()


def read_taken(annotations: Mapping[str, str]) -> dict[str, str]:
    """The labels that were taken off a pod, as its annotation has them; none where it is not readable."""
    try:
        found = orjson.loads(annotations.get(TAKEN_ANNOTATION) or "{}")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def stable_labels(pod: Pod, volatile: Iterable[str]) -> dict[str, str]:
    """A pod's labels without those that differ between replicas and revisions, and without our own."""
    dropped = {*volatile, QUARANTINE_LABEL}
    return {key: value for key, value in sorted(pod.labels.items()) if key not in dropped}


def all_but(
    blocked_cidrs: Iterable[str], blocked_pods: Iterable[tuple[str, Mapping[str, str]]]
) -> list[dict[str, Any]]:
    """The peers that are everyone except some addresses and some workloads.

    `blocked_pods` are pairs of namespace and labels. Both an ipBlock and selectors are written, because some enforcers
    apply blocks to pod addresses and others do not; the addresses of blocked pods therefore belong into
    `blocked_cidrs` too. Raises TooManyPeersError.
    """
    cidrs = sorted(set(blocked_cidrs), key=span_of_cidr)
    blocks = [_block("0.0.0.0/0", cidrs), _block("::/0", cidrs)]
    return blocks + _selectors(sorted({(ns, tuple(sorted(labels.items()))) for ns, labels in blocked_pods}))


def _block(whole: str, cidrs: Sequence[str]) -> dict[str, Any]:
    span = span_of_cidr(whole)
    inside = [cidr for cidr in cidrs if span.covers(span_of_cidr(cidr))]
    return {"ipBlock": {"cidr": whole, "except": inside} if inside else {"cidr": whole}}


def _selectors(blocked: Sequence[tuple[str, tuple[tuple[str, str], ...]]]) -> list[dict[str, Any]]:
    if not blocked:
        return [{"namespaceSelector": {}}]
    namespaces = sorted({namespace for namespace, _ in blocked})
    peers: list[dict[str, Any]] = [{"namespaceSelector": _expressions((NAMESPACE_NAME_LABEL, "NotIn", namespaces))}]
    for namespace in namespaces:
        choices = [labels for ns, labels in blocked if ns == namespace]
        # Not (a and b) is (not a) or (not b); several workloads must be avoided at once, so one label of each.
        for picked in sorted({tuple(sorted(set(combination))) for combination in product(*choices)}):
            peers.append(
                {
                    "namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}},
                    "podSelector": _expressions(*((key, "NotIn", [value]) for key, value in picked)),
                }
            )
            if len(peers) > MAX_PEERS:
                message = f"more than {MAX_PEERS} peers would be needed to spare everyone else"
                raise TooManyPeersError(message)
    return peers


def _expressions(*items: tuple[str, str, list[str]]) -> dict[str, Any]:
    return {
        "matchExpressions": [{"key": key, "operator": operator, "values": values} for key, operator, values in items]
    }
