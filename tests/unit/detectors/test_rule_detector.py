from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.base import KeyView, TickView
from detectors.features import Distinct, Feature
from detectors.hashing import mix
from detectors.plan import FeaturePlan
from detectors.registry import build_detectors
from detectors.rule_detector import MAX_FINDINGS, rule_detectors
from detectors.rule_file import load_rules
from detectors.spaces import SPACES
from detectors.table import SpaceTable
from schemas.addresses import pack
from schemas.events import Capability
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from tests.mission import MISSION

EVERYTHING = int(~Capability(0))


def rule(condition: str, **more: object) -> str:
    lines = [f"    {name}: {value}\n" for name, value in more.items()]
    return f"detection_rules:\n  - name: a_rule\n    condition: {condition}\n{''.join(lines)}"


def keys_of(space: str, features: tuple[Feature, ...], rows: list[tuple[dict[str, object], int]]) -> KeyView:
    """Return touched keys whose features all have the value given with each row of columns."""
    table = SpaceTable(SPACES[space], features)
    names = list(rows[0][0])
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for name in names:
        values = [r[0][name] for r in rows]
        if isinstance(values[0], bytes):
            columns[name] = np.frombuffer(b"".join(v for v in values if isinstance(v, bytes)), np.uint8).reshape(-1, 16)
        else:
            columns[name] = np.array(values)
    count = len(rows)
    ticks = np.full(count, 600, np.int64)

    def identity(positions: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
        return {name: values[positions] for name, values in columns.items()}

    slots = table.touch(mix(np.arange(count, dtype=np.uint64)), ticks, identity)
    wanted = np.array([r[1] for r in rows], np.int64)
    for feature in features:
        if isinstance(feature.aggregate, Distinct):
            owner = np.repeat(slots, wanted)
            elements = mix(np.arange(len(owner), dtype=np.uint64))
            now = np.full(len(owner), 600, np.int64)
            table.add_elements(feature, owner, now, elements, np.zeros(len(owner), np.bool_))
        elif feature.name != "udp_probes":
            table.add(slots, ticks, {feature: wanted})
    nothing = np.zeros(count, np.int64)
    return KeyView(table, slots, ticks, ("n1",), nothing, np.full(count, EVERYTHING, np.int64))


def fire(text: str, rows: list[tuple[dict[str, object], int]], **more: object) -> list[Finding]:
    (one,) = rule_detectors(load_rules(text))
    features = tuple(one.features())
    space = features[0].space
    view = TickView({space: keys_of(space, features, rows)}, IdentityTable(), {"n1": DataQuality(lost_packets=3)})
    return one.evaluate(view)


def pair(src: str, dst: str) -> dict[str, object]:
    return {"src": pack(src), "dst": pack(dst), "mac": 0x020000000001, "interface": 7}


def test_port_scan_fires_above_its_limit_and_not_at_it() -> None:
    text = rule("unique_ports_scanned > 10", time_window="5m", severity="high")
    assert fire(text, [(pair("10.0.0.1", "10.0.0.9"), 10)]) == []
    (found,) = fire(text, [(pair("10.0.0.1", "10.0.0.9"), 11)])
    assert (found.detector, found.rule, found.kind) == ("port_scan", "a_rule", "port_scan_vertical")
    assert (found.subject, found.node, found.severity) == ("10.0.0.1@n1", "n1", "high")
    assert (found.tick, found.started, found.techniques) == (600, 600, ("T1046",))
    assert [e.ip for e in found.attackers] == ["10.0.0.1"]
    assert [e.ip for e in found.victims] == ["10.0.0.9"]
    assert [(e.name, e.value, e.limit, e.window) for e in found.evidence] == [("unique_ports_scanned", 11, 10, 300)]
    assert found.attackers[0].mac == "02:00:00:00:00:01"
    assert found.summary == ("rule a_rule: 10.0.0.1 towards 10.0.0.9: unique_ports_scanned 11 (limit 10) within 300 s")
    assert found.spoofable
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
    view = TickView({"victim": keys}, IdentityTable(), {"n1": DataQuality()}, top_sources=lambda _: sources)
    (found,) = one.evaluate(view)
    assert (found.detector, found.kind, found.rule) == ("connection_flood", "connection_flood", "ddos_attack")
    assert found.subject == "10.0.0.9"
    assert [e.ip for e in found.attackers] == ["10.0.0.5"]
    assert found.spoofable


def test_sweep_kind_follows_the_protocol() -> None:
    kinds, subjects = [], []
    for proto in (6, 17, 1):
        row: dict[str, object] = {"src": pack("10.0.0.1"), "proto": proto, "port": 80, "dst": pack("10.0.0.9"),
                                  "mac": 0, "interface": 0}  # fmt: skip
        (found,) = fire(rule("unique_hosts_contacted > 20"), [(row, 21)])
        kinds.append(found.kind)
        subjects.append(found.subject)
    assert kinds == ["port_scan_horizontal", "udp_scan", "icmp_sweep"]
    assert subjects == ["10.0.0.1@n1/TCP", "10.0.0.1@n1/UDP", "10.0.0.1@n1/ICMP"]


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
    assert len(plan.features("pair")) == 3


def test_the_built_in_features_are_the_same_ones() -> None:
    builtin = [d for d in build_detectors() if d.meta.id in ("port_scan", "host_sweep", "connection_flood")]
    same = rule_detectors(load_rules(
        "detection_rules:\n"
        "- {name: a, condition: unique_ports_scanned > 10, time_window: 5m}\n"
        "- {name: b, condition: unique_hosts_contacted > 10, time_window: 5m}\n"
        "- {name: c, condition: connection_rate > 10}\n"
    ))  # fmt: skip
    alone, together = FeaturePlan(builtin), FeaturePlan([*builtin, *same])
    for space in alone.spaces():
        assert together.features(space) == alone.features(space)
