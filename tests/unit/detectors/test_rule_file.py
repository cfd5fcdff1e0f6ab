from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.base import KeyView, TickView
from detectors.features import Distinct, Feature
from detectors.hashing import mix
from detectors.library import WORDS, known_words, words_table
from detectors.plan import FeaturePlan
from detectors.rule_detector import MAX_FINDINGS, rule_detectors
from detectors.rule_file import MAX_BYTES, RuleError, load_rules
from detectors.spaces import SPACES
from detectors.table import SpaceTable
from schemas.addresses import pack
from schemas.events import Capability
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable

HERE = Path(__file__).parent
BAD = sorted((HERE / "rules_bad").glob("*.yaml"))
EVERYTHING = int(~Capability(0))
MISSION = """\
detection_rules:
  - name: ddos_attack
    condition: connection_rate > threshold
    threshold: 1000
    time_window: 1m
  - name: port_scan
    condition: unique_ports_scanned > 10
    time_window: 5m
  - name: suspicious_traffic
    condition: traffic_pattern_anomaly
    severity: high
"""


def rule(condition: str, **more: object) -> str:
    lines = [f"    {name}: {value}\n" for name, value in more.items()]
    return f"detection_rules:\n  - name: a_rule\n    condition: {condition}\n{''.join(lines)}"


def problems(text: str) -> tuple[str, ...]:
    try:
        load_rules(text)
    except RuleError as error:
        return error.problems
    return ()


def test_operators_rule_file_is_read() -> None:
    ddos, scan, odd = load_rules(MISSION)
    assert [(r.name, r.window, r.severity, r.anomaly) for r in (ddos, scan, odd)] == [
        ("ddos_attack", 60, "medium", False),
        ("port_scan", 300, "medium", False),
        ("suspicious_traffic", 60, "high", True),
    ]
    assert dict(ddos.condition.limits) == {"connection_rate": 1000.0}
    assert dict(scan.condition.limits) == {"unique_ports_scanned": 10.0}


def test_reads_a_file_and_names_it_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(MISSION)
    assert len(load_rules(path)) == 3
    path.write_text("detection_rules: 5\n")
    with pytest.raises(RuleError, match=r"site\.yaml:1: detection_rules must be a list"):
        load_rules(path)
    with pytest.raises(RuleError, match=r"absent\.yaml: cannot read the rules: No such file"):
        load_rules(tmp_path / "absent.yaml")
    path.write_bytes(b"detection_rules:\n  - name: \xff\n")
    with pytest.raises(RuleError, match=r":2: not UTF-8"):
        load_rules(path)


def test_optional_fields() -> None:
    (one,) = load_rules(rule("bytes_sent > 1_000", time_window="1h", severity="low",
                             description="uploads", techniques="[T1048, T1071.004]"))  # fmt: skip
    assert (one.window, one.severity, one.description) == (3600, "low", "uploads")
    assert one.techniques == ("T1048", "T1071.004")


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_each_mistake_is_told_in_one_line(path: Path) -> None:
    expected = path.read_text().partition("\n")[0].removeprefix("# ")
    with pytest.raises(RuleError) as caught:
        load_rules(path)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert caught.value.problems[0].isprintable()
    assert expected in caught.value.problems[0].removeprefix(f"{path.parent}/")


def test_all_mistakes_are_told_in_line_order() -> None:
    text = rule("weather > 1", severity="bad") + "  - name: other\n    condition: rain > 2\n    size: 1\n"
    with pytest.raises(RuleError) as caught:
        load_rules(text)
    assert [p.split(":")[1] for p in caught.value.problems] == ["3", "4", "6", "7"]


def test_limits_on_size() -> None:
    with pytest.raises(RuleError, match="more than 262144 bytes"):
        load_rules("#" * (MAX_BYTES + 1))
    many = "detection_rules:\n" + "".join(f"- {{name: r{i}, condition: syn_rate > 1}}\n" for i in range(201))
    with pytest.raises(RuleError, match="a list of 1 to 200 rules"):
        load_rules(many)


def test_aliases_do_not_multiply() -> None:
    bomb = "detection_rules:\n  - &a [x, x]\n  - &b [*a, *a, *a]\n  - [*b, *b, *b]\n"
    with pytest.raises(RuleError) as caught:
        load_rules(bomb)
    assert len(caught.value.problems) == 3


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert all(p.isprintable() for p in problems(text))


@given(st.binary(max_size=60), st.integers(0, len(MISSION)))
def test_a_damaged_file_is_read_or_refused(damage: bytes, place: int) -> None:
    text = MISSION[:place] + damage.decode("latin-1") + MISSION[place:]
    assert all(p.isprintable() and p.startswith("rules:") for p in problems(text))


def test_every_word_belongs_to_a_space_and_is_listed() -> None:
    assert {w.space for w in WORDS.values()} <= set(SPACES)
    for name in WORDS:
        (one,) = rule_detectors(load_rules(rule(f"{name} > 5")))
        assert FeaturePlan([one]).spaces() == {WORDS[name].space}
    assert known_words() == sorted([*WORDS, "traffic_pattern_anomaly"])


def test_documented_words_are_those_of_the_library() -> None:
    page = (HERE.parents[2] / "docs" / "rules.md").read_text()
    assert words_table() in page


def test_a_high_limit_raises_the_cap_of_a_distinct_count() -> None:
    (low,) = rule_detectors(load_rules(rule("unique_ports_scanned > 10")))
    (high,) = rule_detectors(load_rules(rule("unique_ports_scanned > 5000")))
    assert low.features()[0].aggregate == Distinct("port", "probes", "exchanged")
    assert high.features()[0].aggregate == Distinct("port", "probes", "exchanged", 32768)


def keys_of(space: str, features: tuple[Feature, ...], rows: list[tuple[dict[str, object], int]]) -> KeyView:
    """Return touched keys whose features all have the value given with each row of columns."""
    table = SpaceTable(SPACES[space], features)
    names = list(rows[0][0])
    columns = {}
    for name in names:
        values = [r[0][name] for r in rows]
        if isinstance(values[0], bytes):
            columns[name] = np.frombuffer(b"".join(v for v in values if isinstance(v, bytes)), np.uint8).reshape(-1, 16)
        else:
            columns[name] = np.array(values)
    count = len(rows)
    ticks = np.full(count, 600, np.int64)
    slots = table.touch(mix(np.arange(count, dtype=np.uint64)), ticks, columns)
    wanted = np.array([r[1] for r in rows], np.int64)
    for feature in features:
        if isinstance(feature.aggregate, Distinct):
            owner = np.repeat(slots, wanted)
            elements = mix(np.arange(len(owner), dtype=np.uint64))
            now = np.full(len(owner), 600, np.int64)
            table.add_elements(feature, owner, now, elements, np.zeros(len(owner), np.bool_))
        else:
            table.add(feature, slots, ticks, wanted)
    nothing = np.zeros(count, np.int64)
    return KeyView(table, slots, ticks, ("n1",), nothing, np.full(count, EVERYTHING, np.int64))


def fire(text: str, rows: list[tuple[dict[str, object], int]], **more: object) -> list[Finding]:
    (one,) = rule_detectors(load_rules(text))
    features = tuple(one.features())
    space = features[0].space
    view = TickView({space: keys_of(space, features, rows)}, IdentityTable(), {"n1": DataQuality(lost_packets=3)})
    return one.evaluate(view)


def pair(src: str, dst: str) -> dict[str, object]:
    return {"src": pack(src), "dst": pack(dst)}


def test_port_scan_fires_above_its_limit_and_not_at_it() -> None:
    text = rule("unique_ports_scanned > 10", time_window="5m", severity="high")
    assert fire(text, [(pair("10.0.0.1", "10.0.0.9"), 10)]) == []
    (found,) = fire(text, [(pair("10.0.0.1", "10.0.0.9"), 11)])
    assert (found.detector, found.rule, found.kind) == ("port_scan", "a_rule", "port_scan_vertical")
    assert (found.subject, found.node, found.severity) == ("10.0.0.1@n1", "n1", "high")
    assert (found.tick, found.started, found.techniques) == (600, 300, ("T1046",))
    assert [e.ip for e in found.attackers] == ["10.0.0.1"]
    assert [e.ip for e in found.victims] == ["10.0.0.9"]
    assert [(e.name, e.value, e.limit, e.window) for e in found.evidence] == [("unique_ports_scanned", 11, 10, 300)]
    assert found.summary == ("Rule a_rule: 10.0.0.1 towards 10.0.0.9: unique_ports_scanned 11 (limit 10) within 300 s")
    assert found.data_quality.lost_packets == 3
    assert found.response is None


def test_hosts_scanned_by_one_source_are_one_finding() -> None:
    rows = [(pair("10.0.0.2", f"10.0.1.{i}"), 11 + i) for i in range(30)] + [(pair("10.0.0.1", "10.0.0.9"), 12)]
    first, second = fire(rule("unique_ports_scanned > 10"), rows)
    assert (first.subject, second.subject) == ("10.0.0.1@n1", "10.0.0.2@n1")
    assert len(second.victims) == 20
    assert second.victims[0].ip == "10.0.1.29"
    assert second.evidence[0].value == 40


def test_connection_rate_is_about_the_victim_whose_real_sources_are_named() -> None:
    (one,) = rule_detectors(load_rules(MISSION))[:1]
    text = rule("connection_rate > threshold", threshold=1000)
    assert fire(text, [({"dst": pack("10.0.0.9")}, 1000)]) == []
    keys = keys_of("victim", tuple(one.features()), [({"dst": pack("10.0.0.9")}, 1001)])
    sources = [("10.0.0.5", 900, 800), ("203.0.113.9", 1, 0)]
    view = TickView({"victim": keys}, IdentityTable(), {}, top_sources=lambda _: sources)
    (found,) = one.evaluate(view)
    assert (found.detector, found.kind, found.rule) == ("connection_flood", "connection_flood", "ddos_attack")
    assert found.subject == "10.0.0.9"
    assert [e.ip for e in found.attackers] == ["10.0.0.5"]
    assert found.spoofable


def test_sweep_kind_follows_the_protocol() -> None:
    kinds = []
    for proto in (6, 17, 1):
        row: dict[str, object] = {"src": pack("10.0.0.1"), "proto": proto, "port": 80, "dst": pack("10.0.0.9")}
        (found,) = fire(rule("unique_hosts_contacted > 20"), [(row, 21)])
        kinds.append(found.kind)
    assert kinds == ["port_scan_horizontal", "udp_scan", "icmp_sweep"]


def test_words_of_one_key_combine() -> None:
    text = rule("failed_connections / connection_attempts > 0.5 and connection_attempts > 20")
    row: dict[str, object] = {"src": pack("10.0.0.1")}
    (found,) = fire(text, [(row, 21)])
    assert (found.detector, found.kind) == ("rule", "rule")
    assert [e.name for e in found.evidence] == ["failed_connections", "connection_attempts"]
    assert fire(text, [(row, 20)]) == []


def test_dns_clients_are_counted() -> None:
    (found,) = fire(rule("unique_dns_names >= 50"), [({"client": pack("10.0.0.7")}, 50)])
    assert found.subject == "10.0.0.7@n1"
    assert found.victims == ()


def test_a_source_that_cannot_see_is_no_evidence() -> None:
    (one,) = rule_detectors(load_rules(rule("unique_ports_scanned > 10")))
    keys = keys_of("pair", tuple(one.features()), [(pair("10.0.0.1", "10.0.0.9"), 50)])
    blind = KeyView(keys.table, keys.slots, keys.ticks, keys.nodes, keys.node_numbers, np.zeros(1, np.int64))
    assert one.evaluate(TickView({"pair": blind}, IdentityTable(), {})) == []
    assert one.evaluate(TickView({}, IdentityTable(), {})) == []


def test_what_matches_everything_is_bounded() -> None:
    rows: list[tuple[dict[str, object], int]] = [
        ({"src": pack(f"10.{i >> 8}.{i & 255}.1")}, 1 + i) for i in range(MAX_FINDINGS + 5)
    ]
    found = fire(rule("packets_sent > 0"), rows)
    assert len(found) == MAX_FINDINGS
    assert found[0].data_quality.notes == ("5 more subjects matched",)
    assert min(f.evidence[0].value for f in found) == 6


def test_anomaly_rule_repeats_the_model() -> None:
    detectors = rule_detectors(load_rules(MISSION))
    said = Finding(detector="traffic_anomaly", kind="traffic_anomaly", title="t", severity="low", confidence=0.7,
                   tick=9, started=3, node="", subject="Deployment/web", summary="s", spoofable=False)  # fmt: skip
    other = said.model_copy(update={"detector": "syn_flood"})
    view = TickView({}, IdentityTable(), {}, model_findings=(said, other))
    (found,) = detectors[2].evaluate(view)
    assert (found.rule, found.severity, found.subject) == ("suspicious_traffic", "high", "Deployment/web")
    assert detectors[2].meta.stage == 2
    assert detectors[2].order > 1


def test_rules_share_features_with_each_other() -> None:
    text = rule("unique_ports_scanned > 10") + "  - name: b\n    condition: unique_ports_scanned > 20\n"
    plan = FeaturePlan(rule_detectors(load_rules(text)))
    assert len(plan.features("pair")) == 1
