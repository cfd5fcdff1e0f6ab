"""What the responder needs of a cluster, whoever provides it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from schemas.policy.cluster import ClusterView, Controller, Node


class ClusterError(Exception):
    """Something the cluster did not do: `reason` is one word, the text one line with place and remedy."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Managed:
    """What one response has in the cluster now, read from the objects themselves.

    `expires_at` is the earliest expiry written on them, ISO 8601 UTC text, empty where none is readable. `undo` are
    the steps that take everything back. `objects` are the API objects themselves.
    """

    response_id: str
    alert_id: str
    decided_tick: int
    expires_at: str
    undo: tuple[dict[str, Any], ...]
    target: str
    objects: tuple[Mapping[str, Any], ...] = ()


class Gateway(Protocol):
    """A cluster that can be read and changed. Every method may raise ClusterError."""

    def view(self) -> ClusterView:
        """Pods, namespaces, policies and services as they are now."""
        ...

    def controllers(self, namespace: str) -> tuple[Controller, ...] | None:
        """What owns pods in a namespace, or None where that cannot be told."""
        ...

    def nodes(self) -> tuple[Node, ...] | None:
        """The nodes, or None where that cannot be told."""
        ...

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Write one object of ours, or refuse if the name belongs to somebody else."""
        ...

    def undo(self, step: Mapping[str, Any]) -> None:
        """Take one step back; an object that is gone already is no error."""
        ...

    def managed(self, response_id: str | None = None) -> tuple[Managed, ...]:
        """Everything that any response of ours has in the cluster, by response id; of one alone, where given."""
        ...

    def kill_switch(self, name: str) -> str:
        """Why nothing may be applied: a sentence if the ConfigMap `namespace/name` exists, else empty."""
        ...

    def note(self, event: Mapping[str, Any]) -> None:
        """Write one Kubernetes Event; one of the same name that exists already is no error."""
        ...


WatchedKind = Literal["NetworkPolicy", "Pod", "Namespace"]
WATCHED_KINDS: tuple[WatchedKind, ...] = ("NetworkPolicy", "Pod", "Namespace")


@runtime_checkable
class Watched(Protocol):
    """A cluster that says when something in it changes."""

    def changes(self, kind: WatchedKind) -> Iterator[None]:
        """One item for every object of a kind, then one for every change of any. May raise ClusterError."""
        ...

    def kill_switch_changes(self, name: str) -> Iterator[None]:
        """One item whenever the ConfigMap `namespace/name` comes, changes or goes. May raise ClusterError."""
        ...

    def dialect_changes(self) -> Mapping[str, Callable[[], Iterator[None]]]:
        """The same for each kind of another dialect that is served, by name. May raise ClusterError."""
        ...


@runtime_checkable
class LeaseStore(Protocol):
    """A cluster that keeps Leases. Both may raise ClusterError."""

    def read_lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The Lease of a name, or none."""
        ...

    def write_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Lease, or replace the one whose resourceVersion it carries; as it is now."""
        ...
