"""Sigma rules become rules that run, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from detectors.rule_file import load_rule_file
from schemas.alert import Alert
from sluicegate.sigma_import import Imported, import_sigma
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import CLOSED, OPENED, Node, Row, flow, query

CONN, DNS = {"product": "zeek", "service": "conn"}, {"category": "dns"}


def rule(name: str, detection: dict[str, Any], source: dict[str, str] = CONN, **more: Any) -> dict[str, Any]:
    condition = {"condition": "s"} if "condition" not in detection else {}
    return {
        "title": f"Title {name}",
        "name": name,
        "logsource": source,
        "detection": {**detection, **condition},
        **more,
    }


def correlation(name: str, kind: str, rules: list[str], **more: Any) -> dict[str, Any]:
    outer: dict[str, Any] = {key: more.pop(key) for key in ("level", "tags") if key in more}
    inner = {"type": kind, "rules": rules, "group-by": ["id.orig_h"], "timespan": "10m", **more}
    document: dict[str, Any] = {"title": f"Title {name}", "name": name, "correlation": inner}
    return document | outer


def imported(*documents: dict[str, Any]) -> Imported:
    return import_sigma([("f.yml", yaml.safe_dump_all(documents))])


def where(*documents: dict[str, Any]) -> str:
    out = imported(*documents)
    assert out.refused == []
    (read,) = load_rule_file(out.text()).rules
    assert read.where is not None
    return f"{read.condition.text}: {read.where.text}"


@pytest.mark.parametrize(
    ("selection", "source", "text"),
    [
        ({"id.resp_p": 22}, CONN, "connection_attempts > 0: dst_port == 22"),
        (
            {"id.resp_p": [22, 23], "proto": "tcp"},
            CONN,
            "connection_attempts > 0: (dst_port == 22 or dst_port == 23) and proto == 'tcp'",
        ),
        ({"id.resp_p|gte": 1024}, CONN, "connection_attempts > 0: dst_port >= 1024"),
        ({"id.orig_h|cidr": "10.0.0.0/8"}, CONN, "connection_attempts > 0: src in '10.0.0.0/8'"),
        ({"id.orig_h": "192.168.*"}, CONN, "connection_attempts > 0: src in '192.168.0.0/16'"),
        ({"conn_state": "REJ"}, CONN, "flow_rows > 0: refused"),
        ({"orig_bytes|gt": 1000}, CONN, "flow_rows > 0: closed and (total_src_payload > 1000)"),
        ({"service": "ssl"}, CONN, "flow_rows > 0: closed and (app == 'tls')"),
        (
            {"dst_port": 445, "action": "block"},
            {"category": "firewall"},
            "connection_attempts > 0: verdict == 'denied' and dst_port == 445",
        ),
        (
            {"DestinationPort": "4444"},
            {"category": "network_connection", "product": "windows"},
            "connection_attempts > 0: dst_port == 4444",
        ),
        ({"query": "a.test"}, DNS, "dns_queries > 0: qname == 'a.test'"),
        ({"query|startswith": "x."}, DNS, "dns_queries > 0: startswith(qname, 'x.')"),
        ({"query|contains": "mid"}, DNS, "dns_queries > 0: contains(qname, 'mid')"),
        ({"query|endswith": [".a", ".b"]}, DNS, "dns_queries > 0: endswith(qname, '.a') or endswith(qname, '.b')"),
        ({"query": "a*b?c"}, DNS, "dns_queries > 0: like(qname, 'a*b?c')"),
        ({"query|re": r"^\d+\.x$"}, DNS, r"dns_queries > 0: matches(qname, '^\\d+\\.x$')"),
        ({"record_type": "TXT"}, DNS, "dns_queries > 0: qtype == 'TXT'"),
        ({"answer|startswith": "127."}, DNS, "dns_rows > 0: startswith(record_data, '127.')"),
        (
            {"rcode_name": "NXDOMAIN"},
            {"product": "zeek", "service": "dns"},
            "dns_rows > 0: answer_number <= 1 and (rcode == 'NXDOMAIN')",
        ),
    ],
)
def test_selections_become_filters(selection: dict[str, Any], source: dict[str, str], text: str) -> None:
    assert where(rule("r", {"s": selection}, source)) == text


def test_conditions_keep_their_meaning() -> None:
    detection = {
        "s": {"id.resp_p": 22},
        "t": {"id.resp_p": 23},
        "n": {"id.orig_h": "10.0.0.1"},
        "condition": "(s or t) and not n",
    }
    assert where(rule("r", detection)).endswith("(dst_port == 22 or dst_port == 23) and not src in '10.0.0.1'")


def test_what_a_rule_says_about_itself_is_kept() -> None:
    out = imported(
        rule(
            "Odd Name!",
            {"s": {"id.resp_p": 1}},
            level="critical",
            tags=["attack.t1021.004", "attack.lateral-movement", "cve.2020-1"],
        )
    )
    (read,) = load_rule_file(out.text()).rules
    assert (read.name, read.description, read.severity, read.techniques) == (
        "odd_name",
        "Title Odd Name!",
        "critical",
        ("T1021.004",),
    )


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (
            rule("r", {"s": {"Image": "x"}}, {"product": "windows", "category": "process_creation"}),
            "is neither flows nor DNS",
        ),
        (rule("r", {"s": {"uid": "x"}}), "field uid has no counterpart in flow rows; those that have: id.orig_h"),
        (rule("r", {"s": ["word"]}), "keywords without a field"),
        (rule("r", {"s": {"conn_state": "SF"}}), "conn_state 'SF': only S0, REJ"),
        (rule("r", {"s": {"conn_state": "S0"}, "condition": "not s"}), "and not negated"),
        (rule("r", {"s": {"id.orig_h": "host*"}}), "'host*' is neither an address nor a range"),
        (rule("r", {"s": {"id.resp_p": "2*"}}), "field dst_port is a number here"),
        (rule("r", {"s": {"service": "kerberos"}}), "service 'kerberos' is not told apart here"),
        (rule("r", {"s": {"query|exists": True}}, DNS), "every row has every field"),
        (rule("r", {"s": {"id.resp_p": None}}), "field dst_port is never null here"),
        (rule("r", {"s": {"query|re": "(?<=a)b"}}, DNS), "is no pattern"),
        (rule("r", {"s": {"record_type": "NONSENSE"}}, DNS), "qtype is a number, not 'nonsense'"),
        (rule("r", {"s": {"query": ["x" * 250 + str(n) for n in range(40)]}}, DNS), "more than 4096"),
        ({"title": "Title r", "logsource": DNS, "detection": {"s": {"query": "x"}, "condition": "nobody"}}, "nobody"),
        ({"title": "Title r", "hello": 1}, "neither a Sigma rule nor a correlation"),
        ({"title": "Title r", "detection": 5, "logsource": 7}, "no valid Sigma rule"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name_and_the_rest_is_kept(document: dict[str, Any], reason: str) -> None:
    out = imported(document, rule("good", {"s": {"id.resp_p": 7}}))
    ((name, said),) = out.refused
    assert name == "Title r"
    assert reason.lower() in said.lower()
    assert [r["name"] for r in out.rules] == ["good"]


SSH, NAMES = rule("ssh", {"s": {"id.resp_p": 22}}), rule("names", {"s": {"query|endswith": ".evil.test"}}, DNS)


def test_counts_become_rules_and_what_they_count_does_not_alert() -> None:
    out = imported(
        SSH,
        NAMES,
        correlation("many", "event_count", ["ssh"], condition={"gte": 50}, level="high"),
        correlation("wide", "value_count", ["ssh"], condition={"gt": 5, "field": "id.resp_h"}),
        correlation(
            "asks", "value_count", ["names"], condition={"gte": 9, "field": "query"}, **{"group-by": ["src_ip"]}
        ),
    )
    assert out.refused == []
    assert [(r["name"], r["condition"], r["time_window"]) for r in out.rules] == [
        ("many", "connection_attempts >= 50", "10m"),
        ("wide", "unique_destinations > 5", "10m"),
        ("asks", "unique_dns_names >= 9", "10m"),
    ]
    assert (
        imported(SSH, correlation("many", "event_count", ["ssh"], condition={"gte": 5}, generate=True)).rules[0]["name"]
        == "ssh"
    )


def test_temporal_ones_become_sequences_of_their_rules() -> None:
    chain = correlation(
        "chain",
        "temporal_ordered",
        ["names", "ssh"],
        level="critical",
        aliases={"host": {"names": "src_ip", "ssh": "id.orig_h"}},
        **{"group-by": ["host"]},
    )
    out = imported(SSH, NAMES, chain)
    assert out.refused == []
    read = load_rule_file(out.text())
    (one,) = read.sequences
    assert (one.type, one.timespan, one.severity) == ("temporal_ordered", 600, "critical")
    assert [(s.name, s.rules) for s in one.steps] == [("names", ("names",)), ("ssh", ("ssh",))]
    assert {r.name: r.severity for r in read.rules} == {"ssh": "info", "names": "info"}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (
            correlation("c", "event_count", ["ssh"], condition={"gte": 5}, **{"group-by": ["id.resp_h"]}),
            "grouped by id.resp_h: rows with a filter are counted per source",
        ),
        (correlation("c", "event_count", ["nobody"], condition={"gte": 5}), "rule nobody is not in these files"),
        (correlation("c", "event_count", ["ssh"], condition={"lt": 5}), "condition lt"),
        (correlation("c", "event_count", ["ssh", "names"], condition={"gte": 5}), "different kinds of rows"),
        (correlation("c", "value_count", ["ssh"], condition={"gte": 5, "field": "proto"}), "different values of proto"),
        (
            correlation("c", "value_sum", ["ssh"], condition={"gte": 5, "field": "orig_bytes"}),
            "type value_sum is not known",
        ),
        (correlation("c", "event_count", ["ssh"], condition={"gte": 5}, timespan="30d"), "time_window '720h' must be"),
        (correlation("c", "temporal", ["ssh", "names"], **{"group-by": ["id.resp_h"]}), "name the source address only"),
        (correlation("c", "temporal", ["ssh", "names"], condition="ssh and not names"), "extended condition"),
        (correlation("c", "temporal", ["ssh"]), "steps must be a mapping of 2 to 8"),
    ],
)
def test_correlations_that_cannot_be_said(document: dict[str, Any], reason: str) -> None:
    out = imported(SSH, NAMES, document)
    ((name, said),) = out.refused
    assert (name, reason in said) == ("Title c", True), said
    assert out.sequences == []


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x\n", "a: [", "- 5\n", "\x01"])
def test_files_that_are_none_are_refused_by_their_name(text: str) -> None:
    ((name, _),) = import_sigma([("bad.yml", text)]).refused
    assert name.startswith("bad.yml")


def alerts(text: str, rows: list[list[tuple[str, Row]]]) -> list[Alert]:
    node = Node()
    messages = [node.second(0)]
    for at, second in enumerate(rows, 1):
        messages.append(
            node.second(at, flows=[r for k, r in second if k == "flow"], dns=[r for k, r in second if k == "dns"])
        )
    messages += [node.second(len(rows) + 1), node.second(900)]
    outputs = Pipeline(Parts(PipelineSettings(), rules=load_rule_file(text))).run(messages)
    return [a for output in outputs for a in output.alerts if a.rule and a.revision == 1]


def test_an_imported_chain_runs() -> None:
    chain = correlation(
        "chain",
        "temporal_ordered",
        ["names", "ssh"],
        level="critical",
        aliases={"host": {"names": "src_ip", "ssh": "id.orig_h"}},
        **{"group-by": ["host"]},
    )
    big = rule("big", {"s": {"orig_bytes|gt": 1000}})
    text = imported(SSH, NAMES, chain, big).text()
    asked, shell = ("dns", query("10.0.0.9", "x.evil.test")), ("flow", flow("10.0.0.9", "10.0.0.2", 22))
    upload = ("flow", flow("10.0.0.9", "10.0.0.3", 443, marks=OPENED | CLOSED, total_src_payload=2000))
    other = ("flow", flow("10.0.0.8", "10.0.0.2", 22))
    found = alerts(text, [[asked], [other], [shell], [upload]])
    assert sorted((a.rule or "", a.subject, a.severity) for a in found) == [
        ("big", "10.0.0.9@node1", "medium"),
        ("chain", "10.0.0.9", "critical"),
        ("names", "10.0.0.9@node1", "info"),
        ("ssh", "10.0.0.8@node1", "info"),
        ("ssh", "10.0.0.9@node1", "info"),
    ]
    assert not [a for a in alerts(text, [[shell], [asked]]) if a.rule == "chain"]


_VALUES = st.one_of(
    st.text(max_size=12), st.integers(-9, 1 << 40), st.none(), st.booleans(), st.lists(st.text(max_size=5))
)
_FIELDS = st.sampled_from(
    ["query", "query|re", "query|endswith", "id.orig_h", "id.resp_p|lt", "proto", "answers", "x", ""]
)


@given(selection=st.dictionaries(_FIELDS, _VALUES, max_size=4), source=st.sampled_from([CONN, DNS]))
def test_whatever_a_rule_says_it_is_imported_or_refused(selection: dict[str, Any], source: dict[str, str]) -> None:
    out = imported(rule("r", {"s": selection}, source))
    assert len(out.rules) + len(out.refused) == 1
    if out.rules:
        load_rule_file(out.text())
