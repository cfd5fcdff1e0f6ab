"""A second reading of the other dialects, by enumeration over raw API documents; shares no code with the evaluator.

A world is one of `policy_oracle` with `objects` (API documents of other dialects) and `enforcers`. Calico's selectors
are kept beside their text as trees, under the key `trees`, so that nothing here parses what the evaluator parses.
"""

from __future__ import annotations

from typing import Any

from tests.unit.response.istio_oracle import Question, istio
from tests.unit.response.policy_oracle import World, inside, owner, port_covers, selects, types_of
from tests.unit.response.policy_oracle import peer_covers as kubernetes_peer_covers


def spaces(world: World, namespace: str) -> dict[str, str]:
    return {**world["namespaces"].get(namespace, {}), "kubernetes.io/metadata.name": namespace}


def side_allows(world: World, pod: dict[str, Any], direction: str, question: Question) -> bool:
    """Every enforcer must let it through."""
    address = question[0]
    if pod["host"] or address in pod["ips"] or (owner(world, address) is None and address in pod["nodes"]):
        return True
    said = {
        "kubernetes": kubernetes, "cilium": cilium, "calico": calico, "istio": istio,
    }  # fmt: skip
    return all(said[name](world, pod, direction, question) for name in world["enforcers"])


def allows(world: World, source: str, destination: str, protocol: str, port: int, reading: str) -> bool:
    sender, receiver = owner(world, source), owner(world, destination)
    if sender is not None and not side_allows(world, sender, "Egress", (destination, protocol, port, reading)):
        return False
    return receiver is None or side_allows(world, receiver, "Ingress", (source, protocol, port, reading))


def networkpolicies(world: World, pod: dict[str, Any], direction: str, question: Question) -> bool | None:
    """What NetworkPolicies alone say: allowed, denied by isolation, or nothing."""
    address, protocol, port, reading = question
    said: bool | None = None
    destination = pod if direction == "Ingress" else owner(world, address)
    for policy in world["policies"]:
        spec, home = policy["spec"], policy["metadata"]["namespace"]
        if home != pod["ns"] or not selects(spec.get("podSelector") or {}, pod["labels"]):
            continue
        if direction not in types_of(spec):
            continue
        said = said or False
        for rule in spec.get(direction.lower()) or []:
            peers = rule.get("from" if direction == "Ingress" else "to") or []
            ports = rule.get("ports") or []
            if peers and not any(_kubernetes_peer(world, home, peer, address, reading) for peer in peers):
                continue
            if not ports or any(port_covers(item, destination, protocol, port) for item in ports):
                said = True
    return said


def _kubernetes_peer(world: World, home: str, peer: dict[str, Any], address: str, reading: str) -> bool:
    if reading == "world" and "ipBlock" in peer and address in _nodes(world):
        return False
    return kubernetes_peer_covers(world, home, peer, address, "outside" if reading == "world" else reading)


def _nodes(world: World) -> set[str]:
    return {node for pod in world["pods"] for node in pod["nodes"]}


# Admin policies


def admin(world: World, pod: dict[str, Any], direction: str, question: Question, tier: str) -> str:
    """Allow, Deny, or Pass where no rule of the tier decides."""
    address, protocol, port, _ = question
    destination = pod if direction == "Ingress" else owner(world, address)
    of_tier = [item for item in world["objects"] if item["kind"] in _TIERED and _tier(item) == tier]
    for policy in sorted(of_tier, key=lambda item: item["spec"].get("priority", 0)):
        if not _admin_choice(world, policy["spec"]["subject"], pod, address):
            continue
        for rule in policy["spec"].get(direction.lower()) or []:
            peers = rule["from" if direction == "Ingress" else "to"]
            if not any(_admin_choice(world, peer, owner(world, address), address) for peer in peers):
                continue
            if _admin_ports(rule, destination, protocol, port):
                return str(rule["action"]).replace("Accept", "Allow")
    return "Pass"


_TIERED = ("ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy")


def _tier(item: dict[str, Any]) -> str:
    fixed = {"AdminNetworkPolicy": "Admin", "BaselineAdminNetworkPolicy": "Baseline"}
    return str(fixed.get(item["kind"], item["spec"].get("tier", "")))


def _admin_choice(world: World, choice: dict[str, Any], pod: dict[str, Any] | None, address: str) -> bool:
    if "networks" in choice:
        return any(inside(address, cidr) for cidr in choice["networks"])
    if pod is None:
        return False
    labels = spaces(world, pod["ns"])
    if "namespaces" in choice:
        return selects(choice["namespaces"], labels)
    chosen = choice["pods"]
    return selects(chosen.get("namespaceSelector", {}), labels) and selects(chosen["podSelector"], pod["labels"])


def _admin_ports(rule: dict[str, Any], destination: dict[str, Any] | None, protocol: str, port: int) -> bool:
    wanted = (rule.get("ports") or []) + (rule.get("protocols") or [])
    if not wanted:
        return True
    for item in wanted:
        name = item.get("namedPort") or item.get("destinationNamedPort")
        if name and destination is not None and (name, protocol, port) in destination["ports"]:
            return True
        number = item.get("portNumber")
        if number and number["protocol"] == protocol and number["port"] == port:
            return True
        span = item.get("portRange")
        if span and span["protocol"] == protocol and span["start"] <= port <= span["end"]:
            return True
        transport = item.get(protocol.lower())
        if transport:
            there = transport["destinationPort"]
            if there.get("number") == port:
                return True
            if "range" in there and there["range"]["start"] <= port <= there["range"]["end"]:
                return True
    return False


def kubernetes(world: World, pod: dict[str, Any], direction: str, question: Question) -> bool:
    said = admin(world, pod, direction, question, "Admin")
    if said != "Pass":
        return said == "Allow"
    below = networkpolicies(world, pod, direction, question)
    if below is not None:
        return below
    return admin(world, pod, direction, question, "Baseline") != "Deny"


# Cilium


def cilium(world: World, pod: dict[str, Any], direction: str, question: Question) -> bool:
    address, protocol, port, reading = question
    own: Question = (address, protocol, port, {"every": "outside", "outside": "world"}[reading])
    isolated, allowed = False, False
    for policy in world["objects"]:
        if not policy["kind"].startswith("Cilium"):
            continue
        home = policy["metadata"].get("namespace", "")
        spec = policy["spec"]
        if (home and home != pod["ns"]) or not selects(_bare(spec["endpointSelector"]), _cilium_labels(world, pod)):
            continue
        denying, allowing = spec.get(f"{direction.lower()}Deny") or [], spec.get(direction.lower()) or []
        if any(_cilium_rule(world, home, rule, pod, direction, own) for rule in denying):
            return False
        allowed = allowed or any(_cilium_rule(world, home, rule, pod, direction, own) for rule in allowing)
        default = spec.get("enableDefaultDeny", {}).get(direction.lower())
        isolated = isolated or (bool(denying or allowing) if default is None else default)
    below = networkpolicies(world, pod, direction, own)
    if allowed or below:
        return True
    return not isolated and below is None


def _cilium_labels(world: World, pod: dict[str, Any]) -> dict[str, str]:
    named = {f"io.cilium.k8s.namespace.labels.{key}": value for key, value in spaces(world, pod["ns"]).items()}
    return {**pod["labels"], **named, "io.kubernetes.pod.namespace": pod["ns"]}


def _bare(selector: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "matchLabels" in selector:
        made["matchLabels"] = {key.split(":")[-1]: value for key, value in selector["matchLabels"].items()}
    if "matchExpressions" in selector:
        made["matchExpressions"] = [{**e, "key": e["key"].split(":")[-1]} for e in selector["matchExpressions"]]
    return made


def _cilium_rule(
    world: World, home: str, rule: dict[str, Any], pod: dict[str, Any], direction: str, question: Question
) -> bool:
    address, protocol, port, _ = question
    way = "from" if direction == "Ingress" else "to"
    fields = [f"{way}Endpoints", f"{way}CIDR", f"{way}CIDRSet", f"{way}Entities"]
    given = {field: rule[field] for field in fields if field in rule}
    if any(not items for items in given.values()):
        return False
    ports = rule.get("toPorts")
    if not given and not ports:
        return False
    if given and not any(
        _cilium_peer(world, home, field, item, question) for field, items in given.items() for item in items
    ):
        return False
    if not ports:
        return True
    destination = pod if direction == "Ingress" else owner(world, address)
    return any(_cilium_port(item, destination, protocol, port) for group in ports for item in group.get("ports", []))


def _cilium_port(item: dict[str, Any], destination: dict[str, Any] | None, protocol: str, port: int) -> bool:
    if item.get("protocol", "ANY") not in ("ANY", protocol):
        return False
    text = item["port"]
    if not text.isdigit():
        return destination is not None and (text, protocol, port) in destination["ports"]
    return bool(text == "0" or int(text) <= port <= item.get("endPort", int(text)))


def _cilium_peer(world: World, home: str, field: str, item: Any, question: Question) -> bool:
    address, _, _, reading = question
    pod = owner(world, address)
    node = address in _nodes(world)
    if field.endswith("Endpoints"):
        if pod is None:
            return False
        chosen = _bare(item)
        keys = [*chosen.get("matchLabels", {}), *(e["key"] for e in chosen.get("matchExpressions", []))]
        elsewhere = any(key.startswith(("io.kubernetes.pod.namespace", "io.cilium.k8s.namespace")) for key in keys)
        if home and not elsewhere and pod["ns"] != home:
            return False
        return selects(chosen, _cilium_labels(world, pod))
    if field.endswith("Entities"):
        return bool({
            "all": True, "cluster": pod is not None or node, "world": pod is None and not node, "none": False,
            "remote-node": pod is None and node, "world-ipv4": pod is None and not node and ":" not in address,
            "host": False, "world-ipv6": pod is None and not node and ":" in address,
        }[item])  # fmt: skip
    if pod is not None or (reading == "world" and node):
        return False
    cidr, holes = (item, []) if isinstance(item, str) else (item["cidr"], item.get("except", []))
    return inside(address, cidr) and not any(inside(address, hole) for hole in holes)


# Calico


def calico(world: World, pod: dict[str, Any], direction: str, question: Question) -> bool:
    every: Question = (*question[:3], "every")
    ladder: list[tuple[float, str, str]] = [(1_000_000.0, "default", "Deny")]
    ladder += [
        (item["spec"]["order"], item["metadata"]["name"], item["spec"].get("defaultAction", "Deny"))
        for item in world["objects"]
        if item["kind"] == "Tier"
    ]
    for _, tier, otherwise in sorted(ladder):
        said = _calico_tier(world, pod, direction, every, tier, otherwise)
        if said != "Pass":
            return said == "Allow"
    return True


def _calico_tier(
    world: World, pod: dict[str, Any], direction: str, question: Question, tier: str, otherwise: str
) -> str:
    steps: list[tuple[float, str, Any]] = []
    for item in world["objects"]:
        spec = item["spec"]
        if not item["kind"].endswith("NetworkPolicy") or spec.get("tier", "default") != tier:
            continue
        home = item["metadata"].get("namespace", "")
        trees = item["trees"]
        if (home and home != pod["ns"]) or not tree_holds(trees["selector"], _calico_labels(world, pod)):
            continue
        if direction in _calico_types(spec):
            steps.append((spec.get("order", float("inf")), item["metadata"]["name"], item))
    below = networkpolicies(world, pod, direction, question) if tier == "default" else None
    if below is not None:
        steps.append((1000.0, "", None))
    for _, _, item in sorted(steps, key=lambda step: step[:2]):
        if item is None:
            if below:
                return "Allow"
            continue
        home = item["metadata"].get("namespace", "")
        for number, rule in enumerate(item["spec"].get(direction.lower()) or []):
            trees = item["trees"][direction.lower()][number]
            if rule["action"] != "Log" and _calico_rule(world, home, rule, trees, pod, direction, question):
                return str(rule["action"])
    return otherwise if steps else "Pass"


def _calico_types(spec: dict[str, Any]) -> list[str]:
    if spec.get("types"):
        return list(spec["types"])
    if spec.get("egress"):
        return ["Ingress", "Egress"] if spec.get("ingress") else ["Egress"]
    return ["Ingress"]


def _calico_labels(world: World, pod: dict[str, Any]) -> dict[str, str]:
    return {**{f"pcns.{k}": v for k, v in spaces(world, pod["ns"]).items()}, **pod["labels"]}


def tree_holds(tree: Any, labels: dict[str, str]) -> bool:
    """A selector as a tree: ("and", a, b), ("or", a, b), ("not", a), ("all",), or a test of one label."""
    kind = tree[0]
    if kind == "and":
        return tree_holds(tree[1], labels) and tree_holds(tree[2], labels)
    if kind == "or":
        return tree_holds(tree[1], labels) or tree_holds(tree[2], labels)
    if kind == "not":
        return not tree_holds(tree[1], labels)
    if kind == "all":
        return True
    value = labels.get(tree[1])
    if kind in ("==", "!="):
        return bool((value == tree[2]) == (kind == "=="))
    if kind in ("in", "not in"):
        return bool((value in tree[2]) == (kind == "in"))
    if kind == "has" or value is None:
        return kind == "has" and value is not None
    if kind == "contains":
        return bool(tree[2] in value)
    return bool(value.startswith(tree[2]) if kind == "starts with" else value.endswith(tree[2]))


def _calico_rule(
    world: World, home: str, rule: dict[str, Any], trees: Any, pod: dict[str, Any], direction: str, question: Question
) -> bool:
    address, protocol, port, _ = question
    if "ipVersion" in rule and (rule["ipVersion"] == 6) != (":" in address):
        return False
    if "protocol" in rule and str(rule["protocol"]) not in (protocol, {"TCP": "6", "UDP": "17"}.get(protocol)):
        return False
    if rule.get("notProtocol") == protocol:
        return False
    peer = rule.get("source" if direction == "Ingress" else "destination") or {}
    if "nets" in peer and not any(inside(address, net) for net in peer["nets"]):
        return False
    if any(inside(address, net) for net in peer.get("notNets", [])):
        return False
    names = peer.get("namespaceSelector")
    if ("selector" in peer or names) and not _chosen(world, home, trees, names, "selector", address):
        return False
    if "notSelector" in peer and _chosen(world, home, trees, names, "notSelector", address):
        return False
    there = rule.get("destination") or {}
    destination = pod if direction == "Ingress" else owner(world, address)
    if any(_calico_port(item, destination, protocol, port) for item in there.get("notPorts", [])):
        return False
    wanted = there.get("ports", [])
    return not wanted or any(_calico_port(item, destination, protocol, port) for item in wanted)


def _chosen(world: World, home: str, trees: Any, names: str | None, which: str, address: str) -> bool:
    tree = trees.get(which, ("all",))
    pod = owner(world, address)
    in_scope = pod is not None and _in_scope(world, home, trees, names, pod["ns"])
    if pod is not None and in_scope and tree_holds(tree, _calico_labels(world, pod)):
        return True
    for item in world["objects"]:
        if not item["kind"].endswith("NetworkSet"):
            continue
        space = item["metadata"].get("namespace", "")
        if not _in_scope(world, home, trees, names, space) or not tree_holds(tree, item["metadata"]["labels"]):
            continue
        if any(inside(address, net) for net in item["spec"]["nets"]):
            return True
    return False


def _in_scope(world: World, home: str, trees: Any, names: str | None, namespace: str) -> bool:
    if not names:
        return not home or namespace == home
    if names == "global()":
        return not namespace
    return bool(namespace) and tree_holds(trees["namespaceSelector"], spaces(world, namespace))


def _calico_port(item: Any, destination: dict[str, Any] | None, protocol: str, port: int) -> bool:
    text = str(item)
    low, _, high = text.partition(":")
    if not low.isdigit():
        return destination is not None and (text, protocol, port) in destination["ports"]
    return int(low) <= port <= int(high or low)
