"""docker-compose.yml cannot be run everywhere; what can be known without a container engine is checked here."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluicegate.settings import load_settings
from stream.settings import HealthSettings
from stream.telemetry import SPECS
from tests.contract.command_line import parse

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "prometheus.yml").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "prometheus-alerts.yml").read_text())

# The words of the Compose specification that we use.
SERVICE_WORDS = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "ports", "read_only",
    "restart", "security_opt", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
HEALTH_WORDS = {"test", "interval", "timeout", "retries"}
CONDITIONS = {"service_healthy", "service_completed_successfully"}
# Broker properties, as the image spells them: KAFKA_ and the name in capitals.
BROKER_PROPERTIES = {
    "advertised.listeners", "auto.create.topics.enable", "controller.listener.names", "controller.quorum.voters",
    "group.initial.rebalance.delay.ms", "listener.security.protocol.map", "listeners", "log.dirs", "node.id",
    "offsets.topic.replication.factor", "process.roles", "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
}  # fmt: skip


def _mounts(service: dict[str, Any]) -> dict[str, str]:
    """Container path to what is mounted there."""
    return {mount.split(":")[1]: mount.split(":")[0] for mount in service.get("volumes", ())}


def test_services_are_the_system() -> None:
    assert set(SERVICES) == {"kafka", "topics", "worker", "responder", "exporter", "prometheus"}
    assert OURS == ["exporter", "responder", "topics", "worker"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_service_uses_known_words(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= SERVICE_WORDS
    assert set(service.get("healthcheck", {})) <= HEALTH_WORDS
    # A moving tag would start something else tomorrow.
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    assert all(isinstance(value, str) for value in service.get("environment", {}).values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_service_waits_for_what_exists(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] in CONDITIONS
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert "restart" not in SERVICES[other], "a service that restarts never completes"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_mounts_exist(name: str) -> None:
    for source in _mounts(SERVICES[name]).values():
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


def test_broker_is_told_known_properties() -> None:
    told = {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in SERVICES["kafka"]["environment"]}
    assert told == BROKER_PROPERTIES


def test_broker_is_the_release_that_the_tests_run() -> None:
    source = (ROOT / "sluicegate" / "local_broker.py").read_text()
    tested = re.search(r'^KAFKA_VERSION = "(.+)"$', source, flags=re.M)
    assert tested is not None
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{tested.group(1)}"


def test_broker_keeps_its_data_on_the_volume() -> None:
    assert SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"] in _mounts(SERVICES["kafka"])


@pytest.mark.parametrize(
    ("name", "command"),
    [("topics", "topics create"), ("worker", "worker"), ("responder", "respond"), ("exporter", "export")],
)
def test_command_is_one_of_ours(name: str, command: str) -> None:
    assert parse(SERVICES[name]["command"]) == command


@pytest.mark.parametrize("name", OURS)
def test_files_in_commands_are_mounted(name: str) -> None:
    mounts = _mounts(SERVICES[name])
    for argument in SERVICES[name]["command"]:
        path = argument.split("=")[-1]
        if path.startswith("/"):
            folder, _, file = path.rpartition("/")
            assert (ROOT / mounts[folder] / file).exists(), path


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = SERVICES[name]["environment"]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings(None)
    assert settings.stream.kafka.bootstrap == "kafka:9092"
    assert settings.stream.health.host == "0.0.0.0"


@pytest.mark.parametrize("name", OURS)
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_ports_are_open_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_image_is_tagged_with_our_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"sluicegate:{version}"}


def test_prometheus_scrapes_services_that_serve_metrics() -> None:
    (job,) = PROMETHEUS["scrape_configs"]
    targets = {target for entry in job["static_configs"] for target in entry["targets"]}
    assert targets == {f"{name}:{HealthSettings().port}" for name in ("worker", "responder")}


def test_prometheus_finds_its_files() -> None:
    mounts = _mounts(SERVICES["prometheus"])
    assert {*PROMETHEUS["rule_files"], "/etc/prometheus/prometheus.yml"} <= set(mounts)


def test_prometheus_rules_name_metrics_that_exist() -> None:
    exported = {f"sluicegate_{spec.name}" + ("_total" if spec.kind == "counter" else "") for spec in SPECS}
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            named = set(re.findall(r"sluicegate_\w+", rule["expr"]))
            assert named <= exported
            assert named or "up{" in rule["expr"]
            assert set(rule["labels"]) == {"severity"}
            assert rule["annotations"]["summary"]
