"""Filters of rows: what passes, what is refused, and that rules count what passes."""

from __future__ import annotations

import fnmatch
import ipaddress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.condition import ConditionError
from detectors.row_filter import MAX_VALUES, RowKind, known_fields, parse_filter
from detectors.rule_file import RuleError, load_rule_file
from schemas.alert import Alert
from schemas.event_codec import EventMessage, rows_to_batch
from schemas.events import Capability
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, CLOSED, OPENED, REFUSED, Node, Row, flow, query

FLOWS = [
    flow("10.0.0.1", "10.0.0.2", 22),
    flow("10.0.0.1", "192.0.2.7", 443, proto=17, app="QUIC"),
    flow("2001:db8::1", "2001:db8::2", 3389, marks=OPENED | REFUSED, verdict=2),
    flow("172.16.0.9", "10.0.0.2", 80, marks=CLOSED, total_src_bytes=5000, direction_known=True),
]
NAMES = [
    query("10.0.0.1", "www.example.com"),
    query("10.0.0.1", "a-1.evil.test", qtype=16, rcode=3),
    query("10.0.0.3", "evil.test.example.org", rcode=-1, answer_number=0),
    query("10.0.0.3", "1.0.0.10.in-addr.arpa", qtype=12),
]


def batch(kind: RowKind, rows: list[Row]) -> pa.RecordBatch:
    return rows_to_batch(kind, rows, BEGIN)


def passed(text: str, kind: RowKind = "flow", rows: list[Row] | None = None) -> list[int]:
    mask = parse_filter(text, kind).mask(
        batch(kind, rows if rows is not None else (FLOWS if kind == "flow" else NAMES))
    )
    assert mask.dtype == bool
    return [n for n, passes in enumerate(mask) if passes]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("dst_port == 22", [0]),
        ("22 == dst_port", [0]),
        ("dst_port != 22", [1, 2, 3]),
        ("dst_port in [22, 80]", [0, 3]),
        ("dst_port not in [22, 80]", [1, 2]),
        ("dst_port > 80", [1, 2]),
        ("80 < dst_port", [1, 2]),
        ("dst_port >= 80", [1, 2, 3]),
        ('proto == "udp"', [1]),
        ('proto in ["TCP", 1]', [0, 2, 3]),
        ('src in "10.0.0.0/8"', [0, 1]),
        ('src == "172.16.0.9"', [3]),
        ('src not in ["10.0.0.0/8", "2001:db8::/32"]', [3]),
        ('dst in "::/0"', [0, 1, 2, 3]),
        ('dst in "0.0.0.0/0"', [0, 1, 3]),
        ('app == "quic"', [1]),
        ('startswith(app, "Q")', [1]),
        ('app == ""', [0, 2, 3]),
        ("refused", [2]),
        ("opened and not refused", [0, 1]),
        ('verdict == "denied"', [2]),
        ("closed and total_src_bytes > 4999", [3]),
        ("src_bytes == -1", []),
        ("(dst_port == 22 or dst_port == 80) and not closed", [0]),
        ("direction_known", [3]),
    ],
)
def test_flows_pass(text: str, rows: list[int]) -> None:
    if text == "direction_known":
        assert passed(text, rows=[{**row, "direction_known": "total_src_bytes" in row} for row in FLOWS]) == rows
    else:
        assert passed(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('endswith(qname, ".evil.TEST")', [1]),
        ('contains(qname, "evil")', [1, 2]),
        ('startswith(qname, "www.", "1.")', [0, 3]),
        ('contains(qname, ["example", "arpa"])', [0, 2, 3]),
        ('like(qname, "*.example.???")', [0, 2]),
        ('like(qname, "www")', []),
        (r'matches(qname, "^[0-9.]+\\.in-addr")', [3]),
        ('qname in ["www.example.com", "EVIL.test.example.org"]', [0, 2]),
        ('qtype in ["TXT", "PTR"]', [1, 3]),
        ('rcode == "NXDOMAIN"', [1]),
        ("rcode < 0", [2]),
        ('client == "10.0.0.3"', [2, 3]),
    ],
)
def test_queries_pass(text: str, rows: list[int]) -> None:
    assert passed(text, "dns") == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the filter is empty"),
        ("dst_port ==", "cannot read the filter"),
        ("dst_prt == 1", "did you mean dst_port?"),
        ("dst_port", "compare it, for example dst_port == 1"),
        ("src", 'src == "10.0.0.0/8"'),
        ("opened == 1", "is no field"),
        ('dst_port == "ssh"', "dst_port is a number, not 'ssh'"),
        ('proto == "ipx"', "known words: tcp, udp"),
        ('src == "10.0.0.1/8"', "is no address or range: 10.0.0.1/8 has host bits set"),
        ("src == 10", "no address"),
        ('src > "10.0.0.1"', "only == != in not in fit it"),
        ("app > 5", "only == != in not in"),
        ("app == 5", "must be a text"),
        ("dst_port > [1, 2]", "fit one number"),
        ("5 == 5", "begins with a field"),
        ("direction_known == 1", "write direction_known"),
        ('endswith(dst_port, "2")', "dst_port is no text"),
        ('upper(app, "x")', "upper is no function here"),
        ('matches(app, "(")', "is no pattern"),
        ("app.lower() == 'x'", "begins with a field"),
        ("__import__('os')", "not part of the filter language"),
        ("dst_port + 1 == 2", "begins with a field"),
        ("dst_port in [f(1)]", "not part of the filter language"),
        ("dst_port in [True]", "not part of"),
        ("dst_port in []", f"a list has 1 to {MAX_VALUES} values"),
        ("a" * 5000, "more than 4096"),
        ("not " * 40 + "opened", "nests more than"),
        ("dst_port == 1e40", "too large"),
        ("1 < dst_port < 5", "not part of"),
        (f'like(app, "{"x" * 600}")', "at most 512 characters"),
    ],
)
def test_what_is_refused_says_why(text: str, said: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse_filter(text, "flow")
    assert said in str(caught.value)


def test_capabilities_come_from_the_columns() -> None:
    assert parse_filter('src == "10.0.0.1"', "flow").needs == Capability(0)
    assert parse_filter("ttl_min < 5 and dst_port == 1", "flow").needs == Capability.TTL | Capability.PORTS
    assert parse_filter("rcode == 3", "dns").needs == Capability.DNS_ANSWERS
    assert {"refused", "dst_port"} <= set(known_fields("flow"))


def test_a_batch_without_rows_is_no_trouble() -> None:
    empty = batch("dns", NAMES[:1]).slice(0, 0)
    assert len(parse_filter('contains(qname, "x") and rcode == 0', "dns").mask(empty)) == 0


_ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(rows=st.lists(_ADDRESSES, min_size=1, max_size=8), address=_ADDRESSES, bits=st.integers(0, 128))
def test_ranges_hold_what_the_standard_library_says(rows: list[str], address: str, bits: int) -> None:
    network = ipaddress.ip_network(f"{address}/{min(bits, ipaddress.ip_address(address).max_prefixlen)}", strict=False)
    mapped = [ipaddress.ip_address(r) for r in rows]
    four = [m.ipv4_mapped if isinstance(m, ipaddress.IPv6Address) and m.ipv4_mapped else m for m in mapped]
    if network.version == 6 and network.supernet_of(ipaddress.ip_network("::ffff:0:0/96")):  # type: ignore[arg-type]
        inside = [m.version == 4 or m in network for m in four]
    else:
        inside = [m in network for m in four]
    assert passed(f'src in "{network}"', rows=[flow(r, "10.0.0.1") for r in rows]) == [
        n for n, i in enumerate(inside) if i
    ]


@given(
    pattern=st.text("ab.*?-[]\\", max_size=8),
    names=st.lists(st.text("ab.-", min_size=1, max_size=8), min_size=1, max_size=6),
)
def test_like_is_a_glob_over_the_whole_text(pattern: str, names: list[str]) -> None:
    quoted = "".join(f"[{c}]" if c in "[]" else c for c in pattern)
    wanted = [n for n, name in enumerate(names) if fnmatch.fnmatchcase(name, quoted)]
    text = pattern.replace("\\", "\\\\")
    assert passed(f'like(qname, "{text}")', "dns", [query("10.0.0.1", name) for name in names]) == wanted


def alerts(rules: str, rows: list[Row], dns: list[Row] = []) -> list[Alert]:  # noqa: B006  # never changed
    node = Node()
    messages = [node.second(0), node.second(1, flows=rows, dns=dns), node.second(2), node.second(200)]
    outputs = Pipeline(Parts(PipelineSettings(), rules=load_rule_file(rules))).run(messages)
    return [a for output in outputs for a in output.alerts if a.rule and a.revision == 1]


def rule(condition: str, where: str) -> str:
    return f"detection_rules:\n  - name: mine\n    condition: {condition}\n    where: {where}\n"


@pytest.mark.parametrize(
    ("condition", "where", "value"),
    [
        ("connection_attempts > 1", "dst_port in [22, 23]", 3),
        ("connection_attempts > 1", 'dst in "10.0.1.0/24"', 2),
        ("connection_attempts > 4", "dst_port in [22, 23]", None),
        ("unique_destinations > 1", "dst_port == 22", 2),
        ("unique_destination_ports > 1", 'dst in "10.0.1.1"', 2),
        ("bytes_sent > 100", "dst_port == 22", 120),
        ("failed_connections > 0", "dst_port == 80", 1),
        ("flow_rows > 0", "closed and total_src_bytes > 9", 1),
    ],
)
def test_rules_count_the_flows_that_pass(condition: str, where: str, value: float | None) -> None:
    rows = [
        flow("10.0.0.9", "10.0.1.1", 22),
        flow("10.0.0.9", "10.0.2.2", 22, src_port=2),
        flow("10.0.0.9", "10.0.1.1", 23),
        flow("10.0.0.9", "10.0.3.3", 80, marks=OPENED | REFUSED),
        flow("10.0.0.9", "10.0.4.4", 99, marks=CLOSED, total_src_bytes=10),
    ]
    found = alerts(rule(condition, where), rows)
    assert [a.evidence[0].value for a in found] == ([] if value is None else [value])
    assert all(f"counting rows where {where}" in a.explanation for a in found)


def test_rules_count_the_queries_that_pass() -> None:
    names = [query("10.0.0.9", f"{n}.evil.test", rcode=3 * (n % 2)) for n in range(6)] + [
        query("10.0.0.9", "good.test")
    ]
    text = 'endswith(qname, ".evil.test")'
    assert [a.evidence[0].value for a in alerts(rule("unique_dns_names > 3", text), [], names)] == [6]
    assert [a.evidence[0].value for a in alerts(rule("dns_rows > 1", f"{text} and rcode == 3"), [], names)] == [3]
    assert alerts(rule("dns_queries > 6", text), [], names) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            rule("connection_rate > 5", "dst_port == 22"),
            "rules:4: rule mine: rows of connection_rate cannot be left out; where fits bytes_received",
        ),
        (rule("traffic_pattern_anomaly", "dst_port == 22"), "rows of traffic_pattern_anomaly cannot be left out"),
        (rule("dns_queries > 5", "dst_port == 22"), "rules:4: rule mine, where: dst_port is no field of dns rows"),
    ],
)
def test_filters_that_fit_no_word_are_refused(text: str, said: str) -> None:
    with pytest.raises(RuleError) as caught:
        load_rule_file(text)
    assert said in str(caught.value)


def test_equal_filters_share_their_features_and_others_do_not() -> None:
    def features(where: str) -> set[Any]:
        (read,) = load_rule_file(rule("connection_attempts > 5", where)).rules
        from detectors.rule_detector import rule_detectors

        (one,) = rule_detectors([read])
        return set(one.features())

    assert features("dst_port == 22") == features("dst_port == 22")
    assert not features("dst_port == 22") & features("dst_port == 23")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_and_snapshots_do_not_change_filtered_counts(batch_size: int) -> None:
    text = rule("connection_attempts > 3", "dst_port in [22, 23]") + (
        "  - {name: names, condition: unique_dns_names > 2, where: 'contains(qname, \"evil\")'}\n"
    )

    def messages() -> list[EventMessage]:
        nodes = [Node("a"), Node("b")]
        return [
            node.second(
                at,
                flows=[flow("10.0.0.9", f"10.0.1.{at}", 20 + at % 5, src_port=at)],
                dns=[query("10.0.0.8", f"{'evil' if at % 2 else 'good'}{at}.test")],
            )
            for at in range(30)
            for node in nodes
        ]

    def pipeline() -> Pipeline:
        return Pipeline(Parts(PipelineSettings(), rules=load_rule_file(text)))

    whole = [a.encode() for output in pipeline().run(messages(), 1000) for a in output.alerts]
    assert len(whole) >= 4
    first, second = pipeline(), pipeline()
    told = [a for output in first.run(messages()[:25], batch_size) for a in output.alerts]
    second.restore(first.snapshot())
    told += [a for output in second.run(messages()[25:], batch_size) for a in output.alerts]
    assert sorted(a.encode() for a in told) == sorted(whole)
