"""The tables of a node as nftables commands in JSON (libnftables-json(5)); pure.

One table of our own per family. Its forward chain looks packets up in sets of pairs, both ways round, and drops what is
found; connections that are established already are cut too, because nothing asks for their state. New connections to a
limited port go through a chain of that limit, which drops what is above its rates. Nothing accepts: a drop in any chain
of the kernel is final and an accept is not, so our tables can only take away, wherever other chains stand.

Why the forward hook: what enters it is on its way between two others, so a node's own traffic (kubelet, API server,
host-network pods) is out of reach by construction. Addresses are those of pods there: destinations of Services are
translated before, sources are masqueraded afterwards. Why its priority: before every iptables chain of that hook
(mangle is at -150, filter with DOCKER-USER and the chains of policy enforcers at 0), so that what is dropped costs them
nothing and is counted here even where they would drop it as well.

The bridge family sees what is switched between two ports of one bridge, which reaches the hooks of IP only where
br_netfilter hands it over. Connections are not tracked there: new ones are told by the TCP flags, so limits of UDP and
SCTP hold for routed traffic alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from response.node.entries import CutKey, Key, LimitKey, Rates, chain_name

TABLE = "sluicegate"
FORWARD = "forward"
Family = Literal["inet", "bridge"]
PRIORITY: dict[Family, int] = {"inet": -160, "bridge": -210}
# A source that opens nothing for a minute starts anew, so that the set holds who is active.
SOURCE_SECONDS = 60

Command = dict[str, Any]
_ADDRESS = {4: "ipv4_addr", 6: "ipv6_addr"}
_PROTOCOL = {4: "ip", 6: "ip6"}
_VERSIONS = (4, 6)
_TRANSPORT = {"meta": {"key": "l4proto"}}


def batch(commands: Iterable[Command]) -> Command:
    """Commands as one transaction: the kernel takes all of them or none."""
    return {"nftables": list(commands)}


def skeleton(family: Family, max_entries: int) -> list[Command]:
    """The table with empty sets, and the chain that reads them."""
    found: list[Command] = [_add(family, "table", {"name": TABLE}, own=False)]
    for version in _VERSIONS:
        pair = [_ADDRESS[version]] * 2
        found += [
            _add(family, "set", _set(f"pairs{version}", pair, max_entries)),
            _add(family, "set", _set(f"flows{version}", [*pair, "inet_proto", "inet_service"], max_entries)),
            _add(family, "map", _limits_map(version, max_entries)),
        ]
    base = {"name": FORWARD, "type": "filter", "hook": "forward", "prio": PRIORITY[family], "policy": "accept"}
    found.append(_add(family, "chain", base))
    for version in _VERSIONS:
        found += [_rule(family, FORWARD, expressions) for expressions in _lookups(family, version)]
    return found


def removal(family: Family) -> list[Command]:
    """The table and all in it, gone; no error where there is none."""
    table = {"table": {"family": family, "name": TABLE}}
    return [{"add": table}, {"delete": table}]


def add_cut(family: Family, key: CutKey, seconds: int, comment: str) -> list[Command]:
    """A pair in its set for a number of seconds; one that is there already keeps its time, so it is removed before."""
    element = {"elem": {"val": _pair(key), "timeout": seconds, "comment": comment}}
    return [_elements("add", family, _set_name(key), element)]


def remove_cut(family: Family, key: CutKey) -> list[Command]:
    """A pair out of its set; no error where its time has just run out."""
    element = _pair(key)
    # A second, because what is about to go must still be a valid element.
    present = {"elem": {"val": element, "timeout": 1}}
    return [_elements("add", family, _set_name(key), present), _elements("delete", family, _set_name(key), element)]


def add_limit(family: Family, key: LimitKey, rates: Rates, seconds: int, comment: str, sources: int) -> list[Command]:
    """A limit's chain, and the port that leads there; the port must be in no map yet."""
    name = chain_name(key, rates)
    held = {"name": _sources(name), "type": _ADDRESS[key.version], "size": sources, "timeout": SOURCE_SECONDS,
            "flags": ["timeout"]}  # fmt: skip
    source = {"payload": {"protocol": _PROTOCOL[key.version], "field": "saddr"}}
    update = {"set": {"op": "update", "elem": source, "set": f"@{_sources(name)}", "stmt": [_above(rates.per_source)]}}
    return [
        _add(family, "chain", {"name": name}),
        {"flush": {"chain": {"family": family, "table": TABLE, "name": name}}},
        _add(family, "set", held),
        _rule(family, name, [update, {"counter": None}, {"drop": None}]),
        _rule(family, name, [_above(rates.in_all), {"counter": None}, {"drop": None}]),
        _elements("add", family, _map_name(key), _jump(key, name, seconds, comment)),
    ]


def remove_limit(family: Family, key: LimitKey, name: str) -> list[Command]:
    """A port out of its map, also where its time has just run out, and its chain gone."""
    return [
        _elements("add", family, _map_name(key), _jump(key, name, 1, "")),
        _elements("delete", family, _map_name(key), _port(key)),
        *remove_chain(family, name),
    ]


def remove_chain(family: Family, name: str) -> list[Command]:
    """The chain of a limit whose port is in no map any more, and its sources."""
    place = {"family": family, "table": TABLE}
    return [
        {"flush": {"chain": {**place, "name": name}}},
        {"delete": {"chain": {**place, "name": name}}},
        {"delete": {"set": {**place, "name": _sources(name)}}},
    ]


def key_of_element(set_name: str, value: list[Any]) -> Key:
    """The key of an element as the kernel's listing gives it.

    Raises:
        ValueError: no element of ours.
    """
    texts = [_listed(part) for part in value]
    if set_name.startswith("pairs") and len(texts) == 2:
        return CutKey(texts[0], texts[1])
    if set_name.startswith("flows") and len(texts) == 4:
        return CutKey(texts[0], texts[1], _transport(texts[2]), int(texts[3]))
    if set_name.startswith("limits") and len(texts) == 3:
        return LimitKey(texts[0], _transport(texts[1]), int(texts[2]))
    message = f"set {set_name[:40]} holds something that is not ours"
    raise ValueError(message)


def _listed(part: Any) -> str:
    if isinstance(part, dict) and "prefix" in part:
        return f"{part['prefix']['addr']}/{part['prefix']['len']}"
    return str(part)


def _transport(text: str) -> Any:
    return text.upper()


def _jump(key: LimitKey, chain: str, seconds: int, comment: str) -> list[Any]:
    element: Command = {"val": _port(key), "timeout": seconds}
    if comment:
        element["comment"] = comment
    return [{"elem": element}, {"jump": {"target": chain}}]


def _map_name(key: LimitKey) -> str:
    return f"limits{key.version}"


def _set(name: str, types: list[str], size: int) -> Command:
    # Blocks need `interval`; each element counts by itself.
    return {"name": name, "type": types, "size": size, "flags": ["interval", "timeout"], "stmt": [{"counter": None}]}


def _limits_map(version: int, size: int) -> Command:
    key = [_ADDRESS[version], "inet_proto", "inet_service"]
    return {"name": f"limits{version}", "type": key, "map": "verdict", "size": size, "flags": ["timeout"]}


def _lookups(family: Family, version: int) -> list[list[Command]]:
    """The rules of one version of IP: pairs, pairs with a port, new connections to a limited port."""
    source, destination = (
        {"payload": {"protocol": _PROTOCOL[version], "field": field}} for field in ("saddr", "daddr")
    )
    to_port, from_port = ({"payload": {"protocol": "th", "field": field}} for field in ("dport", "sport"))
    drop = {"drop": None}
    limited = {"concat": [destination, _TRANSPORT, to_port]}
    return [
        [_in([source, destination], f"pairs{version}"), drop],
        [_in([destination, source], f"pairs{version}"), drop],
        [_in([source, destination, _TRANSPORT, to_port], f"flows{version}"), drop],
        [_in([destination, source, _TRANSPORT, from_port], f"flows{version}"), drop],
        [*_new(family), {"vmap": {"key": limited, "data": f"@limits{version}"}}],
    ]


def _new(family: Family) -> list[Command]:
    """What tells a packet that opens a connection."""
    if family == "inet":
        return [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}]
    flags = {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "rst", "ack"]]}
    return [{"match": {"op": "==", "left": flags, "right": "syn"}}]


def _in(key: list[Command], name: str) -> Command:
    return {"match": {"op": "==", "left": {"concat": key}, "right": f"@{name}"}}


def _above(rate: int) -> Command:
    # One second's worth may come at once: below the rate nothing is ever dropped.
    return {"limit": {"rate": rate, "burst": rate, "per": "second", "inv": True}}


def _pair(key: CutKey) -> Command:
    sides: list[Any] = [_side(key.source), _side(key.destination)]
    if key.port is not None and key.protocol is not None:
        sides += [key.protocol.lower(), key.port]
    return {"concat": sides}


def _port(key: LimitKey) -> Command:
    return {"concat": [key.victim, key.protocol.lower(), key.port]}


def _side(text: str) -> Any:
    address, slash, length = text.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}} if slash else address


def _set_name(key: CutKey) -> str:
    return f"{'pairs' if key.port is None else 'flows'}{key.version}"


def _sources(chain: str) -> str:
    return chain.replace("limit_", "sources_", 1)


def _add(family: Family, kind: str, what: Command, *, own: bool = True) -> Command:
    place: Command = {"family": family, "table": TABLE} if own else {"family": family}
    return {"add": {kind: {**place, **what}}}


def _rule(family: Family, chain: str, expressions: list[Command]) -> Command:
    return _add(family, "rule", {"chain": chain, "expr": expressions})


def _elements(verb: Literal["add", "delete"], family: Family, name: str, element: Any) -> Command:
    return {verb: {"element": {"family": family, "table": TABLE, "name": name, "elem": [element]}}}
