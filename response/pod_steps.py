"""Steps that take pods back, against the pod as it is now: what is another's by then is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from response.gateway import ClusterError
from response.objects import INCIDENT_PREFIX, QUARANTINE_LABEL

Object = Mapping[str, Any]


def is_meant(target: Object, present: Object) -> bool:
    """Whether an object is the one that a step is about, where it says which by a uid."""
    return bool(target["metadata"].get("uid", present["metadata"]["uid"]) == present["metadata"]["uid"])


def goes_back(target: Object, present: Object) -> dict[str, Any] | None:
    """The change that gives a pod its labels back, or none where it is another pod by now.

    A label that somebody wrote anew meanwhile is his.
    """
    if not is_meant(target, present):
        return None
    labels = present["metadata"].get("labels") or {}
    metadata = dict(target["metadata"])
    metadata["labels"] = {key: value for key, value in metadata["labels"].items() if value is None or key not in labels}
    return {**target, "metadata": metadata}


def unmarks(target: Object, present: Object) -> dict[str, Any] | None:
    """The change that takes a note off a pod, or none where it is another pod by now.

    The label by which noted pods are found stays while another response has a note there.
    """
    if not is_meant(target, present):
        return None
    ours = target["metadata"]["annotations"]
    notes = present["metadata"].get("annotations") or {}
    metadata = dict(target["metadata"])
    if any(key.startswith(INCIDENT_PREFIX) and key not in ours for key in notes):
        del metadata["labels"]
    return {**target, "metadata": metadata}


def may_end(target: Object, present: Object) -> bool:
    """Whether a pod is the one that a response took from its controller.

    Raises:
        ClusterError: it is, but somebody owns it (still, or again), and whoever owns a pod decides about it.
    """
    ours = target["metadata"]["labels"][QUARANTINE_LABEL]
    theirs = (present["metadata"].get("labels") or {}).get(QUARANTINE_LABEL)
    if not is_meant(target, present) or theirs != ours:
        return False
    owner = next((item for item in present["metadata"].get("ownerReferences") or () if item.get("controller")), None)
    if owner is None:
        return True
    metadata, who = present["metadata"], f"{owner.get('kind')}/{owner.get('name')}"
    message = f"Pod {metadata.get('namespace', '')}/{metadata['name']} is owned by {who}: it is not deleted"
    raise ClusterError(message, "still_there")
