"""The Kubernetes API as a gateway; the only module of the core that knows a cluster client.

Objects are read and written as plain dictionaries: typed clients drop fields they do not know, and an unknown kind of
peer must be seen to be refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import yaml
from lightkube import ApiError, Client, KubeConfig
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info
from lightkube.operators import exists
from lightkube.types import PatchType

from response.api_objects import ObjectError, read_pod, read_service
from response.gateway import ClusterError, Managed
from response.managed import group_managed
from response.objects import MANAGED_LABEL, MANAGER, QUARANTINE_LABEL
from schemas.policy.cluster import ClusterView
from schemas.policy.networkpolicy import PolicyError, read_policy


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


_KINDS: Mapping[str, Any] = {"NetworkPolicy": RawNetworkPolicy, "Pod": RawPod}
# What kubectl asks for at a time: the server need not build one huge answer.
_PAGE = 500
# The client parses kubeconfigs without checking their shape: a wrong one surfaces as any of these.
_CONFIG_ERRORS = (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, yaml.YAMLError)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_REASONS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 409: "conflict", 422: "invalid"}
_REMEDIES = {
    401: "give a kubeconfig with a valid token or certificate",
    403: "grant the role that `docs/response.md` lists",
    409: "somebody else owns a field of this object; remove or rename it",
}


class KubeGateway:
    """A real cluster, reached as a kubeconfig says."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None, timeout_s: float = 10.0) -> None:
        """Raises ClusterError for a kubeconfig that cannot be used.

        Without a path: the service account inside a cluster, else KUBECONFIG, else ~/.kube/config. `timeout_s` bounds
        each request; ten seconds is far above what a healthy API server needs for a page of objects.
        """
        name = str(kubeconfig) if kubeconfig is not None else "the kubeconfig of the environment"
        try:
            config = KubeConfig.from_file(kubeconfig) if kubeconfig is not None else KubeConfig.from_env()
            timeout = httpx.Timeout(timeout_s)
            self._client = Client(config.get(context), timeout=timeout, field_manager=MANAGER)
        except _CONFIG_ERRORS as error:
            message = _line(f"{name} cannot be used: {error}")
            raise ClusterError(message, "bad_kubeconfig") from None

    def close(self) -> None:
        """Close the connections; the gateway is of no use afterwards."""
        self._client.close()

    def view(self) -> ClusterView:
        """Pods, namespaces, policies and services as they are now."""
        try:
            pods = tuple(pod for item in self._list(RawPod) if (pod := read_pod(item)) is not None)
            return ClusterView(
                pods=pods,
                namespaces={
                    item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in self._list(RawNamespace)
                },
                policies=tuple(read_policy(item) for item in self._list(RawNetworkPolicy)),
                services=tuple(read_service(item) for item in self._list(RawService)),
            )
        except (PolicyError, ObjectError) as error:
            raise ClusterError(_line(str(error)), "unreadable_object") from None

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Server-side apply of one object; refuses a policy that is not ours and a pod that does not exist."""
        present = self._get(manifest)
        if manifest["kind"] == "NetworkPolicy":
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
        with _clear_errors(f"delete {_name(target)}", missing_is_fine=True):
            self._client.delete(_KINDS[target["kind"]], metadata["name"], namespace=metadata["namespace"])

    def managed(self) -> tuple[Managed, ...]:
        """Everything that any response of ours has in the cluster, by response id."""
        policies = self._list(RawNetworkPolicy, {MANAGED_LABEL: MANAGER})
        # A quarantine label without its policy still is ours to take back.
        pods = self._list(RawPod, {QUARANTINE_LABEL: exists()})
        return group_managed(policies, pods)

    def _list(self, kind: Any, labels: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        scope: dict[str, Any] = {} if kind is RawNamespace else {"namespace": "*"}
        with _clear_errors(f"list {kind._api_info.plural}"):
            found = self._client.list(kind, labels=labels, chunk_size=_PAGE, **scope)
            items: list[dict[str, Any]] = [item.to_dict() for item in found]
        return items

    def _get(self, target: Mapping[str, Any]) -> dict[str, Any] | None:
        metadata = target["metadata"]
        try:
            with _clear_errors(f"get {_name(target)}"):
                kind = _KINDS[target["kind"]]
                found: dict[str, Any] = self._client.get(
                    kind, metadata["name"], namespace=metadata["namespace"]
                ).to_dict()
                return found
        except ClusterError as error:
            if error.reason == "not_found":
                return None
            raise

    def _patch(self, manifest: Mapping[str, Any]) -> None:
        metadata = manifest["metadata"]
        with _clear_errors(f"apply {_name(manifest)}"):
            self._client.patch(
                _KINDS[manifest["kind"]],
                metadata["name"],
                dict(manifest),
                namespace=metadata["namespace"],
                patch_type=PatchType.APPLY,
            )


def _refuse_foreign(present: Mapping[str, Any]) -> None:
    labels = present["metadata"].get("labels") or {}
    if labels.get(MANAGED_LABEL) != MANAGER:
        message = f"{_name(present)} exists and does not carry {MANAGED_LABEL}={MANAGER}: it is left untouched"
        raise ClusterError(message, "foreign")


def _name(target: Mapping[str, Any]) -> str:
    metadata = target["metadata"]
    return f"{target.get('kind', 'object')} {metadata.get('namespace', '')}/{metadata.get('name', '')}"


def _line(text: str) -> str:
    return _CONTROL.sub(" ", text)[:500]


@contextmanager
def _clear_errors(doing: str, *, missing_is_fine: bool = False) -> Iterator[None]:
    """Turn what the client raises into one line that names the step, the cause and the remedy."""
    try:
        yield
    except ApiError as error:
        code = error.status.code or 0
        if code == 404 and missing_is_fine:
            return
        remedy = f" ({_REMEDIES[code]})" if code in _REMEDIES else ""
        message = _line(f"cannot {doing}: {error.status.message or code}{remedy}")
        raise ClusterError(message, _REASONS.get(code, "api_error")) from None
    except httpx.HTTPError as error:
        text = str(error) or type(error).__name__
        message = _line(f"cannot {doing}: {text} (is the API server reachable, and its certificate trusted?)")
        raise ClusterError(message, "unreachable") from None
    except (ConfigError, OSError, ValueError) as error:
        message = _line(f"cannot {doing}: {error}")
        raise ClusterError(message, "bad_answer") from None
