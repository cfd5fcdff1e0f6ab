"""What a node says about itself: its own addresses, and what carries packets past the tables of netfilter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from response.guard import Refusal
from response.node.kernel_tools import Run, ToolError, run_tool

# Interfaces that a dataplane of eBPF makes on every node it runs on.
_DATAPLANES = (
    (re.compile(r"cilium_(host|net|vxlan|geneve)"), "cilium"),
    (re.compile(r"bpf(in|out)\.cali"), "calico"),
)
_INTERFACE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:-]{0,14}")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Addresses of the node in text, and why packets would bypass its tables (none: nothing was found)."""

    addresses: tuple[str, ...]
    bypass: Refusal | None


def read_facts(flowtables: Iterable[str], run: Run = run_tool) -> NodeFacts:
    """Look at the interfaces of this network namespace, and at the programs on them.

    Raises:
        ToolError: `ip` or `tc` cannot be asked.
    """
    links = parsed(run, "ip", "-j", "-details", "link", "show")
    addresses = parsed(run, "ip", "-j", "address", "show")
    found = bypass_of_links(links) or bypass_of_flowtables(flowtables)
    return NodeFacts(addresses_of(addresses), found or _bypass_of_filters(run))


def addresses_of(listing: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Every address in what `ip -j address show` prints."""
    texts = {str(one["local"]) for link in listing for one in link.get("addr_info") or () if one.get("local")}
    return tuple(sorted(texts))


def bypass_of_links(links: Iterable[Mapping[str, Any]]) -> Refusal | None:
    """The first interface of `ip -j -details link show` that speaks of an eBPF dataplane."""
    for link in links:
        name = str(link.get("ifname", ""))
        for pattern, word in _DATAPLANES:
            if pattern.fullmatch(name):
                return Refusal(word, f"interface {name}: an eBPF dataplane forwards packets past netfilter's tables")
        if link.get("xdp"):
            return Refusal("xdp", f"an XDP program on {name} may take packets before netfilter sees them")
    return None


def bypass_of_flowtables(names: Iterable[str]) -> Refusal | None:
    """The first flowtable: established flows in it skip the forward hook."""
    first = next(iter(names), None)
    return Refusal("flowtable", f"flowtable {first} carries established flows past the forward hook") if first else None


def bypass_of_filters(name: str, filters: Iterable[Mapping[str, Any]]) -> Refusal | None:
    """A program among what `tc -j filter show` prints for an interface."""
    if any(item.get("kind") == "bpf" for item in filters):
        return Refusal("tc", f"an eBPF program at the traffic control of {name} may redirect packets past netfilter")
    return None


def _bypass_of_filters(run: Run) -> Refusal | None:
    for queue in parsed(run, "tc", "-j", "qdisc", "show"):
        name = str(queue.get("dev", ""))
        if queue.get("kind") not in ("clsact", "ingress") or not _INTERFACE.fullmatch(name):
            continue
        for side in ("ingress", "egress") if queue["kind"] == "clsact" else ("ingress",):
            found = bypass_of_filters(name, parsed(run, "tc", "-j", "filter", "show", "dev", name, side))
            if found is not None:
                return found
    return None


def parsed(run: Run, *argv: str) -> list[dict[str, Any]]:
    """What a program of iproute2 prints as JSON. Raises ToolError."""
    try:
        answer = orjson.loads(run(argv, b"") or b"[]")
    except orjson.JSONDecodeError:
        message = f"{' '.join(argv)} printed no JSON; iproute2 5.0 or newer is needed"
        raise ToolError(message, "bad_listing") from None
    return [item for item in answer if isinstance(item, dict)]
