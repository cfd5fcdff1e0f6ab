"""Whether the cluster still holds what a containment wrote, and what it holds too much."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from response.gateway import Managed
from response.objects import EVICTION, EXPIRES_ANNOTATION
from schemas.policy.cluster import ClusterView
from schemas.policy.dialects import kind_of, read_object
from schemas.policy.networkpolicy import PolicyError

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs: manifests to write again, steps for what is too much, and the difference in words."""

    missing: tuple[Manifest, ...]
    leftover: tuple[Mapping[str, Any], ...]
    text: str


class DriftWatch:
    """Finds drift, and does not compare again what the cluster says has not changed since it was found as written."""

    def __init__(self) -> None:
        self._clean: dict[str, tuple[Sequence[Manifest], _Stamp]] = {}

    def find(
        self, response_id: str, manifests: Sequence[Manifest], managed: Managed | None, view: ClusterView
    ) -> Drift | None:
        """See `find_drift`."""
        stamp = _stamp(manifests, managed, view)
        written, seen = self._clean.pop(response_id, ((), None))
        if stamp is None or written is not manifests or seen != stamp:
            drift = find_drift(manifests, managed, view)
            if drift is not None or stamp is None:
                return drift
        self._clean[response_id] = (manifests, stamp)
        return None

    def keep(self, response_ids: Container[str]) -> None:
        """Forget all others."""
        self._clean = {key: value for key, value in self._clean.items() if key in response_ids}


# Of each object what it is and its version, and of each pod that was to be labelled whether it is there.
_Stamp = tuple[tuple[str, ...] | bool, ...]


def _stamp(manifests: Iterable[Manifest], managed: Managed | None, view: ClusterView) -> _Stamp | None:
    """What a comparison depends on; none where an object has no version."""
    made: list[tuple[str, ...] | bool] = []
    for item in managed.objects if managed is not None else ():
        metadata = item["metadata"]
        if not metadata.get("resourceVersion"):
            return None
        made.append((*_key(item), str(metadata.get("uid")), str(metadata["resourceVersion"])))
    pods = (key for key in map(_key, manifests) if key[0] == "Pod")
    return (*made, *(view.pod(f"{key[1]}/{key[2]}") is None for key in pods))


def find_drift(manifests: Iterable[Manifest], managed: Managed | None, view: ClusterView) -> Drift | None:
    """The difference between what was written and what is there, or none.

    A pod that is gone is no difference: there is nothing to write a label on.
    """
    present = {_key(item): item for item in (managed.objects if managed is not None else ())}
    missing: list[Manifest] = []
    words: list[str] = []
    wanted: set[tuple[str, str, str]] = set()
    for manifest in manifests:
        key = _key(manifest)
        wanted.add(key)
        if key[0] == EVICTION:
            continue
        if key[0] == "Pod" and view.pod(f"{key[1]}/{key[2]}") is None:
            continue
        found = present.get(key)
        if found is None or not holds(manifest, found):
            missing.append(manifest)
            words.append(f"{key[0]} {key[1]}/{key[2]} was {'deleted' if found is None else 'changed'}")
    undo = managed.undo if managed is not None else ()
    leftover = tuple(step for step in undo if _key(step["object"]) not in wanted)
    words += [f"{step['object']['kind']} {step['object']['metadata']['name']} is left over" for step in leftover]
    return Drift(tuple(missing), leftover, "; ".join(words)) if words else None


def holds(manifest: Manifest, found: Manifest) -> bool:
    """Whether an object of the cluster says what our manifest says, defaults aside."""
    ours = manifest["metadata"].get("labels") or {}
    theirs = found["metadata"].get("labels") or {}
    # One of None was taken off, and must stay off.
    if any(theirs.get(key) != value for key, value in ours.items()):
        return False
    known = kind_of(manifest)
    if known is not None:
        try:
            one, other = (read_object(dict(item), known) for item in (manifest, found))
        except PolicyError:
            return False
        return one.model_dump(exclude={"metadata"}) == other.model_dump(exclude={"metadata"})
    # Of a pod we only write labels; the rest of it is not ours to compare.
    return "spec" not in manifest or _within(manifest["spec"], found.get("spec"))


def with_expiry(manifests: Iterable[Manifest], text: str) -> tuple[dict[str, Any], ...]:
    """The manifests with another time at which they end, without those that were done once."""
    changed = []
    for item in manifests:
        if item.get("kind") == EVICTION:
            continue
        metadata = dict(item["metadata"])
        if EXPIRES_ANNOTATION in (metadata.get("annotations") or {}):
            metadata["annotations"] = {**metadata["annotations"], EXPIRES_ANNOTATION: text}
        changed.append({**item, "metadata": metadata})
    return tuple(changed)


def _within(wanted: Any, found: Any) -> bool:
    """Whether a value holds another: of mappings every entry, of lists every element in its place."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_within(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list | tuple):
        return (
            isinstance(found, list | tuple)
            and len(found) == len(wanted)
            and all(_within(*pair) for pair in zip(wanted, found, strict=True))
        )
    return bool(wanted == found)


def _key(item: Manifest) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return (str(item.get("kind", "")), str(metadata.get("namespace", "")), str(metadata["name"]))
