"""Small random worlds for property tests: few addresses, labels and ports, so that enumeration is complete.

Blocks, pods and ports are drawn from short lists. `PORTS` holds every port that can be named and one that cannot;
`ADDRESSES` holds one address of every cell that the blocks can cut. Enumerating both is therefore the whole truth.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schemas.policy.cluster import ClusterView, NamedPort, Pod
from schemas.policy.networkpolicy import read_policy

PORTS = (1, 2, 3, 4, 5)
PROTOCOLS = ("TCP", "UDP", "SCTP")
POD_IPS = ("10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.1.1")
NODE = "10.0.2.1"
OUTSIDE = ("10.0.0.3", "10.0.0.9", "10.0.1.9", "192.0.2.1", "192.0.2.130", "198.51.100.1")
V6 = ("fd00::1", "fd00::9", "2001:db8::1", "3fff::1")
ADDRESSES = (*POD_IPS, NODE, *OUTSIDE, *V6)
BLOCKS: dict[str, tuple[str, ...]] = {
    "0.0.0.0/0": ("10.0.0.0/16", "10.0.0.0/30", "10.0.1.1/32", "192.0.2.0/25"),
    "10.0.0.0/16": ("10.0.0.0/30", "10.0.1.0/24", "10.0.0.5/32"),
    "10.0.0.0/30": ("10.0.0.1/32",),
    "192.0.2.0/24": ("192.0.2.128/25",),
    "::/0": ("fd00::/64", "2001:db8::/32"),
    "fd00::/64": ("fd00::1/128",),
}

labels = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]), max_size=2)
_values = st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, max_size=2, unique=True)
_term = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from(["a", "b"]),
        st.sampled_from(["In", "NotIn"]),
        _values,
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(["a", "b"]),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
)
selector = st.one_of(
    st.just({}),
    st.builds(lambda labels: {"matchLabels": labels}, labels),
    st.builds(lambda terms: {"matchExpressions": terms}, st.lists(_term, min_size=1, max_size=2)),
)


@st.composite
def block(draw: st.DrawFn) -> dict[str, Any]:
    cidr = draw(st.sampled_from(sorted(BLOCKS)))
    holes = draw(st.lists(st.sampled_from(BLOCKS[cidr]), max_size=2, unique=True))
    return {"cidr": cidr, "except": holes} if holes else {"cidr": cidr}


_peer = st.one_of(
    st.builds(lambda block: {"ipBlock": block}, block()),
    st.builds(lambda pods: {"podSelector": pods}, selector),
    st.builds(lambda spaces: {"namespaceSelector": spaces}, selector),
    st.builds(lambda spaces, pods: {"namespaceSelector": spaces, "podSelector": pods}, selector, selector),
)


@st.composite
def _port(draw: st.DrawFn) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if draw(st.booleans()):
        item["protocol"] = draw(st.sampled_from(PROTOCOLS))
    wanted = draw(st.one_of(st.none(), st.sampled_from(["http", "dns"]), st.integers(1, 4)))
    if wanted is not None:
        item["port"] = wanted
        if isinstance(wanted, int) and draw(st.booleans()):
            item["endPort"] = draw(st.integers(wanted, 4))
    return item


def _rule(peers_key: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {}, optional={peers_key: st.lists(_peer, max_size=2), "ports": st.lists(_port(), max_size=2)}
    )


_spec = st.fixed_dictionaries(
    {"podSelector": selector},
    optional={
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "ingress": st.lists(_rule("from"), max_size=2),
        "egress": st.lists(_rule("to"), max_size=2),
    },
)
# Mostly TCP, as a rule without protocol is: names that never match would test nothing.
_named_ports = st.lists(
    st.tuples(st.sampled_from(["http", "dns"]), st.sampled_from(["TCP", "TCP", "UDP"]), st.integers(1, 4)),
    min_size=1,
    max_size=2,
)


def _policies(prefix: str, most: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    def named(items: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
        return [
            {"metadata": {"namespace": namespace, "name": f"{prefix}{number}"}, "spec": spec}
            for number, (namespace, spec) in enumerate(items)
        ]

    return st.lists(st.tuples(st.sampled_from(["n1", "n2"]), _spec), max_size=most).map(named)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    pods = []
    for number, ip in enumerate(POD_IPS):
        pods.append(
            {
                "ns": draw(st.sampled_from(["n1", "n2"])),
                "name": f"p{number}",
                "labels": draw(labels),
                "ips": [ip, "fd00::1"] if number == 0 else [ip],
                "ports": draw(_named_ports),
                "host": False,
                "nodes": [NODE] if number % 2 else [],
            }
        )
    pods.append(
        {"ns": "n1", "name": "host", "labels": draw(labels), "ips": [NODE], "ports": [], "host": True, "nodes": [NODE]}
    )
    return {
        "pods": pods,
        "namespaces": {"n1": draw(labels), "n2": draw(labels)},
        "policies": draw(_policies("old", 3)),
    }


def changes() -> st.SearchStrategy[tuple[list[dict[str, Any]], bool, dict[str, str] | None]]:
    """Policies to add, whether the first old one goes, and new labels for pod p0 (None: as they are)."""
    return st.tuples(_policies("new", 2), st.booleans(), st.none() | labels)


def changed(world: dict[str, Any], change: tuple[list[dict[str, Any]], bool, dict[str, str] | None]) -> dict[str, Any]:
    added, drop, labels = change
    kept = world["policies"][1:] if drop else world["policies"]
    first = world["pods"][0] if labels is None else {**world["pods"][0], "labels": labels}
    return {**world, "pods": [first, *world["pods"][1:]], "policies": kept + added}


def view_of(world: dict[str, Any]) -> ClusterView:
    pods = tuple(
        Pod(
            pod["ns"],
            pod["name"],
            pod["labels"],
            tuple(pod["ips"]),
            tuple(NamedPort(*item) for item in pod["ports"]),
            pod["host"],
            tuple(pod["nodes"]),
        )
        for pod in world["pods"]
    )
    return ClusterView(pods, world["namespaces"], tuple(read_policy(item) for item in world["policies"]))
