from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from response.decide import decide
from response.policyfile import DEFAULT_POLICY_FILE, DecisionPolicy, PolicyFileError, load_policy, parse_policy
from schemas.alert import Alert
from schemas.finding import DataQuality, Endpoint
from stream.stages import DecideStage

ATTACKER = Endpoint(ip="10.0.0.10", pod="web-a", namespace="shop", identity="known")
VICTIM = Endpoint(ip="203.0.113.9", port=443, protocol="TCP")


def alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "id": "a1",
        "revision": 1,
        "status": "open",
        "cluster": "test",
        "node": "n1",
        "detector": "port_scan",
        "kind": "port_scan_vertical",
        "title": "Port scan",
        "severity": "medium",
        "confidence": 0.9,
        "subject": "10.0.0.10",
        "started_at": "2027-01-15T08:00:00.000Z",
        "detected_at": "2027-01-15T08:00:00.000Z",
        "ended_at": "2027-01-15T08:00:00.000Z",
        "tick": 1_800_000_000,
        "attackers": (ATTACKER,),
        "victims": (VICTIM,),
        "techniques": ("T1046",),
        "evidence": (),
        "explanation": "scan",
        "spoofable": False,
        "data_quality": DataQuality(),
        "occurrences": 1,
    }
    return Alert(**{**values, **changes})


def policy(**changes: Any) -> DecisionPolicy:
    document = yaml.safe_load(DEFAULT_POLICY_FILE.read_text())
    return parse_policy(yaml.safe_dump({**document, **changes}), "test")


@pytest.mark.parametrize(
    ("kind", "category", "severity", "deadline_s", "actions"),
    [
        ("syn_flood", "ddos", "high", 0, ("rate_limit", "block_ingress_source", "quarantine_pod")),
        ("port_scan_vertical", "intrusion", "high", 900, ("quarantine_pod", "block_ingress_source", "cut_on_node")),
        ("dns_tunnel", "data_leak", "medium", 1800, ("block_egress_destination", "quarantine_pod", "cut_on_node")),
        ("cleartext_credentials", "misconfiguration", "medium", 3600, ("close_hole",)),
        ("something_new", "intrusion", "high", 900, ("quarantine_pod", "block_ingress_source", "cut_on_node")),
    ],
)
def test_the_default_matrix(kind: str, category: str, severity: str, deadline_s: int, actions: tuple[str, ...]) -> None:
    made = decide(alert(kind=kind), load_policy())
    assert made is not None
    assert (made.category, made.severity, made.deadline_s, made.actions) == (category, severity, deadline_s, actions)
    assert made.mode == "dry-run"


def test_a_kind_that_nothing_names_is_only_observed() -> None:
    made = decide(alert(kind="x", detector="y"), load_policy())
    assert made is not None
    assert (made.category, made.mode, made.actions) == ("other", "observe", ())
    assert made.reason == "x is other; mode observe: category other"


def test_a_graver_alert_keeps_its_severity() -> None:
    made = decide(alert(severity="critical"), load_policy())
    assert made is not None
    assert made.severity == "critical"


@pytest.mark.parametrize(
    ("changes", "alert_changes", "mode", "why"),
    [
        ({}, {}, "dry-run", "default"),
        ({"mode": "enforce"}, {}, "enforce", "default"),
        ({"namespaces": {"shop": {"mode": "enforce"}}}, {}, "enforce", "namespace shop"),
        ({"mode": "enforce", "namespaces": {"shop": {"mode": "observe"}}}, {}, "observe", "namespace shop"),
        (
            {"mode": "enforce", "namespaces": {"bank": {"mode": "approve"}}},
            {"victims": (Endpoint(ip="10.0.1.10", namespace="bank"),)},
            "approve",
            "namespace bank",
        ),
        (
            {"namespaces": {"shop": {"mode": "enforce"}}},
            {"victims": (Endpoint(ip="10.0.1.10", namespace="bank"),)},
            "dry-run",
            "default",
        ),
        ({"mode": "enforce"}, {"confidence": 0.49}, "observe", "confidence below 0.5"),
        ({"mode": "enforce"}, {"confidence": 0.5}, "enforce", "default"),
        ({"mode": "enforce"}, {"rule": "mine"}, "dry-run", "a rule alone alerts, acting needs corroboration"),
    ],
)
def test_the_strictest_mode_holds(changes: dict[str, Any], alert_changes: dict[str, Any], mode: str, why: str) -> None:
    made = decide(alert(**alert_changes), policy(**changes))
    assert made is not None
    assert (made.mode, made.reason) == (mode, f"port_scan_vertical is intrusion; mode {mode}: {why}")


def test_revisions_of_an_episode_are_one_response_until_the_ladder_changes() -> None:
    first, second = decide(alert(), load_policy()), decide(alert(revision=2), load_policy())
    assert first is not None
    assert second is not None
    assert first.id == second.id
    other = decide(alert(kind="dns_tunnel"), load_policy())
    assert other is not None
    assert other.id != first.id


def test_a_closed_episode_needs_no_response_unless_it_was_never_open() -> None:
    assert decide(alert(status="closed", revision=2), load_policy()) is None
    assert decide(alert(status="closed"), load_policy()) is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "f.yaml: a mapping with version, categories and kinds is expected; see default_policy.yaml"),
        ("- 1", "f.yaml: a mapping with version, categories and kinds is expected; see default_policy.yaml"),
        ("a: [", "f.yaml: line 1, column 5 not YAML: "),
        ("!!python/object/apply:os.system [id]", "f.yaml: line 1, column 1 not YAML: could not determine"),
        ("version: 2\ncategories: {}\nkinds: {}", "f.yaml: version: "),
        ("version: 1\ncategories: {}\nkinds: {}", "f.yaml: categories.other is missing"),
        ("version: 1\nkinds: {}", "f.yaml: categories: Field required"),
        ("version: 1\ncategories: {}\nkinds: {}\nmodus: x", "f.yaml: modus: Extra inputs are not permitted"),
        ("version: 1\ncategories: {}\nkinds: {a: b}", "f.yaml: kinds.a: Input should be 'ddos', "),
        ("version: 1\nmode: force\ncategories: {}\nkinds: {}", "f.yaml: mode: Input should be 'observe', "),
        (
            "version: 1\nkinds: {}\ncategories: {other: {severity: low, deadline_s: 1, ttl_s: 60, actions: [rm]}}",
            "f.yaml: categories.other.actions.0: Input should be 'block_egress_destination', ",
        ),
        (
            "version: 1\nkinds: {}\ncategories: {other: {severity: low, deadline_s: 1, ttl_s: 1, actions: []}}",
            "f.yaml: categories.other.ttl_s: Input should be greater than or equal to 60",
        ),
    ],
)
def test_a_bad_file_gives_one_line_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(text, "f.yaml")
    assert str(caught.value).startswith(problem), str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match="cannot be read: No such file"):
        load_policy(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyFileError, match="not a text file"):
        load_policy(binary)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(PolicyFileError, match="not a policy file"):
        load_policy(large)


def row(**values: Any) -> DecisionPolicy:
    return policy(mode="enforce", matrix=[{"name": "special", "mode": "approve", "approvals": 2, **values}])


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ({}, True),
        ({"kinds": ["port_scan*"]}, True),
        ({"kinds": ["dns_*"]}, False),
        ({"categories": ["intrusion"]}, True),
        ({"categories": ["ddos"]}, False),
        ({"severity": "medium"}, True),
        ({"severity": "high"}, False),
        ({"confidence": 0.9}, True),
        ({"confidence": 0.95}, False),
        ({"namespaces": ["sh?p"]}, True),
        ({"namespaces": ["bank"]}, False),
        ({"labels": {"environment": "production"}}, True),
        ({"labels": {"environment": "test"}}, False),
        # The alert is of Friday 2027-01-15 08:00 UTC.
        ({"hours": "08:00-18:00"}, True),
        ({"hours": "07:00-08:00"}, False),
        ({"hours": "22:00-09:00"}, True),
        ({"hours": "22:00-06:00"}, False),
        ({"weekdays": ["fri"]}, True),
        ({"weekdays": ["sat", "sun"]}, False),
        ({"kinds": ["port_scan*"], "weekdays": ["sat"]}, False),
    ],
)
def test_a_row_of_the_matrix_holds_where_all_its_conditions_do(condition: dict[str, Any], fits: bool) -> None:
    labelled = ATTACKER.model_copy(update={"labels": {"app": "web", "environment": "production"}})
    made = decide(alert(attackers=(labelled,)), row(**condition))
    assert made is not None
    assert (made.mode, made.approvals) == (("approve", 2) if fits else ("enforce", 1))
    assert ("row special" in made.reason) == fits


def test_a_row_says_all_that_a_category_says_and_who_approves() -> None:
    made = decide(
        alert(),
        row(actions=["block_ingress_source"], deadline_s=60, ttl_s=120, approvers=["Ana", "Ben"]),
    )
    assert made is not None
    assert (made.actions, made.deadline_s, made.ttl_s) == (("block_ingress_source",), 60, 120)
    assert made.approvers == ("Ana", "Ben")


def test_the_first_row_that_fits_holds_and_a_stricter_namespace_still_does() -> None:
    rows = [{"name": "one", "mode": "enforce"}, {"name": "two", "mode": "observe"}]
    made = decide(alert(), policy(mode="dry-run", matrix=rows))
    assert made is not None
    assert (made.mode, "row one" in made.reason) == ("enforce", True)
    made = decide(alert(), policy(mode="dry-run", matrix=rows, namespaces={"shop": {"mode": "dry-run"}}))
    assert made is not None
    assert made.mode == "dry-run"


def test_a_rule_alone_is_never_enforced_by_a_row() -> None:
    made = decide(alert(rule="mine"), row(mode="enforce"))
    assert made is not None
    assert made.mode == "dry-run"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"name": "a"}, {"name": "a"}], "two rows are called 'a'"),
        ([{"name": "a", "hours": "8-18"}], "matrix.0.hours"),
        ([{"name": "a", "weekdays": ["friday"]}], "matrix.0.weekdays.0"),
        ([{"name": "a", "actoins": []}], "matrix.0.actoins"),
    ],
)
def test_rows_that_mean_nothing(rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(PolicyFileError, match=said):
        policy(matrix=rows)


def test_an_alert_that_goes_on_after_the_containment_has_expired_is_decided_again() -> None:
    stage = DecideStage(policy(mode="enforce"))
    ttl = load_policy().rule("intrusion").ttl_s
    assert len(stage.feed(alert())) == 1
    assert stage.feed(alert(revision=2, tick=1_800_000_000 + ttl - 1)) == []
    restored = DecideStage(policy(mode="enforce"))
    restored.restore(stage.snapshot())
    for each in (stage, restored):
        (again,) = each.feed(alert(revision=3, tick=1_800_000_000 + ttl))
        assert again.decided_tick == 1_800_000_000 + ttl
        assert each.feed(alert(revision=4, tick=1_800_000_000 + ttl + 1)) == []


def _with_also(besides: list[str], **row: Any) -> DecisionPolicy:
    document = yaml.safe_load(DEFAULT_POLICY_FILE.read_text())
    document["categories"]["intrusion"]["also"] = besides
    return policy(categories=document["categories"], matrix=[{"name": "r", **row}] if row else [])


def test_what_is_done_besides_the_ladder_is_a_response_of_its_own() -> None:
    file = _with_also(["capture_traffic", "annotate", "annotate"])
    stage = DecideStage(file)
    ladder, capture, note = stage.feed(alert())
    assert ladder.actions == ("quarantine_pod", "block_ingress_source", "cut_on_node")
    assert (capture.actions, note.actions) == (("capture_traffic",), ("annotate",))
    assert len({ladder.id, capture.id, note.id}) == 3
    assert {item.alert_id for item in (ladder, capture, note)} == {"a1"}
    assert stage.feed(alert(revision=2)) == [], "a later revision decides nothing anew"
    assert DecideStage(file).feed(alert()) == [ladder, capture, note]


def test_a_row_says_itself_what_is_done_besides() -> None:
    told = DecideStage(_with_also(["annotate"], kinds=["port_scan*"], also=["notify"])).feed(alert())
    assert [item.actions for item in told[1:]] == [("notify",)]
    none = DecideStage(_with_also(["annotate"], kinds=["port_scan*"], also=[])).feed(alert())
    assert len(none) == 1


def test_what_takes_something_from_somebody_belongs_on_the_ladder() -> None:
    with pytest.raises(PolicyFileError, match=r"intrusion\.also"):
        _with_also(["evict_pod"])
