"""Whether a NetworkPolicy stops anything here, found out with two pods of our own and a policy between them.

A server and clients that end are made in a namespace that the operator names. In turn: a connection must pass; with a
policy on the server's ingress it must not; nor with one on the client's egress; without policies it must pass again.
Only then is it the policies that stopped it. Whatever happens, everything that was made is deleted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightkube import Client
from lightkube.models.meta_v1 import ObjectMeta

from response.gateway import ClusterError
from response.kube_calls import insist
from response.kube_kinds import RawNetworkPolicy, RawPod
from response.kube_words import one_line
from response.objects import MANAGED_LABEL, MANAGER

PROBE_LABEL, ROLE_LABEL = "sluicegate.io/probe", "sluicegate.io/probe-role"
PORT = 8080
# s until a pod runs, with its image pulled.
_START_S = 120.0
_PAUSE_S = 0.5
# Reasons of a waiting container that waiting does not mend.
_HOPELESS = frozenset({"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"})
_USER = 65532
_LIMITS = {"cpu": "200m", "memory": "64Mi"}
_DIRECTIONS = (("Ingress", "server"), ("Egress", "client"))


@dataclass(frozen=True)
class Probed:
    """What a probe found: for ingress and egress whether a policy stops new connections, and between which nodes."""

    stops: Mapping[str, bool]
    nodes: tuple[str, str]


class EnforcementProbe:
    """One probe in one namespace; ``run`` it once."""

    def __init__(self, client: Client, namespace: str, image: str, seconds: int) -> None:
        """Nothing is made yet.

        Args:
            client: of the cluster, with the rights of whoever asks.
            namespace: that exists, and in which pods may be made.
            image: this product's, or any with Python and this product.
            seconds: that an enforcer may take to carry a policy out.
        """
        self._client, self._namespace, self._image, self._seconds = client, namespace, image, seconds
        self._id = secrets.token_hex(4)

    def run(self) -> Probed:
        """Find out.

        Raises:
            ClusterError: it could not be found out; reason and place are in the text.
        """
        with self._cleared():
            self._make("server", "server", "serve", str(PORT))
            server = self._wait("server", _running, _START_S)
            address = _address(server)
            if not self._asked("before", "open", address):
                message = (
                    f"no connection passes between pods of {self._namespace} even before the probe's policy"
                    " (does a policy isolate them already? choose a namespace without)"
                )
                raise ClusterError(message, "not_open")
            stops = {way: self._stopped(way, role, address) for way, role in _DIRECTIONS}
            if not self._asked("after", "open", address):
                message = "connections do not pass again without the probe's policies: what stopped them is not known"
                raise ClusterError(message, "not_open")
            return Probed(stops, (_node(server), _node(self._read("after"))))

    def _stopped(self, way: str, role: str, address: str) -> bool:
        name = self._name(way.lower())
        chosen = {PROBE_LABEL: self._id, ROLE_LABEL: role}
        spec = {"podSelector": {"matchLabels": chosen}, "policyTypes": [way]}
        policy = RawNetworkPolicy(metadata=self._metadata(name, role), spec=spec)
        insist(f"create NetworkPolicy {self._namespace}/{name}", lambda: self._client.create(policy))
        stopped = self._asked(way.lower(), "shut", address)
        insist(
            f"delete NetworkPolicy {self._namespace}/{name}",
            lambda: self._client.delete(RawNetworkPolicy, name, namespace=self._namespace),
        )
        return stopped

    def _asked(self, name: str, wanted: str, address: str) -> bool:
        """What a client pod of its own found."""
        self._make(name, "client", wanted, address, str(PORT), str(self._seconds))
        ended = self._wait(name, _ended, _START_S + 2 * self._seconds)
        code = _exit_code(ended)
        if code not in (0, 1):
            message = f"pod {self._namespace}/{self._name(name)} ended with {code}: {_why(ended)}"
            raise ClusterError(one_line(message), "probe_failed")
        return code == 0

    def _name(self, name: str) -> str:
        return f"sluicegate-probe-{self._id}-{name}"

    def _metadata(self, name: str, role: str) -> ObjectMeta:
        labels = {MANAGED_LABEL: MANAGER, PROBE_LABEL: self._id, ROLE_LABEL: role}
        return ObjectMeta(name=name, namespace=self._namespace, labels=labels)

    def _make(self, name: str, role: str, *words: str) -> None:
        container = {
            "name": "probe", "image": self._image, "command": ["python", "-m", "sluicegate.probe_talk", *words],
            "resources": {"limits": _LIMITS, "requests": _LIMITS},
            "securityContext": {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            },
        }  # fmt: skip
        spec = {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
            # Should nobody be left to delete it: it ends by itself.
            "activeDeadlineSeconds": int(2 * _START_S) + 8 * self._seconds, "containers": [container],
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": _USER, "seccompProfile": {"type": "RuntimeDefault"},
            },
        }  # fmt: skip
        pod = RawPod(metadata=self._metadata(self._name(name), role), spec=spec)
        insist(f"create pod {self._namespace}/{self._name(name)}", lambda: self._client.create(pod))

    def _read(self, name: str) -> dict[str, Any]:
        full = self._name(name)
        found = insist(
            f"get pod {self._namespace}/{full}", lambda: self._client.get(RawPod, full, namespace=self._namespace)
        )
        return dict(found or {})

    def _wait(self, name: str, reached: Callable[[Mapping[str, Any]], bool], seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            pod = self._read(name)
            if reached(pod):
                return pod
            if time.monotonic() > end or _ended(pod) or _hopeless(pod):
                message = f"pod {self._namespace}/{self._name(name)} does not do its work: {_why(pod)}"
                raise ClusterError(one_line(message), "probe_failed")
            time.sleep(_PAUSE_S)

    @contextmanager
    def _cleared(self) -> Iterator[None]:
        try:
            yield
        finally:
            insist(f"delete what {PROBE_LABEL}={self._id} labels in {self._namespace}", self._clear)

    def _clear(self) -> None:
        for kind in (RawPod, RawNetworkPolicy):
            for made in self._client.list(kind, namespace=self._namespace, labels={PROBE_LABEL: self._id}):
                name = made["metadata"]["name"]
                gone = partial(self._client.delete, kind, name, namespace=self._namespace, grace_period=0)
                insist(f"delete {self._namespace}/{name}", gone, missing_is_fine=True)


def _status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(pod.get("status") or {})


def _running(pod: Mapping[str, Any]) -> bool:
    return _status(pod).get("phase") == "Running" and bool(_status(pod).get("podIP"))


def _ended(pod: Mapping[str, Any]) -> bool:
    return _status(pod).get("phase") in ("Succeeded", "Failed")


def _address(pod: Mapping[str, Any]) -> str:
    return str(_status(pod)["podIP"])


def _node(pod: Mapping[str, Any]) -> str:
    return str((pod.get("spec") or {}).get("nodeName", ""))


def _states(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the node says of the containers: running, waiting or terminated, each with its details."""
    containers = _status(pod).get("containerStatuses") or ()
    return [state for container in containers for state in (container.get("state") or {}).values() if state]


def _hopeless(pod: Mapping[str, Any]) -> bool:
    return any(state.get("reason") in _HOPELESS for state in _states(pod))


def _exit_code(pod: Mapping[str, Any]) -> int:
    return next((int(state["exitCode"]) for state in _states(pod) if "exitCode" in state), -1)


def _why(pod: Mapping[str, Any]) -> str:
    """What the node says of a pod that does not run, or how far it is."""
    conditions = [c for c in _status(pod).get("conditions") or () if c.get("status") == "False"]
    for said in (*_states(pod), *conditions):
        if said.get("reason"):
            return f"{said['reason']} {said.get('message', '')}".strip()
    return f"its phase is {_status(pod).get('phase', 'not told')}"
