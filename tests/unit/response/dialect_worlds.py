"""Small random worlds with policies of each dialect, over the addresses, labels and ports of `worlds`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from schemas.policy.cluster import ClusterView
from schemas.policy.dialects import read_object
from schemas.policy.words import Dialect
from tests.unit.response import worlds
from tests.unit.response.worlds import BLOCKS, block, labels, selector

SPACES = st.sampled_from(["n1", "n2"])
CIDRS = st.sampled_from(sorted(BLOCKS))
ENFORCERS: dict[Dialect, list[str]] = {
    "networkpolicy": ["kubernetes"],
    "clusternetworkpolicy": ["kubernetes"],
    "adminnetworkpolicy": ["kubernetes"],
    "cilium": ["cilium"],
    "calico": ["calico"],
    "istio": ["kubernetes", "istio"],
}


def _few(items: st.SearchStrategy[Any], most: int = 2, least: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, min_size=least, max_size=most)


# Admin policies

_choice = st.one_of(
    st.builds(lambda chosen: {"namespaces": chosen}, selector),
    st.builds(lambda spaces, pods: {"pods": {"namespaceSelector": spaces, "podSelector": pods}}, selector, selector),
)
_egress_choice = st.one_of(
    _choice, st.builds(lambda cidrs: {"networks": cidrs}, st.lists(CIDRS, min_size=1, max_size=2))
)
_transport = st.sampled_from(["TCP", "UDP", "SCTP"])
_span = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda p: {"start": min(p), "end": max(p)})
_admin_port = st.one_of(
    st.builds(lambda t, p: {"portNumber": {"protocol": t, "port": p}}, _transport, st.integers(1, 4)),
    st.builds(lambda t, span: {"portRange": {"protocol": t, **span}}, _transport, _span),
    st.sampled_from(["http", "dns"]).map(lambda name: {"namedPort": name}),
)
_protocol = st.one_of(
    st.builds(
        lambda t, p: {t: {"destinationPort": p}},
        st.sampled_from(["tcp", "udp", "sctp"]),
        st.one_of(st.integers(1, 4).map(lambda p: {"number": p}), _span.map(lambda span: {"range": span})),
    ),
    st.sampled_from(["http", "dns"]).map(lambda name: {"destinationNamedPort": name}),
)


def _admin_rule(way: str, accept: str, ports: dict[str, Any], passing: bool) -> st.SearchStrategy[dict[str, Any]]:
    actions = [accept, "Deny", *(["Pass"] if passing else [])]
    peers = _choice if way == "from" else _egress_choice
    return st.fixed_dictionaries(
        {"action": st.sampled_from(actions), way: st.lists(peers, min_size=1, max_size=2)}, optional=ports
    )


def _admin_spec(accept: str, ports: dict[str, Any], passing: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"subject": _choice},
        optional={
            "ingress": _few(_admin_rule("from", accept, ports, passing)),
            "egress": _few(_admin_rule("to", accept, ports, passing)),
        },
    )


@st.composite
def _cluster_policies(draw: st.DrawFn) -> list[dict[str, Any]]:
    specs = draw(_few(_admin_spec("Accept", {"protocols": st.lists(_protocol, min_size=1, max_size=2)}), 3, 1))
    priorities = draw(st.permutations(range(len(specs))))
    return [
        {
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": f"c{number}"},
            "spec": {"tier": draw(st.sampled_from(["Admin", "Baseline"])), "priority": priorities[number], **spec},
        }
        for number, spec in enumerate(specs)
    ]


@st.composite
def _admin_policies(draw: st.DrawFn) -> list[dict[str, Any]]:
    ports = {"ports": st.lists(_admin_port, min_size=1, max_size=2)}
    specs = draw(_few(_admin_spec("Allow", ports), 2, 1))
    made = [
        {"kind": "AdminNetworkPolicy", "metadata": {"name": f"a{number}"}, "spec": {"priority": 9 - number, **spec}}
        for number, spec in enumerate(specs)
    ]
    baseline = draw(st.none() | _admin_spec("Allow", ports, passing=False))
    if baseline is not None:
        made.append({"kind": "BaselineAdminNetworkPolicy", "metadata": {"name": "default"}, "spec": baseline})
    return [{"apiVersion": "policy.networking.k8s.io/v1alpha1", **item} for item in made]


# Cilium

_prefix = st.sampled_from(["", "k8s:", "any:"])
_endpoint = st.one_of(
    st.just({}),
    st.builds(lambda p, own: {"matchLabels": {f"{p}{k}": v for k, v in own.items()}}, _prefix, labels),
    st.builds(lambda space: {"matchLabels": {"k8s:io.kubernetes.pod.namespace": space}}, SPACES),
    st.builds(
        lambda op: {"matchExpressions": [{"key": "io.cilium.k8s.namespace.labels.a", "operator": op}]},
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
)
_cilium_port = st.one_of(
    st.builds(
        lambda p, t: {"port": p, **({"protocol": t} if t else {})},
        st.sampled_from(["0", "1", "2", "3", "http", "dns"]),
        st.sampled_from([None, "ANY", "TCP", "UDP"]),
    ),
    _span.map(lambda span: {"port": str(span["start"]), "endPort": span["end"], "protocol": "TCP"}),
)
_entity = st.sampled_from(["all", "world", "world-ipv4", "world-ipv6", "cluster", "remote-node", "host", "none"])


def _cilium_rule(way: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            f"{way}Endpoints": _few(_endpoint),
            f"{way}CIDR": _few(CIDRS, 1),
            f"{way}CIDRSet": _few(block(), 1),
            f"{way}Entities": _few(_entity, 1),
            "toPorts": _few(st.builds(lambda ports: {"ports": ports}, _few(_cilium_port)), 1),
        },
    )


_cilium_spec = st.fixed_dictionaries(
    {"endpointSelector": _endpoint},
    optional={
        "ingress": _few(_cilium_rule("from")),
        "ingressDeny": _few(_cilium_rule("from"), 1),
        "egress": _few(_cilium_rule("to")),
        "egressDeny": _few(_cilium_rule("to"), 1),
        "enableDefaultDeny": st.fixed_dictionaries({}, optional={"ingress": st.booleans(), "egress": st.booleans()}),
    },
)


@st.composite
def _cilium_policies(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(1, 3))):
        space = draw(st.none() | SPACES)
        made.append(
            {
                "apiVersion": "cilium.io/v2",
                "kind": "CiliumNetworkPolicy" if space else "CiliumClusterwideNetworkPolicy",
                "metadata": {"name": f"k{number}", **({"namespace": space} if space else {})},
                "spec": draw(_cilium_spec),
            }
        )
    return made


# Calico: a selector is a pair of a text and a tree

_key = st.sampled_from(["a", "b", "pcns.a"])
_value = st.sampled_from(["x", "y"])
_test: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.builds(
        lambda op, k, v: (f"{k} {op} '{v}'", (op, k, v)),
        st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]),
        _key,
        _value,
    ),
    _key.map(lambda k: (f"has({k})", ("has", k))),
    st.builds(lambda op, k: (f'{k} {op} {{"x", "z"}}', (op, k, ("x", "z"))), st.sampled_from(["in", "not in"]), _key),
    st.just(("all()", ("all",))),
)
_expression: st.SearchStrategy[tuple[str, Any]] = st.recursive(
    _test,
    lambda inner: st.one_of(
        inner.map(lambda item: (f"!({item[0]})", ("not", item[1]))),
        st.builds(lambda one, other: (f"({one[0]}) && ({other[0]})", ("and", one[1], other[1])), inner, inner),
        st.builds(lambda one, other: (f"({one[0]}) || ({other[0]})", ("or", one[1], other[1])), inner, inner),
    ),
    max_leaves=3,
)
_space_expression = st.one_of(
    st.sampled_from(["a", "b"]).map(lambda k: (f"has({k})", ("has", k))),
    SPACES.map(lambda n: (f"kubernetes.io/metadata.name == '{n}'", ("==", "kubernetes.io/metadata.name", n))),
    st.just(("all()", ("all",))),
    st.just(("global()", ("none",))),
)
_calico_ports = st.lists(st.sampled_from([1, 2, "2:3", "http", "dns", 4]), min_size=1, max_size=2)
_numbers = st.lists(st.sampled_from([1, 2, "2:3"]), min_size=1, max_size=2)


@st.composite
def _entity_rule(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    entity: dict[str, Any] = {}
    trees: dict[str, Any] = {}
    for field, of in (("selector", _expression), ("notSelector", _test), ("namespaceSelector", _space_expression)):
        if draw(st.integers(0, 2)) == 0:
            entity[field], trees[field] = draw(of)
    for field in ("nets", "notNets"):
        if draw(st.integers(0, 3)) == 0:
            entity[field] = draw(st.lists(CIDRS, min_size=1, max_size=2))
    return entity, trees


@st.composite
def _calico_rule(draw: st.DrawFn, ingress: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    entity, trees = draw(_entity_rule())
    rule: dict[str, Any] = {"action": draw(st.sampled_from(["Allow", "Deny", "Pass", "Log"]))}
    choices: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.just({}), _calico_ports.map(lambda p: {"ports": p}), _numbers.map(lambda p: {"notPorts": p})
    )
    ports = draw(choices)
    if bool(ports) or draw(st.booleans()):
        rule["protocol"] = draw(st.sampled_from(["TCP", "UDP", 6]))
    elif draw(st.booleans()):
        rule["notProtocol"] = "UDP"
    if draw(st.integers(0, 4)) == 0:
        rule["ipVersion"] = draw(st.sampled_from([4, 6]))
    if ingress:
        rule["source"] = entity
        rule["destination"] = ports
    else:
        rule["destination"] = {**entity, **ports}
    return rule, trees


@st.composite
def _calico_objects(draw: st.DrawFn) -> list[dict[str, Any]]:
    orders = draw(st.permutations([10.0, 500.0, 2_000_000.0]))
    made: list[dict[str, Any]] = [
        {"kind": "Tier", "metadata": {"name": name}, "spec": {"order": order, "defaultAction": action}}
        for name, order, action in zip(("t1", "t2"), orders, draw(st.permutations(["Deny", "Pass"])), strict=False)
    ]
    made.append({
        "kind": "GlobalNetworkSet", "metadata": {"name": "g", "labels": draw(labels)},
        "spec": {"nets": draw(st.lists(CIDRS, min_size=1, max_size=2))},
    })  # fmt: skip
    made.append({
        "kind": "NetworkSet", "metadata": {"name": "s", "namespace": "n1", "labels": draw(labels)},
        "spec": {"nets": [draw(CIDRS)]},
    })  # fmt: skip
    policy_orders = draw(st.permutations([1.0, 999.0, 1001.0, 3000.0]))
    for number in range(draw(st.integers(1, 3))):
        space = draw(st.none() | SPACES)
        text, tree = draw(_expression)
        spec: dict[str, Any] = {"tier": draw(st.sampled_from(["default", "t1", "t2"])), "selector": text}
        trees: dict[str, Any] = {"selector": tree}
        if draw(st.booleans()):
            spec["order"] = policy_orders[number]
        for direction, ingress in (("ingress", True), ("egress", False)):
            pairs = draw(_few(_calico_rule(ingress)))
            if pairs:
                spec[direction] = [rule for rule, _ in pairs]
            trees[direction] = [item for _, item in pairs]
        if draw(st.booleans()):
            spec["types"] = draw(st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]))
        made.append({
            "kind": "NetworkPolicy" if space else "GlobalNetworkPolicy",
            "metadata": {"name": f"{9 - number}", **({"namespace": space} if space else {})},
            "spec": spec, "trees": trees,
        })  # fmt: skip
    return [{"apiVersion": "projectcalico.org/v3", **item} for item in made]


# Istio

_source = st.fixed_dictionaries(
    {},
    optional={
        "namespaces": st.lists(SPACES, min_size=1, max_size=1),
        "notNamespaces": st.lists(SPACES, min_size=1, max_size=1),
        "principals": st.lists(
            st.sampled_from(["*", "cluster.local/ns/n1/*", "cluster.local/ns/n2/sa/"]), min_size=1, max_size=1
        ),
        "ipBlocks": st.lists(CIDRS, min_size=1, max_size=2),
        "notIpBlocks": st.lists(CIDRS, min_size=1, max_size=1),
    },
)
_texts = st.lists(st.sampled_from(["1", "2", "3"]), min_size=1, max_size=2)
_operation = st.fixed_dictionaries({}, optional={"ports": _texts, "notPorts": _texts})
_istio_rule = st.fixed_dictionaries(
    {},
    optional={
        "from": _few(_source.map(lambda item: {"source": item})),
        "to": _few(_operation.map(lambda item: {"operation": item})),
    },
)
_workloads = st.fixed_dictionaries({}, optional={"selector": labels.map(lambda own: {"matchLabels": own})})


@st.composite
def _istio_objects(draw: st.DrawFn) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["AuthorizationPolicy", "AuthorizationPolicy", "PeerAuthentication"]))
        spec: dict[str, Any] = draw(_workloads)
        if kind == "AuthorizationPolicy":
            spec = {**spec, "action": draw(st.sampled_from(["ALLOW", "DENY"])), "rules": draw(_few(_istio_rule))}
        else:
            spec = {**spec, "mtls": {"mode": draw(st.sampled_from(["STRICT", "PERMISSIVE", "DISABLE", "UNSET"]))}}
        space = draw(st.sampled_from(["n1", "n2", "istio-system"]))
        made.append(
            {
                "apiVersion": "security.istio.io/v1",
                "kind": kind,
                "metadata": {"namespace": space, "name": f"i{number}"},
                "spec": spec,
            }
        )
    return made


OBJECTS: dict[Dialect, st.SearchStrategy[list[dict[str, Any]]]] = {
    "clusternetworkpolicy": _cluster_policies(),
    "adminnetworkpolicy": _admin_policies(),
    "cilium": _cilium_policies(),
    "calico": _calico_objects(),
    "istio": _istio_objects(),
}


@st.composite
def dialect_worlds(draw: st.DrawFn, dialect: Dialect) -> dict[str, Any]:
    """A world of NetworkPolicies with objects of one dialect beside them, all in force."""
    world = draw(worlds.worlds())
    if dialect == "istio":
        for pod in world["pods"]:
            if draw(st.booleans()):
                pod["labels"] = {**pod["labels"], "security.istio.io/tlsMode": "istio"}
    return {**world, "objects": draw(OBJECTS[dialect]), "enforcers": ENFORCERS[dialect]}


def view_of(world: dict[str, Any], dialect: Dialect) -> ClusterView:
    """The same as the evaluator's value."""
    objects = tuple(read_object({k: v for k, v in item.items() if k != "trees"}) for item in world["objects"])
    view = worlds.view_of(world)
    return replace(view, objects=objects, in_force=frozenset(("networkpolicy", dialect)))
