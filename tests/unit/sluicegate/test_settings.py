from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.node_settings import NodeSettings
from sluicegate.problems import CommandProblem
from sluicegate.setting_lines import SettingLine, setting_lines
from sluicegate.settings import Settings, load_settings
from sluicegate.settings_file import read_settings_file
from sluicegate.settings_layers import SECTIONS, environment_values, load, variable

BOOTSTRAP = "SLUICEGATE_STREAM__KAFKA__BOOTSTRAP"


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def by_name(lines: list[SettingLine]) -> dict[str, SettingLine]:
    return {line.name: line for line in lines}


def test_the_environment_wins_over_the_file_and_the_rest_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "stream:\n  kafka: {bootstrap: 'a:1', prefix: mine}\n")
    monkeypatch.setenv(BOOTSTRAP, "b:2")
    settings = load_settings(path)
    assert (settings.stream.kafka.bootstrap, settings.stream.kafka.prefix) == ("b:2", "mine")
    lines = by_name(setting_lines(settings, read_settings_file(path), environment_values(Settings)))
    assert lines["stream.kafka.bootstrap"].source == "environment"
    assert lines["stream.kafka.prefix"].source == "file"
    assert lines["stream.kafka.security"].source == "default"


def test_detectors_have_a_section_each(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "detectors: {port_scan: {ports: 25}}\n"))
    lines = by_name(setting_lines(settings, {}, {}))
    assert lines["detectors.port_scan.ports"].value == 25


def test_every_setting_says_what_it_is_for() -> None:
    lines = setting_lines(load_settings(None), {}, {})
    # What switches a detector off is named after what it does.
    assert [line.name for line in lines if not line.meaning and line.path[-1] != "enabled"] == []


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_STREAM__KAFKA__SASL_PASSWORD", "hunter2")
    lines = by_name(setting_lines(load_settings(None), {}, environment_values(Settings)))
    assert "hunter2" not in str(lines)
    assert lines["stream.kafka.sasl_password"].value == "**********"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stream: {kafka: {bootstrap: nowhere}}", "stream.kafka.bootstrap: "),
        ("stream: {kafak: {}}", "stream.kafak: no such setting"),
        ("strem: {}", "strem: no such setting"),
        ("detectors: {port_scam: {}}", "detectors.port_scam: no such setting"),
        ("engine: {event_partitions: 2}", "give both the same number"),
        ("stream: {kafka: {prefix: a, prefix: b}}", ":1: not a settings file: prefix is given twice"),
        ("a: [1", "not a settings file"),
        ("- 1", "a mapping of sections is expected"),
        ("a: !!python/object/apply:os.system [id]", "not a settings file"),
        ("&a [*a]", "a mapping of sections is expected"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CommandProblem) as caught:
        load_settings(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_several_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "exporter: {flow: {capacity: 0, seed: x}}")
    with pytest.raises(CommandProblem) as caught:
        load_settings(path)
    assert len(str(caught.value).splitlines()) == 2


def test_an_unreadable_file_names_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CommandProblem, match="cannot read the settings: No such file"):
        load_settings(tmp_path / "absent.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandProblem, match="not UTF-8"):
        load_settings(tmp_path / "binary")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SLUICEGATE_STREAM__KAFKA__BOOTSTRAP", "nowhere", "environment SLUICEGATE_STREAM__KAFKA__BOOTSTRAP: "),
        (
            "SLUICEGATE_STREM__KAFKA__BOOTSTRAP",
            "a:1",
            "environment SLUICEGATE_STREM__KAFKA__BOOTSTRAP: no such section",
        ),
        ("SLUICEGATE_STREAM__KAFKA__NOPE", "1", "environment SLUICEGATE_STREAM__KAFKA__NOPE: no such setting"),
        ("SLUICEGATE_RESPONSE__DNS_PORTS", "[53", "JSON"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CommandProblem) as caught:
        load_settings(None)
    assert said in str(caught.value)


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOOTSTRAP, "")
    assert load_settings(None).stream.kafka.bootstrap == "127.0.0.1:9092"


def test_the_variable_of_a_setting_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(("exporter", "dns", "ports")), "[53, 5353]")
    assert load_settings(None).exporter.dns.ports == (53, 5353)


def test_every_section_is_known_by_name() -> None:
    assert set(SECTIONS) == set(Settings.model_fields)


def test_an_exporter_reads_its_sections_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("exporter: {live: {collect_ms: 50}}\ndetectors: {syn_flood: {}}\n")
    assert load(NodeSettings, file, {}).exporter.live.collect_ms == 50
    file.write_text("exporter: {live: {collect: 50}}\n")
    with pytest.raises(CommandProblem, match=r"exporter\.live\.collect: no such setting"):
        load(NodeSettings, file, {})
