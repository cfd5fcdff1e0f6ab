"""The Kubernetes API as a gateway; the only module of the core that knows a cluster client.

Objects are read and written as plain dictionaries: typed clients drop fields they do not know, and an unknown kind of
peer must be seen to be refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import httpx2 as httpx
import yaml
from lightkube import ApiError, Client, KubeConfig
from lightkube.config.client_adapter import Client as make_http
from lightkube.config.client_adapter import ConnectionParams
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info
from lightkube.types import PatchType

from response.api_objects import read_pod, read_service
from response.gateway import ClusterError, Managed, WatchedKind
from response.kube_dialects import list_readable, served_plurals, with_dialects
from response.kube_words import labels_of, one_line, refusal, written_by_us
from response.managed import group_managed
from response.objects import MANAGED_LABEL, MANAGER, QUARANTINE_LABEL, RESPONSE_LABEL
from response.readings import Raw, Readings, read_page, read_whole, said_by
from schemas.policy.cluster import ClusterView
from schemas.policy.dialects import (
    NETWORKPOLICY,
    ApiKind,
    kind_of,
    read_or_note,
    served_kinds,
)


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


class RawConfigMap(GenericNamespacedResource):
    """A ConfigMap as a plain dictionary."""

    _api_info = create_api_info("", "v1", "ConfigMap", "configmaps")


class RawEvent(GenericNamespacedResource):
    """An Event as a plain dictionary."""

    _api_info = create_api_info("", "v1", "Event", "events")


class RawLease(GenericNamespacedResource):
    """A Lease as a plain dictionary."""

    _api_info = create_api_info("coordination.k8s.io", "v1", "Lease", "leases")


T = TypeVar("T")
_KINDS: Mapping[str, Any] = {
    "NetworkPolicy": RawNetworkPolicy, "Pod": RawPod, "ConfigMap": RawConfigMap, "Lease": RawLease,
}  # fmt: skip
# After this the server ends a watch and a new one begins: a connection that died silently is not trusted for ever.
_WATCH_SECONDS = 300
# What kubectl asks for at a time: the server need not build one huge answer.
_PAGE = 500
# The client parses kubeconfigs without checking their shape: a wrong one surfaces as any of these.
_CONFIG_ERRORS = (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, yaml.YAMLError)
# What may be gone at the next try; everything that is sent may be sent again, because it says what shall be.
_PASSING = frozenset({"conflict", "expired", "busy", "server_error", "unreachable"})
# Seconds between tries, together short of what a caller waits for one step.
_PAUSES = (0.1, 0.4, 1.2)


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
            self._pods, self._services, self._namespaces = (
                Readings(read_pod), Readings(read_service), Readings(labels_of)
            )  # fmt: skip
            self._policies = Readings(partial(read_or_note, known=NETWORKPOLICY))
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
        try:
            listed = self._pods.read(self._raw(RawPod))
            services = self._services.read(self._raw(RawService))
            namespaces = dict(self._namespaces.read(self._raw(RawNamespace)))
            policies = self._policies.read(self._raw(RawNetworkPolicy))
        except ValueError as error:
            raise ClusterError(one_line(str(error)), "unreadable_object") from None
        # What has ended and given its address back is none.
        pods = tuple(pod for pod in listed if pod is not None)
        last = self._view
        bare = last.changed(pods=last.pods if pods == last.pods else pods, namespaces=namespaces, services=services)
        self._view = with_dialects(bare, policies, self.served(), self._list_kind)
        return self._view

    def served(self) -> tuple[tuple[ApiKind, str], ...]:
        """The kinds of other dialects that the server serves, each with its version."""
        return served_kinds(served_plurals(self._discover))

    def _list_kind(self, known: ApiKind, version: str, selector: str = "") -> list[dict[str, Any]]:
        name = f"{known.group}/{version}"
        found = self._list(_resource(name, known.kind, known.plural, known.namespaced), selector)
        return [{**item, "kind": known.kind, "apiVersion": name} for item in found]

    def _discover(self, path: str) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            answer = self._http.get(path)
            if answer.status_code == 404:
                return {}
            answer.raise_for_status()
            found = answer.json()
            return found if isinstance(found, dict) else {}

        return _insist(f"read what the API serves at {path}", read) or {}

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Server-side apply of one object; refuses a policy that is not ours and a pod that does not exist."""
        present = self._get(manifest)
        if kind_of(manifest) is not None:
            if present is not None:
                _refuse_foreign(present)
        elif present is None:
            message = f"{_name(manifest)} no longer exists"
            raise ClusterError(message, "gone")
        self._patch(manifest)

    def undo(self, step: Mapping[str, Any]) -> None:
        """Delete a policy of ours, or give back the labels we own on a pod."""
        target = step["object"]
        present = self._get(target)
        if present is None:
            return
        if step["step"] == "unlabel":
            self._patch(target)
            return
        _refuse_foreign(present)
        metadata = target["metadata"]
        kind = _kind(target)
        self._fence()
        _insist(
            f"delete {_name(target)}",
            lambda: self._client.delete(kind, metadata["name"], **_scope(metadata)),
            missing_is_fine=True,
        )

    def managed(self, response_id: str | None = None) -> tuple[Managed, ...]:
        """Everything that any response of ours has in the cluster, by response id; of one alone, where given."""
        one = "" if response_id is None else f"={response_id}"
        ours = f"{MANAGED_LABEL}={MANAGER},{RESPONSE_LABEL}{one}" if one else f"{MANAGED_LABEL}={MANAGER}"
        policies = self._list(RawNetworkPolicy, ours)
        for known, version in self.served():
            policies += list_readable(known, version, self._list_kind, ours) or []
        # A quarantine label without its policy still is ours to take back; one that somebody else wrote is his.
        pods = [pod for pod in self._list(RawPod, f"{QUARANTINE_LABEL}{one}") if written_by_us(pod)]
        return group_managed(policies, pods)

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
            with _clear_errors(f"note on {_name(event)}"):
                self._client.create(made, namespace=event["metadata"]["namespace"])
        except ClusterError as error:
            if error.reason != "conflict":
                raise

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
        with _clear_errors(f"write {_name(lease)}"):
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
        yield from self._watch(RawNamespace if kind == "Namespace" else _KINDS[kind])

    def dialect_changes(self) -> dict[str, Callable[[], Iterator[None]]]:
        """The same for every kind of another dialect that the server serves now, by its plural and group."""
        return {
            f"{known.plural}.{known.group}": partial(
                self._watch, _resource(f"{known.group}/{version}", known.kind, known.plural, known.namespaced)
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
        with _clear_errors(f"watch {watched._api_info.plural}"):
            for _ in self._watching.watch(watched, server_timeout=_WATCH_SECONDS, **scope):
                yield None

    def _list(self, kind: Any, selector: str = "") -> list[dict[str, Any]]:
        return [read_whole(raw) for raw in self._raw(kind, selector)]

    def _raw(self, kind: Any, selector: str = "") -> list[Raw]:
        """Every object of a kind in the whole cluster, as it was sent."""
        named = kind._api_info.resource
        base = f"/apis/{named.group}/{named.version}" if named.group else f"/api/{named.version}"
        doing = f"list {kind._api_info.plural}"

        def read() -> list[Raw]:
            # Pages belong together: one that came too late (410) makes all of them be read again.
            found: list[Raw] = []
            asked = {"limit": str(_PAGE), **({"labelSelector": selector} if selector else {})}
            while True:
                answer = self._http.get(f"{base}/{kind._api_info.plural}", params=asked)
                if answer.is_error:
                    raise refusal(doing, answer.status_code, said_by(answer.content))
                page = read_page(answer.content)
                found += page.items or ()
                if not page.metadata.onward:
                    return found
                asked["continue"] = page.metadata.onward

        return _insist(doing, read) or []

    def _get(self, target: Mapping[str, Any]) -> dict[str, Any] | None:
        metadata, kind = target["metadata"], _kind(target)

        def read() -> dict[str, Any]:
            found: dict[str, Any] = self._client.get(kind, metadata["name"], **_scope(metadata)).to_dict()
            return found

        return _insist(f"get {_name(target)}", read, missing_is_fine=True)

    def _patch(self, manifest: Mapping[str, Any]) -> None:
        metadata, kind = manifest["metadata"], _kind(manifest)
        self._fence()
        _insist(
            f"apply {_name(manifest)}",
            lambda: self._client.patch(
                kind,
                metadata["name"],
                dict(manifest),
                patch_type=PatchType.APPLY,
                **_scope(metadata),
            ),
        )


@cache
def _resource(api_version: str, kind: str, plural: str, namespaced: bool) -> Any:
    """A kind of any group as plain dictionaries."""
    group, _, version = api_version.partition("/")
    base = GenericNamespacedResource if namespaced else GenericGlobalResource
    return type(f"Raw{kind}", (base,), {"_api_info": create_api_info(group, version, kind, plural)})


def _kind(target: Mapping[str, Any]) -> Any:
    known = kind_of(target)
    if known is None or known is NETWORKPOLICY:
        return _KINDS[target["kind"]]
    return _resource(target["apiVersion"], known.kind, known.plural, known.namespaced)


def _scope(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"namespace": metadata["namespace"]} if metadata.get("namespace") else {}


def _insist(doing: str, call: Callable[[], T], *, missing_is_fine: bool = False) -> T | None:
    """What a call gives, tried again a few times where the error may pass; None for a missing object."""
    for pause in (*_PAUSES, None):
        try:
            with _clear_errors(doing):
                return call()
        except ClusterError as error:
            if missing_is_fine and error.reason == "not_found":
                return None
            if pause is None or error.reason not in _PASSING:
                raise
            time.sleep(pause)
    return None


def _refuse_foreign(present: Mapping[str, Any]) -> None:
    labels = present["metadata"].get("labels") or {}
    if labels.get(MANAGED_LABEL) != MANAGER:
        message = f"{_name(present)} exists and does not carry {MANAGED_LABEL}={MANAGER}: it is left untouched"
        raise ClusterError(message, "foreign")


def _name(target: Mapping[str, Any]) -> str:
    metadata = target["metadata"]
    return f"{target.get('kind', 'object')} {metadata.get('namespace', '')}/{metadata.get('name', '')}"


@contextmanager
def _clear_errors(doing: str) -> Iterator[None]:
    """Turn what the client raises into one line that names the step, the cause and the remedy."""
    try:
        yield
    except ApiError as error:
        raise refusal(doing, error.status.code or 0, error.status.message or "") from None
    except httpx.HTTPStatusError as error:
        # Of a watch that the server refuses the client does not read why.
        raise refusal(doing, error.response.status_code, "") from None
    except httpx.HTTPError as error:
        text = str(error) or type(error).__name__
        message = one_line(f"cannot {doing}: {text} (is the API server reachable, and its certificate trusted?)")
        raise ClusterError(message, "unreachable") from None
    except (ConfigError, OSError, ValueError) as error:
        message = one_line(f"cannot {doing}: {error}")
        raise ClusterError(message, "bad_answer") from None
