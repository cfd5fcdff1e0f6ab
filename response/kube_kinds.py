"""Kinds of the Kubernetes API as plain dictionaries: typed clients drop fields that they do not know."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info

from schemas.policy.dialects import NETWORKPOLICY, kind_of


class RawNetworkPolicy(GenericNamespacedResource):
    """A NetworkPolicy as a plain dictionary."""

    # Not by the client's own factory: that registers the kind for the whole process, and refuses a second one.
    _api_info = create_api_info("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")


class RawPod(GenericNamespacedResource):
    """A Pod as a plain dictionary."""

    _api_info = create_api_info("", "v1", "Pod", "pods")


class RawService(GenericNamespacedResource):
    """A Service as a plain dictionary."""

    _api_info = create_api_info("", "v1", "Service", "services")


class RawNamespace(GenericGlobalResource):
    """A Namespace as a plain dictionary."""

    _api_info = create_api_info("", "v1", "Namespace", "namespaces")


class RawNode(GenericGlobalResource):
    """A Node as a plain dictionary."""

    _api_info = create_api_info("", "v1", "Node", "nodes")


class RawConfigMap(GenericNamespacedResource):
    """A ConfigMap as a plain dictionary."""

    _api_info = create_api_info("", "v1", "ConfigMap", "configmaps")


class RawEvent(GenericNamespacedResource):
    """An Event as a plain dictionary."""

    _api_info = create_api_info("", "v1", "Event", "events")


class RawLease(GenericNamespacedResource):
    """A Lease as a plain dictionary."""

    _api_info = create_api_info("coordination.k8s.io", "v1", "Lease", "leases")


NAMED: Mapping[str, Any] = {
    "NetworkPolicy": RawNetworkPolicy, "Pod": RawPod, "ConfigMap": RawConfigMap, "Lease": RawLease, "Node": RawNode,
}  # fmt: skip


@cache
def resource(api_version: str, kind: str, plural: str, namespaced: bool) -> Any:
    """A kind of any group as plain dictionaries."""
    group, _, version = api_version.rpartition("/")
    base = GenericNamespacedResource if namespaced else GenericGlobalResource
    return type(f"Raw{kind}", (base,), {"_api_info": create_api_info(group, version, kind, plural)})


def kind_class(target: Mapping[str, Any]) -> Any:
    """The kind of an object of ours, as the client wants it."""
    known = kind_of(target)
    if known is None or known is NETWORKPOLICY:
        return NAMED[target["kind"]]
    return resource(target["apiVersion"], known.kind, known.plural, known.namespaced)


def scope_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The namespace of an object, as the client wants it; nothing for one of the whole cluster."""
    return {"namespace": metadata["namespace"]} if metadata.get("namespace") else {}
