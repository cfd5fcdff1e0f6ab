"""What nodes drop or slow down, as proofs see it: a drop only ever takes away, whatever policies allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from response.node.entries import network_of
from schemas.node_command import Cut, Limit

NODE_COMMAND = "NodeCommand"


@dataclass(frozen=True, slots=True)
class Drops:
    """Pairs whose packets are dropped both ways, and ports whose new connections are limited."""

    cuts: tuple[Cut, ...] = ()
    limits: tuple[Limit, ...] = ()

    def cut(self, one: str, other: str) -> bool:
        """Whether all packets between two addresses are dropped. Raises ValueError for what is no address."""
        sides = network_of(one), network_of(other)
        return any(
            item.port is None
            and any(_inside(a, item.source) and _inside(b, item.destination) for a, b in (sides, (sides[1], sides[0])))
            for item in self.cuts
        )

    def peers(self) -> tuple[str, ...]:
        """Every address or block that some pair names."""
        return tuple(sorted({side for item in self.cuts for side in (item.source, item.destination)}))


NO_DROPS = Drops()


def on_nodes(manifests: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a plan has a part that nodes carry out."""
    return any(item.get("kind") == NODE_COMMAND for item in manifests)


def drops_of(manifests: Iterable[Mapping[str, Any]]) -> Drops:
    """What the node commands among some manifests drop. Raises ValueError for one that cannot be read."""
    specs = [item["spec"] for item in manifests if item.get("kind") == NODE_COMMAND]
    return Drops(
        tuple(Cut.model_validate(cut) for spec in specs for cut in spec.get("cuts", ())),
        tuple(Limit.model_validate(limit) for spec in specs for limit in spec.get("limits", ())),
    )


def _inside(address: Any, text: str) -> bool:
    block = network_of(text)
    return bool(block.version == address.version and address.subnet_of(block))
