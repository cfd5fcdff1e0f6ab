"""Which dialects an API server serves, and what is written in them: a view with every policy in it, or a note of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from response.kube_words import unless_forbidden
from schemas.policy.cluster import ClusterView, Unread
from schemas.policy.dialects import ApiKind, api_versions, groups_read, read_or_note
from schemas.policy.networkpolicy import NetworkPolicy, PolicyObject


class ListKind(Protocol):
    """Lists the objects of one kind; raises ClusterError."""

    def __call__(self, known: ApiKind, version: str, selector: str = "") -> list[dict[str, Any]]:
        """Those that a selector of labels chooses, as plain dictionaries with apiVersion and kind."""
        ...


def served_plurals(discover: Callable[[str], Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """The kinds' plurals by `group/version` that a server serves, of the groups in which dialects are written.

    `discover` gives the document at a path of the discovery API, empty where there is none. Raises what it raises.
    """
    versions = [
        f"{group['name']}/{version['version']}"
        for group in discover("/apis").get("groups", ())
        for version in group.get("versions", ())
    ]
    wanted = groups_read()
    return {
        name: frozenset(str(item.get("name")) for item in discover(f"/apis/{name}").get("resources", ()))
        for name in versions
        if name in wanted
    }


def with_dialects(
    view: ClusterView,
    policies: Iterable[PolicyObject | Unread],
    kinds: tuple[tuple[ApiKind, str], ...],
    list_kind: ListKind,
) -> ClusterView:
    """A view with NetworkPolicies, as they were read, and the objects of every served kind.

    What cannot be evaluated, or may not be listed, is noted: no proof may stand where it applies.
    """
    read = list(policies)
    for known, version in kinds:
        listed = list_readable(known, version, list_kind)
        if listed is None:
            why = f"{known.plural}.{known.group} may not be listed: grant the role that docs/dialects.md shows"
            read.append(Unread(known.dialect, "", why))
        read += [read_or_note(item, known) for item in listed or ()]
    spoken = [item for item in read if not isinstance(item, Unread)]
    return view.changed(
        policies=tuple(item for item in spoken if isinstance(item, NetworkPolicy)),
        objects=tuple(item for item in spoken if not isinstance(item, NetworkPolicy)),
        unread=tuple(item for item in read if isinstance(item, Unread)),
        served=api_versions(kinds),
    )


def list_readable(known: ApiKind, version: str, list_kind: ListKind, selector: str = "") -> list[dict[str, Any]] | None:
    """The objects of one kind, or none if this process may not list them: then none of them is ours, either."""
    return unless_forbidden(lambda: list_kind(known, version, selector))
