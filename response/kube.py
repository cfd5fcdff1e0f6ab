"""The Kubernetes API as a gateway; the only module of the core that knows a cluster client.

Objects are read and written as plain dictionaries: typed clients drop fields they do not know, and an unknown kind of
peer must be seen to be refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import yaml
from lightkube import ApiError, Client, KubeConfig
from lightkube.config.client_adapter import Client as make_http
from lightkube.config.client_adapter import ConnectionParams
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import GenericGlobalResource
from lightkube.operators import exists
from lightkube.types import PatchType

from response.api_objects import ObjectError, read_controller, read_node, read_pod, read_service
from response.gateway import ClusterError, Managed, WatchedKind
from response.kube_calls import clear_errors, insist, name_of, one_line
from response.kube_dialects import list_readable, served_plurals, with_dialects
from response.kube_kinds import (
    NAMED,
    RawEvent,
    RawLease,
    RawNamespace,
    RawNetworkPolicy,
    RawNode,
    RawPod,
    RawService,
    kind_class,
    resource,
    scope_of,
)
from response.managed import group_managed, together
from response.marks import marked
from response.objects import EVICTION, MANAGED_LABEL, MANAGER, NOTED_LABEL, QUARANTINE_LABEL, RESPONSE_LABEL
from response.pod_steps import goes_back, is_meant, may_end, unmarks
from schemas.policy.cluster import ClusterView, Controller, Node
from schemas.policy.dialects import ApiKind, kind_of, served_kinds

__all__ = ["KubeGateway", "RawEvent", "RawNamespace", "RawNetworkPolicy", "RawPod", "RawService"]


# Whatever owns pods by a selector, with its API group and plural.
_CONTROLLERS = (
    ("apps/v1", "ReplicaSet", "replicasets"), ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "DaemonSet", "daemonsets"), ("batch/v1", "Job", "jobs"),
    ("v1", "ReplicationController", "replicationcontrollers"),
)  # fmt: skip
# Looks at a pod that is ending, and s between two: longer than most take, shorter than a step may.
_LOOKS, _LOOK_PAUSE = 20, 0.25
# After this the server ends a watch and a new one begins: a connection that died silently is not trusted for ever.
_WATCH_SECONDS = 300
# What kubectl asks for at a time: the server need not build one huge answer.
_PAGE = 500
# The client parses kubeconfigs without checking their shape: a wrong one surfaces as any of these.
_CONFIG_ERRORS = (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, yaml.YAMLError)


class KubeGateway:
    """A real cluster, reached as a kubeconfig says."""

    def __init__(
        self,
        kubeconfig: Path | None = None,
        context: str | None = None,
        timeout_s: float = 10.0,
        fence: Callable[[], None] = lambda: None,
    ) -> None:
        """Raises ClusterError for a kubeconfig that cannot be used.

        Without a path: the service account inside a cluster, else KUBECONFIG, else ~/.kube/config. `timeout_s` bounds
        each request; ten seconds is far above what a healthy API server needs for a page of objects. `fence` is called
        before every change and raises ClusterError where this process may no longer make any.
        """
        self._fence = fence
        name = str(kubeconfig) if kubeconfig is not None else "the kubeconfig of the environment"
        try:
            config = KubeConfig.from_file(kubeconfig) if kubeconfig is not None else KubeConfig.from_env()
            chosen = config.get(context)
            if chosen is None:
                message = "it names no current context"
                raise ConfigError(message)
            self._client = Client(chosen, timeout=httpx.Timeout(timeout_s), field_manager=MANAGER)
            # What is served is no object that the client could list.
            self._http = make_http(chosen, ConnectionParams(timeout=httpx.Timeout(timeout_s)))
            # A watch is silent for as long as nothing changes.
            waiting = httpx.Timeout(timeout_s, read=_WATCH_SECONDS + timeout_s)
            self._watching = Client(chosen, timeout=waiting, field_manager=MANAGER)
        except _CONFIG_ERRORS as error:
            message = one_line(f"{name} cannot be used: {error}")
            raise ClusterError(message, "bad_kubeconfig") from None

    def close(self) -> None:
        """Close the connections; the gateway is of no use afterwards."""
        self._client.close()
        self._watching.close()
        self._http.close()

    def view(self) -> ClusterView:
        """Pods, namespaces, services, and policies of every dialect as they are now."""
        try:
            pods = tuple(pod for item in self._list(RawPod) if (pod := read_pod(item)) is not None)
            services = tuple(read_service(item) for item in self._list(RawService))
        except ObjectError as error:
            raise ClusterError(one_line(str(error)), "unreadable_object") from None
        namespaces = {
            item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in self._list(RawNamespace)
        }
        bare = ClusterView(pods=pods, namespaces=namespaces, services=services)
        return with_dialects(bare, self._list(RawNetworkPolicy), self.served(), self._list_kind)

    def served(self) -> tuple[tuple[ApiKind, str], ...]:
        """The kinds of other dialects that the server serves, each with its version."""
        return served_kinds(served_plurals(self._discover))

    def _list_kind(self, known: ApiKind, version: str, labels: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        name = f"{known.group}/{version}"
        found = self._list(resource(name, known.kind, known.plural, known.namespaced), labels)
        return [{**item, "kind": known.kind, "apiVersion": name} for item in found]

    def _discover(self, path: str) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            answer = self._http.get(path)
            if answer.status_code == 404:
                return {}
            answer.raise_for_status()
            found = answer.json()
            return found if isinstance(found, dict) else {}

        return insist(f"read what the API serves at {path}", read) or {}

    def controllers(self, namespace: str) -> tuple[Controller, ...] | None:
        """What owns pods in a namespace, or None where that may not be listed."""
        found: list[Controller] = []
        try:
            for version, kind, plural in _CONTROLLERS:
                listed = self._list(resource(version, kind, plural, namespaced=True), namespace=namespace)
                found += [read_controller(item, kind) for item in listed]
        except ObjectError as error:
            raise ClusterError(one_line(str(error)), "unreadable_object") from None
        except ClusterError as error:
            if error.reason == "forbidden":
                return None
            raise
        return tuple(found)

    def nodes(self) -> tuple[Node, ...] | None:
        """The nodes, or None where they may not be listed."""
        listed = self._nodes()
        try:
            return None if listed is None else tuple(map(read_node, listed))
        except ObjectError as error:
            raise ClusterError(one_line(str(error)), "unreadable_object") from None

    def _nodes(self, labels: dict[str, Any] | None = None) -> list[dict[str, Any]] | None:
        try:
            return [{**item, "kind": "Node", "apiVersion": "v1"} for item in self._list(RawNode, labels)]
        except ClusterError as error:
            if error.reason == "forbidden":
                return None
            raise

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Write one object; refuses a policy that is not ours, and a pod that does not exist or is another by now."""
        if manifest["kind"] == EVICTION:
            self._evict(manifest)
            return
        present = self._get(manifest)
        if kind_of(manifest) is not None:
            if present is not None:
                _refuse_foreign(present)
        elif present is None or not is_meant(manifest, present):
            message = f"{name_of(manifest)} no longer exists"
            raise ClusterError(message, "gone")
        self._patch(manifest)

    def undo(self, step: Mapping[str, Any]) -> None:
        """Delete a policy of ours, give a pod its labels back, or end a pod that was taken from its controller."""
        target = step["object"]
        present = self._get(target)
        if present is None:
            return
        if step["step"] == "unlabel":
            self._patch(target)
            return
        if step["step"] in ("restore", "unmark"):
            change = (goes_back if step["step"] == "restore" else unmarks)(target, present)
            if change is not None:
                self._patch(change)
            return
        if step["step"] == "delete_detached":
            if may_end(target, present):
                self._end_pod(target)
            return
        _refuse_foreign(present)
        metadata = target["metadata"]
        kind = kind_class(target)
        self._fence()
        insist(
            f"delete {name_of(target)}",
            lambda: self._client.delete(kind, metadata["name"], **scope_of(metadata)),
            missing_is_fine=True,
        )

    def managed(self) -> tuple[Managed, ...]:
        """Everything that any response of ours has in the cluster, by response id."""
        policies = self._list(RawNetworkPolicy, {MANAGED_LABEL: MANAGER})
        for known, version in self.served():
            policies += list_readable(known, version, self._list_kind, {MANAGED_LABEL: MANAGER}) or []
        # A quarantine label without its policy still is ours to take back; one that somebody else wrote is his.
        pods = [pod for pod in self._list(RawPod, {QUARANTINE_LABEL: exists()}) if _written_by_us(pod)]
        noted = [pod for pod in self._list(RawPod, {NOTED_LABEL: exists()}) if _written_by_us(pod)]
        policies += self._nodes({RESPONSE_LABEL: exists()}) or []
        return together((*group_managed(policies, pods), *marked(noted)))

    def kill_switch(self, name: str) -> str:
        """Why nothing may be applied: a sentence if the ConfigMap `namespace/name` exists, else empty."""
        namespace, _, plain = name.partition("/")
        wanted = {"kind": "ConfigMap", "metadata": {"namespace": namespace, "name": plain}}
        return f"ConfigMap {name} exists" if self._get(wanted) is not None else ""

    def note(self, event: Mapping[str, Any]) -> None:
        """Write one Kubernetes Event; one of the same name that exists already is no error."""
        self._fence()
        made = RawEvent.from_dict(dict(event))
        try:
            with clear_errors(f"note on {name_of(event)}"):
                self._client.create(made, namespace=event["metadata"]["namespace"])
        except ClusterError as error:
            if error.reason != "conflict":
                raise

    def may(self, verb: str, group: str, plural: str) -> bool:
        """Whether the server lets this process do something to a kind of object in every namespace."""
        wanted = {"verb": verb, "group": group, "resource": plural}
        if "/" in plural:
            wanted["resource"], wanted["subresource"] = plural.split("/", 1)
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }  # fmt: skip

        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = insist("ask for this process's rights", lambda: self._send("POST", path, review))
        return bool((answer or {}).get("status", {}).get("allowed"))

    def read_lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The Lease of a name, or none."""
        return self._get({"kind": "Lease", "metadata": {"namespace": namespace, "name": name}})

    def write_lease(self, lease: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Lease, or replace the one whose resourceVersion it carries; as it is now.

        Raises:
            ClusterError: with reason conflict, somebody else was faster. Never tried again by itself.
        """
        metadata = lease["metadata"]
        made = RawLease.from_dict(dict(lease))
        with clear_errors(f"write {name_of(lease)}"):
            if "resourceVersion" in metadata:
                written = self._client.replace(made, metadata["name"], namespace=metadata["namespace"])
            else:
                written = self._client.create(made, namespace=metadata["namespace"])
            found: dict[str, Any] = written.to_dict()
        return found

    def changes(self, kind: WatchedKind) -> Iterator[None]:
        """One item for every object of a kind, then one for every change of any; it never ends by itself.

        Raises:
            ClusterError: the watch cannot be held; whoever reads it looks at everything and begins again.
        """
        yield from self._watch(RawNamespace if kind == "Namespace" else NAMED[kind])

    def dialect_changes(self) -> dict[str, Callable[[], Iterator[None]]]:
        """The same for every kind of another dialect that the server serves now, by its plural and group."""
        return {
            f"{known.plural}.{known.group}": partial(
                self._watch, resource(f"{known.group}/{version}", known.kind, known.plural, known.namespaced)
            )
            for known, version in self.served()
        }

    def _watch(self, watched: Any) -> Iterator[None]:
        scope: dict[str, Any] = {} if issubclass(watched, GenericGlobalResource) else {"namespace": "*"}
        with clear_errors(f"watch {watched._api_info.plural}"):
            for _ in self._watching.watch(watched, server_timeout=_WATCH_SECONDS, **scope):
                yield None

    def _list(self, kind: Any, labels: dict[str, Any] | None = None, namespace: str = "*") -> list[dict[str, Any]]:
        scope: dict[str, Any] = {} if issubclass(kind, GenericGlobalResource) else {"namespace": namespace}

        def read() -> list[dict[str, Any]]:
            # Pages belong together: one that came too late (410) makes all of them be read again.
            found = self._client.list(kind, labels=labels, chunk_size=_PAGE, **scope)
            return [item.to_dict() for item in found]

        return insist(f"list {kind._api_info.plural}", read) or []

    def _get(self, target: Mapping[str, Any]) -> dict[str, Any] | None:
        metadata, kind = target["metadata"], kind_class(target)

        def read() -> dict[str, Any]:
            found: dict[str, Any] = self._client.get(kind, metadata["name"], **scope_of(metadata)).to_dict()
            return found

        return insist(f"get {name_of(target)}", read, missing_is_fine=True)

    def _evict(self, manifest: Mapping[str, Any]) -> None:
        """Ask for the end of one pod; one that is gone already is no error, a budget that is used up is (busy)."""
        path = f"{_pod_path(manifest)}/eviction"
        self._fence()
        insist(f"evict {name_of(manifest)}", lambda: self._send("POST", path, manifest), missing_is_fine=True)

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """What the client has no words for: preconditions, and questions about rights."""
        answer = self._http.request(method, path, json=dict(body))
        if not answer.is_success:
            raise ApiError(request=answer.request, response=answer)
        return answer.json()

    def _end_pod(self, target: Mapping[str, Any]) -> None:
        """Delete just this pod, and wait a moment until it is gone: meanwhile it still runs."""
        metadata = target["metadata"]
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": metadata["uid"]}}

        self._fence()
        path = _pod_path(target)
        insist(f"delete {name_of(target)}", lambda: self._send("DELETE", path, options), missing_is_fine=True)
        for _ in range(_LOOKS):
            present = self._get(target)
            if present is None or present["metadata"]["uid"] != metadata["uid"]:
                return
            time.sleep(_LOOK_PAUSE)
        message = f"{name_of(target)} is still ending; what isolates it stays until it has ended"
        raise ClusterError(message, "still_there")

    def _patch(self, manifest: Mapping[str, Any]) -> None:
        """Declare what is ours of an object, or change just this one where a uid says which."""
        metadata, kind = manifest["metadata"], kind_class(manifest)
        patch_type = PatchType.MERGE if "uid" in metadata else PatchType.APPLY
        self._fence()
        insist(
            f"apply {name_of(manifest)}",
            lambda: self._client.patch(
                kind,
                metadata["name"],
                dict(manifest),
                patch_type=patch_type,
                **scope_of(metadata),
            ),
        )


def _pod_path(target: Mapping[str, Any]) -> str:
    metadata = target["metadata"]
    return f"/api/v1/namespaces/{quote(metadata['namespace'])}/pods/{quote(metadata['name'])}"


def _written_by_us(item: Mapping[str, Any]) -> bool:
    entries = item["metadata"].get("managedFields") or ()
    return any(entry.get("manager") == MANAGER for entry in entries)


def _refuse_foreign(present: Mapping[str, Any]) -> None:
    labels = present["metadata"].get("labels") or {}
    if labels.get(MANAGED_LABEL) != MANAGER:
        message = f"{name_of(present)} exists and does not carry {MANAGED_LABEL}={MANAGER}: it is left untouched"
        raise ClusterError(message, "foreign")
