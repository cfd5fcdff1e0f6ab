"""Sequences, roles and exceptions: what is read, and what each mistake is told as."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.base import TickView
from detectors.rule_file import RuleError, RuleFile, load_rule_file, load_rules
from schemas.exceptions import AlertException, RoleRule, Selector
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from schemas.sequence import SequenceRule, Step

SEQUENCE = """\
sequences:
  - name: break_in
    type: temporal_ordered
    steps:
      scan: {detector: [port_scan, host_sweep]}
      guess: {technique: T1110, severity: medium}
      out: {stage: command_and_control, kind: reverse_shell, rule: [mine]}
    group-by: [target]
    aliases:
      target: {scan: victim, guess: victim, out: attacker}
    timespan: 10m
    severity: critical
    description: Broken into
    techniques: [T1190]
"""
COUNT = """\
sequences:
  - {name: many, type: value_count, steps: {any: {severity: low}}, group-by: attacker, timespan: 1h,
     condition: {field: victim, gt: 5}}
"""
ROLES = """\
roles:
  - role: resolver
    match: {namespace: kube-system, workload: [Deployment/coredns, "DaemonSet/node-*"]}
  - role: vulnerability_scanner
    match: {cidr: [192.0.2.0/28, "2001:db8::/64"], labels: {app: scanner}, pod: scan-*, node: [edge-1]}
exceptions:
  - name: prometheus
    detector: host_sweep
    match: {role: monitoring_scraper}
    reason: It asks every pod for metrics
  - {name: pot, rule: [mine], side: victim, match: {service: lab/pot}, reason: bait, expires: 2030-06-01}
"""


def test_a_sequence_is_read() -> None:
    (one,) = load_rule_file(SEQUENCE).sequences
    assert one == SequenceRule(
        "break_in", "temporal_ordered",
        (Step("scan", detectors=("port_scan", "host_sweep")), Step("guess", techniques=("T1110",), severity="medium"),
         Step("out", rules=("mine",), kinds=("reverse_shell",), stages=("command_and_control",))),
        {"scan": ("victim",), "guess": ("victim",), "out": ("attacker",)},
        600, severity="critical", description="Broken into", techniques=("T1190",),
    )  # fmt: skip
    (two,) = load_rule_file(COUNT).sequences
    assert (two.at_least, two.counted, two.timespan, two.groups) == (6, "victim", 3600, {"any": ("attacker",)})
    assert load_rules(SEQUENCE) == []


def test_roles_and_exceptions_are_read() -> None:
    read = load_rule_file(ROLES)
    assert read.roles == (
        RoleRule("resolver", Selector(("kube-system",), ("Deployment/coredns", "DaemonSet/node-*"))),
        RoleRule("vulnerability_scanner", Selector(labels=(("app", "scanner"),), cidrs=(
            ipaddress.ip_network("192.0.2.0/28"), ipaddress.ip_network("2001:db8::/64")), pods=("scan-*",),
            nodes=("edge-1",))),
    )  # fmt: skip
    assert read.exceptions == (
        AlertException("prometheus", "It asks every pod for metrics", Selector(roles=("monitoring_scraper",)),
                       detectors=("host_sweep",)),
        AlertException("pot", "bait", Selector(services=("lab/pot",)), "victim", (), ("mine",), 1906502400),
    )  # fmt: skip


def test_files_are_joined_in_order() -> None:
    joined = load_rule_file(SEQUENCE).joined(load_rule_file(COUNT)).joined(load_rule_file(ROLES))
    assert [s.name for s in joined.sequences] == ["break_in", "many"]
    assert (len(joined.roles), len(joined.exceptions), joined.rules) == (2, 2, ())


def _changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_changed(SEQUENCE, "temporal_ordered", "orderly"), "rules:3: sequence break_in: type 'orderly' is unknown"),
        (
            _changed(SEQUENCE, "port_scan, ", "port_scam, "),
            "5: sequence break_in, step scan: detector 'port_scam' is unknown; did you mean port_scan?",
        ),
        (_changed(SEQUENCE, "stage: command", "stage: comand"), "7: sequence break_in, step out: stage"),
        (_changed(SEQUENCE, "T1110", "brute"), "6: sequence break_in, step guess: techniques must be"),
        (
            _changed(SEQUENCE, "{detector: [port_scan, host_sweep]}", "{}"),
            "step scan: says nothing: give one of detector",
        ),
        (_changed(SEQUENCE, "detector:", "detectors:"), "step scan: unknown field 'detectors'"),
        (
            _changed(SEQUENCE, "group-by: [target]", "group-by: [victims]"),
            "8: sequence break_in: group-by 'victims' is neither",
        ),
        (_changed(SEQUENCE, ", out: attacker", ""), "alias target does not say which field of step out it is"),
        (_changed(SEQUENCE, "out: attacker", "out: nobody"), "alias target: field 'nobody' is unknown"),
        (_changed(SEQUENCE, "group-by: [target]", "group-by: [victim]"), "alias target is not used in group-by"),
        (_changed(SEQUENCE, "timespan: 10m", "timespan: soon"), "11: sequence break_in: timespan 'soon' must be like"),
        (_changed(SEQUENCE, "    timespan: 10m\n", ""), "timespan is missing: add timespan: 10m"),
        (_changed(SEQUENCE, "severity: critical", "condition: {gte: 2}"), "condition is for counts"),
        (_changed(SEQUENCE, "name: break_in", "name: Break In"), "name 'Break In' must be 1 to 64 of"),
        (
            _changed(COUNT, "value_count, steps", "temporal, steps"),
            "2: sequence many: steps must be a mapping of 2 to 8 names",
        ),
        (_changed(COUNT, "gt: 5", "gt: 5, gte: 5"), "condition: must give one of gt and gte"),
        (_changed(COUNT, "gt: 5", "gt: 5000"), "condition, gt: must be a whole number from 1 to 1000, not '5000'"),
        (_changed(COUNT, "field: victim, ", ""), "condition: field is missing"),
        (_changed(COUNT, "field: victim", "field: port"), "field 'port' is unknown"),
        (SEQUENCE + "detection_rules:\n  - {name: break_in, condition: dns_queries > 5}\n", "has the same name"),
        ("sequences: 5\n", "rules:1: sequences must be a list of 1 to 200 sequences (- name: ...)"),
        ("sequences: [5]\n", "rules:1: a sequence must be a mapping"),
        (
            _changed(ROLES, "role: resolver", "role: resolve"),
            "2: a role: role 'resolve' is unknown; did you mean resolver?",
        ),
        (
            _changed(
                ROLES,
                'match: {namespace: kube-system, workload: [Deployment/coredns, "DaemonSet/node-*"]}',
                "match: {role: ingress}",
            ),
            "role resolver, match: unknown field 'role'",
        ),
        (
            _changed(ROLES, "192.0.2.0/28", "192.0.2.1/28"),
            "'192.0.2.1/28' is no address range: 192.0.2.1/28 has host bits",
        ),
        (_changed(ROLES, "Deployment/coredns", "coredns"), "'coredns' must have one slash"),
        (_changed(ROLES, "labels: {app: scanner}", "labels: app"), "match, labels: must be a mapping"),
        (_changed(ROLES, "match: {role: monitoring_scraper}", "match: {}"), "exception prometheus, match: is empty"),
        (_changed(ROLES, "    reason: It asks every pod for metrics\n", ""), "exception prometheus: reason is missing"),
        (_changed(ROLES, "    detector: host_sweep\n", ""), "add detector: or rule:"),
        (_changed(ROLES, "2030-06-01", "2030-13-01"), "exception pot: expires must be a date like 2030-12-31"),
        (
            _changed(ROLES, "side: victim", "side: both"),
            "exception pot: side 'both' is unknown; known: attacker, victim",
        ),
        (_changed(ROLES, "name: pot", "name: prometheus"), "another exception has the same name"),
    ],
)
def test_every_mistake_has_its_place_and_remedy(text: str, said: str) -> None:
    with pytest.raises(RuleError) as caught:
        load_rule_file(text)
    assert said in str(caught.value)
    assert all(line.startswith("rules:") for line in caught.value.problems)


_TOKENS = st.sampled_from(
    [*"{}[]:,-\n ", "  ", "sequences", "exceptions", "roles", "steps", "name", "match", "a", "temporal", "type",
     "condition", "gte", "5", "group-by", "aliases", "victim", "cidr", "10.0.0.0/8", "expires", "role", "reason"]
)  # fmt: skip


@given(st.lists(_TOKENS, max_size=60))
def test_any_text_is_read_or_refused(tokens: list[str]) -> None:
    try:
        read = load_rule_file("".join(tokens))
    except RuleError as error:
        problems = error.problems
    else:
        problems = ("read",) if isinstance(read, RuleFile) else ()
    assert problems


def test_detectors_can_ask_for_declared_roles() -> None:
    table = IdentityTable()
    table.declare(load_rule_file(ROLES).roles)
    # By address alone the scanner's labels cannot be known, and nobody is told to be one by half a match.
    assert TickView({}, table, {}).roles("192.0.2.1", 5) == ()
    labels = {"app": "scanner"}
    scanner = ("vulnerability_scanner",)
    for name, node, roles in (("s", "edge-1", ()), ("scan-1", "n2", ()), ("scan-1", "edge-1", scanner)):
        told = InventoryObject(
            kind="Pod", uid="s", name=name, namespace="lab", ips=("192.0.2.1",), labels=labels, node=node
        )
        table.add(told)
        assert TickView({}, table, {}).roles("192.0.2.1", 5) == roles
