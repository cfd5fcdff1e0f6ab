"""What nodes were told and still have to do, read back from the commands themselves."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from response.drops import NODE_COMMAND
from response.gateway import Managed
from response.node.steps import API_VERSION, undo_node
from response.objects import (
    ALERT_ANNOTATION,
    EXPIRES_ANNOTATION,
    MANAGED_LABEL,
    MANAGER,
    RESPONSE_LABEL,
    TICK_ANNOTATION,
)
from response.signing import Signer
from schemas.node_command import NodeCommand
from schemas.word import from_iso

# s; a command that ended is remembered so long, so that its end is told.
_KEEP_ENDED_S = 3600.0


class IssuedCommands:
    """The last command to each node for each response, until it is lifted; may be asked by several threads."""

    def __init__(self) -> None:
        # By response, node and namespace.
        self._held: dict[tuple[str, str, str], NodeCommand] = {}
        self._lock = Lock()

    def add(self, command: NodeCommand) -> None:
        """Take in a command that was issued."""
        with self._lock:
            if command.verb == "apply":
                self._held[_place(command)] = command
                return
            for place in [place for place in self._held if place[:2] == (command.response_id, command.node)]:
                del self._held[place]

    def remember(self, command: NodeCommand, signer: Signer) -> None:
        """Take in a record of the topic, if it is this signer's: others may write there, too."""
        if command.key_id == signer.key_id and signer.sign(command).signature == command.signature:
            self.add(command)

    def stands(self, manifest: Mapping[str, Any], now: float) -> bool:
        """Whether a node was told just this and has not let go of it yet."""
        with self._lock:
            held = [command for command in self._held.values() if _seconds(command.expires_at) > now]
        wanted = (manifest["metadata"]["labels"], manifest["spec"], _expiry(manifest))
        return any(
            (made["metadata"]["labels"], made["spec"], _expiry(made)) == wanted for made in map(manifest_of, held)
        )

    def managed(self, now: float) -> tuple[Managed, ...]:
        """What each response has on nodes, by response id; also what has just ended, so that it is told."""
        with self._lock:
            for place in [p for p, one in self._held.items() if _seconds(one.expires_at) + _KEEP_ENDED_S < now]:
                del self._held[place]
            by_response: dict[str, list[NodeCommand]] = {}
            for command in self._held.values():
                by_response.setdefault(command.response_id, []).append(command)
        return tuple(_managed(response_id, found) for response_id, found in sorted(by_response.items()))


def manifest_of(command: NodeCommand) -> dict[str, Any]:
    """The manifest that a command was made from; its namespace and reason were not said to the node."""
    return {
        "apiVersion": API_VERSION,
        "kind": NODE_COMMAND,
        "metadata": {
            "name": f"sluicegate-{command.response_id}-{command.node}",
            "namespace": command.namespace,
            "labels": {MANAGED_LABEL: MANAGER, RESPONSE_LABEL: command.response_id},
            "annotations": {
                ALERT_ANNOTATION: command.alert_id,
                EXPIRES_ANNOTATION: command.expires_at,
                TICK_ANNOTATION: str(command.decided_tick),
            },
        },
        "spec": {
            "node": command.node,
            "action": command.action,
            "cuts": [cut.model_dump(mode="json") for cut in command.cuts],
            "limits": [limit.model_dump(mode="json") for limit in command.limits],
            **({"captures": [one.model_dump(mode="json") for one in command.captures]} if command.captures else {}),
        },
    }


def _managed(response_id: str, commands: list[NodeCommand]) -> Managed:
    manifests = tuple(map(manifest_of, commands))
    return Managed(
        response_id=response_id,
        alert_id=commands[0].alert_id,
        decided_tick=commands[0].decided_tick,
        expires_at=min(command.expires_at for command in commands),
        undo=tuple(undo_node(item) for item in manifests),
        target=", ".join(f"node/{command.node}" for command in commands),
        objects=manifests,
    )


def _place(command: NodeCommand) -> tuple[str, str, str]:
    return (command.response_id, command.node, command.namespace)


def _expiry(manifest: Mapping[str, Any]) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(EXPIRES_ANNOTATION, ""))


def _seconds(text: str) -> float:
    try:
        return from_iso(text)
    except ValueError:
        return 0.0
