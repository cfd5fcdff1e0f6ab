"""Every example is read by the code that it is an example for."""

from pathlib import Path

import pytest

from detectors.rule_file import RuleFile, load_rule_file
from response.policyfile import load_policy
from sluicegate.settings import load_settings
from sluicegate.sigma_import import import_sigma

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
READ_ELSEWHERE = {"prometheus.yml", "prometheus-alerts.yml"}  # test_compose.py


@pytest.mark.parametrize("path", sorted((EXAMPLES / "rules").glob("*.yaml")), ids=lambda path: path.name)
def test_rules_load(path: Path) -> None:
    assert load_rule_file(path) != RuleFile()


def test_sigma_is_imported_whole() -> None:
    imported = import_sigma([("sigma.yml", (EXAMPLES / "sigma.yml").read_text())])
    assert imported.refused == []
    assert [len(imported.rules), len(imported.sequences)] == [3, 1]


def test_settings_load() -> None:
    settings = load_settings(EXAMPLES / "settings.yaml", {})
    assert settings.stream.kafka.security == "sasl_tls"
    assert settings.stream.topics.event_partitions == settings.engine.event_partitions == 8


def test_policy_loads() -> None:
    policy = load_policy(EXAMPLES / "policy.yaml")
    assert policy.mode == "dry-run"


def test_no_example_goes_unread() -> None:
    found = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.is_file()}
    rules = {name for name in found if name.startswith("rules/") and name.endswith(".yaml")}
    assert found - rules - READ_ELSEWHERE == {"settings.yaml", "policy.yaml", "sigma.yml"}
