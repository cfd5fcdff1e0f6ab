"""Declared roles and exceptions: from YAML nodes to checked values."""

from __future__ import annotations

import datetime
import ipaddress

import yaml

from detectors.rule_fields import FieldError, printable, read_description, read_name, scalar
from detectors.rule_nodes import Nodes
from detectors.sequence_nodes import chosen, known_detectors, read_texts
from schemas.exceptions import AlertException, Network, RoleRule, Selector, Side
from schemas.roles import ROLES, Role

ROLE_FIELDS = ("role", "match")
EXCEPTION_FIELDS = ("name", "reason", "detector", "rule", "side", "match", "expires")
MATCH_FIELDS = ("namespace", "workload", "service", "pod", "node", "labels", "cidr", "role")
_SIDES: tuple[Side, ...] = ("attacker", "victim")


def read_roles(nodes: Nodes, listed: list[yaml.Node]) -> tuple[RoleRule, ...]:
    """Return the declarations that are right; the mistakes of the others are told to ``nodes``."""
    return tuple(r for node in listed if (r := _role(nodes, node)) is not None)


def read_exceptions(nodes: Nodes, listed: list[yaml.Node]) -> tuple[AlertException, ...]:
    """Return the exceptions that are right; the mistakes of the others are told to ``nodes``."""
    names: set[str] = set()
    return tuple(e for node in listed if (e := _exception(nodes, node, names)) is not None)


def _role(nodes: Nodes, node: yaml.Node) -> RoleRule | None:
    before, what = nodes.mistakes, "a role"
    fields = nodes.mapping(node, ROLE_FIELDS, what)
    _require(nodes, node, fields, ROLE_FIELDS, what)
    role: Role | None = nodes.field(fields, "role", lambda n: chosen(scalar(n), ROLES, "role"), None, what)
    match = _selector(nodes, fields.get("match"), MATCH_FIELDS[:-1], f"role {role}" if role else what)
    return RoleRule(role, match) if role is not None and nodes.mistakes == before else None


def _exception(nodes: Nodes, node: yaml.Node, names: set[str]) -> AlertException | None:
    before, what = nodes.mistakes, "an exception"
    fields = nodes.mapping(node, EXCEPTION_FIELDS, what)
    name = nodes.field(fields, "name", read_name, "", what)
    what = f"exception {name}" if name else what
    _require(nodes, node, fields, ("name", "reason", "match"), what)
    if name in names:
        nodes.say(fields["name"], f"{what}: another exception has the same name")
    names.add(name)
    detectors: tuple[str, ...] = nodes.field(fields, "detector", lambda n: known_detectors(read_texts(n)), (), what)
    rules: tuple[str, ...] = nodes.field(fields, "rule", read_texts, (), f"{what}, rule")
    if isinstance(node, yaml.MappingNode) and "detector" not in fields and "rule" not in fields:
        nodes.say(node, f"{what}: says nothing of what it is an exception to: add detector: or rule:")
    side: Side = nodes.field(fields, "side", lambda n: chosen(scalar(n), _SIDES, "side"), "attacker", what)
    reason = nodes.field(fields, "reason", _read_reason, "", what)
    expires = nodes.field(fields, "expires", _read_expiry, None, what)
    match = _selector(nodes, fields.get("match"), MATCH_FIELDS, what)
    if nodes.mistakes > before:
        return None
    return AlertException(name, reason, match, side, detectors, rules, expires)


def _require(nodes: Nodes, node: yaml.Node, fields: dict[str, yaml.Node], names: tuple[str, ...], what: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for name in names:
            if name not in fields:
                nodes.say(node, f"{what}: {name} is missing: add {name}: ...")


def _selector(nodes: Nodes, node: yaml.Node | None, known: tuple[str, ...], what: str) -> Selector:
    if node is None:
        return Selector()
    what = f"{what}, match"
    fields = nodes.mapping(node, known, what)
    if isinstance(node, yaml.MappingNode) and not node.value:
        # An empty selector would mean everybody.
        nodes.say(node, f"{what}: is empty: give one of {', '.join(known)}")

    def texts(name: str) -> tuple[str, ...]:
        return nodes.field(fields, name, read_texts, (), f"{what}, {name}")

    def roles(at: yaml.Node) -> tuple[Role, ...]:
        return tuple(chosen(text, ROLES, "role") for text in read_texts(at))

    return Selector(
        namespaces=texts("namespace"),
        workloads=nodes.field(fields, "workload", _read_paths, (), f"{what}, workload"),
        services=nodes.field(fields, "service", _read_paths, (), f"{what}, service"),
        labels=nodes.field(fields, "labels", _read_labels, (), f"{what}, labels"),
        cidrs=nodes.field(fields, "cidr", _read_networks, (), f"{what}, cidr"),
        roles=nodes.field(fields, "role", roles, (), what),
        pods=texts("pod"),
        nodes=texts("node"),
    )


def _read_reason(node: yaml.Node) -> str:
    try:
        return read_description(node)
    except FieldError as error:
        raise FieldError(str(error).replace("description", "reason", 1)) from None


def _read_paths(node: yaml.Node) -> tuple[str, ...]:
    texts = read_texts(node)
    for text in texts:
        if text.count("/") != 1:
            problem = f"'{printable(text)}' must have one slash, like Deployment/web or shop/web"
            raise FieldError(problem)
    return texts


def _read_labels(node: yaml.Node) -> tuple[tuple[str, str], ...]:
    given = node.value if isinstance(node, yaml.MappingNode) else []
    if not given or not all(scalar(key) and isinstance(value, yaml.ScalarNode) for key, value in given):
        problem = "must be a mapping of names to values"
        raise FieldError(problem)
    return tuple(sorted((scalar(key), scalar(value)) for key, value in given))


def _read_networks(node: yaml.Node) -> tuple[Network, ...]:
    found = []
    for text in read_texts(node):
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            problem = f"'{printable(text)}' is no address range: {printable(str(error))}"
            raise FieldError(problem) from None
    return tuple(found)


def _read_expiry(node: yaml.Node) -> int:
    text = scalar(node)
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        problem = (
            f"expires must be a date like 2030-12-31 (void from its first second on, UTC), not '{printable(text)}'"
        )
        raise FieldError(problem) from None
    return int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp())
