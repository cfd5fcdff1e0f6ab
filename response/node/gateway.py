"""A cluster with agents on its nodes: steps for nodes become signed commands, all others go to the cluster itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from response.drops import NODE_COMMAND
from response.gateway import Gateway, Managed
from response.managed import together
from response.node.commands import IssuedCommands
from response.objects import ALERT_ANNOTATION, EXPIRES_ANNOTATION, RESPONSE_LABEL, TICK_ANNOTATION
from response.signing import Signer
from schemas.node_command import NodeCommand
from schemas.policy.cluster import ClusterView, Controller, Node
from schemas.word import iso_time


class NodeLink(Protocol):
    """The way to the agents of nodes, and back. Every method may raise ClusterError."""

    def send(self, command: NodeCommand) -> None:
        """Make a command durable on nodecommands.v1."""
        ...

    def wait_until_set(self, command: NodeCommand) -> None:
        """Return once the node's agent reports that the command is in its tables; raise where it is not to be."""
        ...


class NodeGateway:
    """Another gateway, and the nodes. What nodes were told is remembered from the topic; see `IssuedCommands`."""

    def __init__(
        self, inner: Gateway, link: NodeLink, signer: Signer, issued: IssuedCommands, cluster: str,
        clock: Callable[[], float], fence: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`clock` returns s since epoch; `fence` raises ClusterError where this process may no longer change things."""
        self._inner = inner
        self._link = link
        self._signer = signer
        self._issued = issued
        self._cluster = cluster
        self._clock = clock
        self._fence = fence

    def view(self) -> ClusterView:
        """The cluster's."""
        return self._inner.view()

    def controllers(self, namespace: str) -> tuple[Controller, ...] | None:
        """The cluster's."""
        return self._inner.controllers(namespace)

    def nodes(self) -> tuple[Node, ...] | None:
        """The cluster's."""
        return self._inner.nodes()

    def kill_switch(self, name: str) -> str:
        """The cluster's."""
        return self._inner.kill_switch(name)

    def note(self, event: Mapping[str, Any]) -> None:
        """The cluster's."""
        self._inner.note(event)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Command a node and wait until it says that it obeyed; a command that stands already is not said again."""
        if manifest["kind"] != NODE_COMMAND:
            self._inner.apply(manifest)
            return
        now = self._clock()
        if self._issued.stands(manifest, now):
            return
        self._fence()
        command = self._signed(command_of(manifest, self._cluster, now))
        self._link.send(command)
        self._issued.add(command)
        self._link.wait_until_set(command)

    def undo(self, step: Mapping[str, Any]) -> None:
        """Take back what a node does for a response. A node that is away hears it when it comes back."""
        target = step["object"]
        if target["kind"] != NODE_COMMAND:
            self._inner.undo(step)
            return
        self._fence()
        response_id, node = str(target["metadata"]["labels"][RESPONSE_LABEL]), str(target["spec"]["node"])
        now = self._clock()
        command = self._signed(
            NodeCommand(
                id=_command_id(self._cluster, node, "lift", response_id, iso_time(now)),
                issued_at=iso_time(now),
                cluster=self._cluster,
                node=node,
                verb="lift",
                response_id=response_id,
            )
        )
        self._link.send(command)
        self._issued.add(command)

    def managed(self, response_id: str | None = None) -> tuple[Managed, ...]:
        """What responses have in the cluster and on nodes, by response id; of one alone, where given."""
        issued = self._issued.managed(self._clock())
        ours = (item for item in issued if response_id in (None, item.response_id))
        return together((*self._inner.managed(response_id), *ours))

    def _signed(self, command: NodeCommand) -> NodeCommand:
        return self._signer.sign(command)


def command_of(manifest: Mapping[str, Any], cluster: str, now: float) -> NodeCommand:
    """The command that a manifest of a plan stands for, not signed yet. Raises ValueError for one that says nothing."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    response_id, issued = str(metadata["labels"][RESPONSE_LABEL]), iso_time(now)
    tick = notes.get(TICK_ANNOTATION, "0")
    return NodeCommand.model_validate(
        {
            "id": _command_id(cluster, spec["node"], "apply", response_id, metadata["namespace"], issued),
            "issued_at": issued,
            "cluster": cluster,
            "node": spec["node"],
            "verb": "apply",
            "response_id": response_id,
            "namespace": metadata["namespace"],
            "alert_id": notes.get(ALERT_ANNOTATION, ""),
            "action": spec["action"],
            "decided_tick": int(tick) if tick.isdecimal() else 0,
            "cuts": spec.get("cuts", ()),
            "limits": spec.get("limits", ()),
            "captures": spec.get("captures", ()),
            "expires_at": notes.get(EXPIRES_ANNOTATION, ""),
        }
    )


def _command_id(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
