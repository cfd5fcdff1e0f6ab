"""The Kubernetes API as a gateway; with `kube_calls`, `kube_kinds`, `kube_lists`, `kube_probe` all that knows a client.

Objects are read and written as plain dictionaries: typed clients drop fields they do not know, and an unknown kind of
peer must be seen to be refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import yaml
from lightkube import Client, KubeConfig
from lightkube.config.client_adapter import Client as make_http
from lightkube.config.client_adapter import ConnectionParams
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import GenericGlobalResource
from lightkube.types import PatchType

from response.api_objects import read_controller, read_node, read_pod, read_service
from response.gateway import ClusterError, Managed, WatchedKind
from response.kube_calls import clear_errors, insist, name_of
from response.kube_dialects import list_readable, served_plurals, with_dialects
from response.kube_kinds import (
    NAMED,
    RawConfigMap,
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
from response.kube_lists import Lists
from response.kube_probe import EnforcementProbe, Probed
from response.kube_words import labels_of, one_line, refusal, unless_forbidden, written_by_us
from response.managed import group_managed, together
from response.marks import marked
from response.objects import EVICTION, MANAGED_LABEL, MANAGER, NOTED_LABEL, QUARANTINE_LABEL, RESPONSE_LABEL
from response.pod_steps import goes_back, is_meant, may_end, unmarks
from response.readings import Readings, said_by
from schemas.policy.cluster import ClusterView, Controller, Node
from schemas.policy.dialects import NETWORKPOLICY, ApiKind, kind_of, read_or_note, served_kinds

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
            # For what the client has no words, or takes apart too slowly.
            self._http = make_http(chosen, ConnectionParams(timeout=httpx.Timeout(timeout_s)))
            self._lists = Lists(self._http)
            # A watch is silent for as long as nothing changes.
            waiting = httpx.Timeout(timeout_s, read=_WATCH_SECONDS + timeout_s)
            self._pods, self._services, self._namespaces = (
                Readings(read_pod), Readings(read_service), Readings(labels_of)
            )  # fmt: skip
            self._policies = Readings(partial(read_or_note, known=NETWORKPOLICY))
            self._machines = Readings(read_node)
            self._owners = {kind: Readings(partial(read_controller, kind=kind)) for _, kind, _ in _CONTROLLERS}
            self._view = ClusterView()
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
        with _readable():
            listed = self._pods.read(self._lists.raw(RawPod))
            services = self._services.read(self._lists.raw(RawService))
            namespaces = dict(self._namespaces.read(self._lists.raw(RawNamespace)))
            policies = self._policies.read(self._lists.raw(RawNetworkPolicy))
        # What has ended and given its address back is none.
        pods = tuple(pod for pod in listed if pod is not None)
        last = self._view
        bare = last.changed(pods=last.pods if pods == last.pods else pods, namespaces=namespaces, services=services)
        self._view = with_dialects(bare, policies, self.served(), self._list_kind)
        return self._view

    def served(self) -> tuple[tuple[ApiKind, str], ...]:
        """The kinds of other dialects that the server serves, each with its version."""
        return served_kinds(served_plurals(self._lists.discover))

    def _list_kind(self, known: ApiKind, version: str, selector: str = "") -> list[dict[str, Any]]:
        name = f"{known.group}/{version}"
        found = self._lists.whole(resource(name, known.kind, known.plural, known.namespaced), selector)
        return [{**item, "kind": known.kind, "apiVersion": name} for item in found]

    def controllers(self, namespace: str) -> tuple[Controller, ...] | None:
        """What owns pods in a namespace, or None where that may not be listed."""
        return unless_forbidden(lambda: tuple(chain.from_iterable(self._controllers(namespace))))

    def _controllers(self, namespace: str) -> Iterator[tuple[Controller, ...]]:
        for version, kind, plural in _CONTROLLERS:
            listed = self._lists.raw(resource(version, kind, plural, namespaced=True), namespace=namespace)
            with _readable():
                found = self._owners[kind].read(listed)
            yield found

    def nodes(self) -> tuple[Node, ...] | None:
        """The nodes, or None where they may not be listed."""
        listed = unless_forbidden(lambda: self._lists.raw(RawNode))
        with _readable():
            return None if listed is None else self._machines.read(listed)

    def _marked_nodes(self, selector: str) -> list[dict[str, Any]]:
        listed = unless_forbidden(lambda: self._lists.whole(RawNode, selector)) or []
        return [{**item, "kind": "Node", "apiVersion": "v1"} for item in listed]

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

    def managed(self, response_id: str | None = None) -> tuple[Managed, ...]:
        """Everything that any response of ours has in the cluster, by response id; of one alone, where given."""
        one = "" if response_id is None else f"={response_id}"
        ours = f"{MANAGED_LABEL}={MANAGER},{RESPONSE_LABEL}{one}" if one else f"{MANAGED_LABEL}={MANAGER}"
        policies = self._lists.whole(RawNetworkPolicy, ours)
        for known, version in self.served():
            policies += list_readable(known, version, self._list_kind, ours) or []
        # A quarantine label without its policy still is ours to take back; one that somebody else wrote is his.
        pods = [pod for pod in self._lists.whole(RawPod, f"{QUARANTINE_LABEL}{one}") if written_by_us(pod)]
        # Notes of all responses are found by one label.
        noted = marked(pod for pod in self._lists.whole(RawPod, NOTED_LABEL) if written_by_us(pod))
        policies += self._marked_nodes(f"{RESPONSE_LABEL}{one}")
        return together((*group_managed(policies, pods), *(n for n in noted if response_id in (None, n.response_id))))

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
        answer = self._send("ask for this process's rights", "POST", path, review)
        return bool(answer.get("status", {}).get("allowed"))

    def probe(self, namespace: str, image: str, seconds: int) -> Probed:
        """Whether a NetworkPolicy stops anything within so many s: pods are made in a namespace, and deleted again.

        Raises:
            ClusterError: it could not be found out.
        """
        return EnforcementProbe(self._client, namespace, image, seconds).run()

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

    def kill_switch_changes(self, name: str) -> Iterator[None]:
        """The same for one ConfigMap, `namespace/name`, alone: the right to watch may be limited to it."""
        namespace, _, plain = name.partition("/")
        yield from self._watch(RawConfigMap, {"namespace": namespace, "fields": {"metadata.name": plain}})

    def _watch(self, watched: Any, scope: dict[str, Any] | None = None) -> Iterator[None]:
        if scope is None:
            scope = {} if issubclass(watched, GenericGlobalResource) else {"namespace": "*"}
        with clear_errors(f"watch {watched._api_info.plural}"):
            for _ in self._watching.watch(watched, server_timeout=_WATCH_SECONDS, **scope):
                yield None

    def _get(self, target: Mapping[str, Any]) -> dict[str, Any] | None:
        metadata, kind = target["metadata"], kind_class(target)

        def read() -> dict[str, Any]:
            found: dict[str, Any] = self._client.get(kind, metadata["name"], **scope_of(metadata)).to_dict()
            return found

        return insist(f"get {name_of(target)}", read, missing_is_fine=True)

    def _evict(self, manifest: Mapping[str, Any]) -> None:
        """Ask for the end of one pod; one that is gone already is no error, a budget that is used up is (busy)."""
        self._fence()
        path = f"{_pod_path(manifest)}/eviction"
        self._send(f"evict {name_of(manifest)}", "POST", path, manifest, missing_is_fine=True)

    def _send(
        self, doing: str, method: str, path: str, body: Mapping[str, Any], *, missing_is_fine: bool = False
    ) -> Any:
        """What the client has no words for: preconditions, and questions about rights."""

        def send() -> Any:
            answer = self._http.request(method, path, json=dict(body))
            if answer.is_error:
                raise refusal(doing, answer.status_code, said_by(answer.content))
            return answer.json()

        return insist(doing, send, missing_is_fine=missing_is_fine)

    def _end_pod(self, target: Mapping[str, Any]) -> None:
        """Delete just this pod, and wait a moment until it is gone: meanwhile it still runs."""
        metadata = target["metadata"]
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": metadata["uid"]}}
        self._fence()
        self._send(f"delete {name_of(target)}", "DELETE", _pod_path(target), options, missing_is_fine=True)
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


@contextmanager
def _readable() -> Iterator[None]:
    """Objects that say what nobody can read are an error of the cluster."""
    try:
        yield
    except ValueError as error:
        raise ClusterError(one_line(str(error)), "unreadable_object") from None


def _pod_path(target: Mapping[str, Any]) -> str:
    metadata = target["metadata"]
    return f"/api/v1/namespaces/{quote(metadata['namespace'])}/pods/{quote(metadata['name'])}"


def _refuse_foreign(present: Mapping[str, Any]) -> None:
    labels = present["metadata"].get("labels") or {}
    if labels.get(MANAGED_LABEL) != MANAGER:
        message = f"{name_of(present)} exists and does not carry {MANAGED_LABEL}={MANAGER}: it is left untouched"
        raise ClusterError(message, "foreign")
