from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.features import Distinct
from detectors.library import WORDS, known_words, words_table
from detectors.plan import FeaturePlan
from detectors.rule_detector import rule_detectors
from detectors.rule_file import MAX_BYTES, RuleError, load_rules
from detectors.spaces import SPACES
from schemas.events import Capability
from tests.mission import MISSION

HERE = Path(__file__).parent
BAD = sorted((HERE / "rules_bad").glob("*.yaml"))
EVERYTHING = int(~Capability(0))


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


def test_reads_a_file_and_names_it_in_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a long path is cut where an error names it
    path = Path("site.yaml")
    path.write_text(MISSION)
    assert len(load_rules(path)) == 3
    path.write_text("detection_rules: 5\n")
    with pytest.raises(RuleError, match=r"site\.yaml:1: detection_rules must be a list"):
        load_rules(path)
    with pytest.raises(RuleError, match=r"absent\.yaml: cannot read the rules: No such file"):
        load_rules(Path("absent.yaml"))
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
    assert low.features()[0].aggregate == Distinct("port", "probes", "conversed")
    assert high.features()[0].aggregate == Distinct("port", "probes", "conversed", 32768)
