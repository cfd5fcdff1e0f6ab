"""The values of the chart: each is in the schema, and wrong ones are refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

CHART = Path(__file__).resolve().parents[3] / "helm" / "sluicegate"
RunHelm = Callable[..., subprocess.CompletedProcess[str]]


def test_schema_lists_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    # `global` is Helm's own word for parent charts.
    assert set(schema["properties"]) - {"global"} == set(values)
    for name, value in values.items():
        inner = schema["properties"][name]
        if "properties" in inner:
            assert set(inner["properties"]) == set(value), name
            assert inner["additionalProperties"] is False, name


@pytest.mark.parametrize(
    "wrong",
    [
        "kafka.bootstrap=kafka",
        "kafka.security=ssl",
        "kafka.security=sasl_tls",
        "worker.replicas=0",
        "topics.rollupPartitions=9",
        "responder.enforced=true",
        "networkPolicies.kafkaPorts={70000}",
        "unknown=1",
    ],
)
def test_wrong_values_are_refused(run_helm: RunHelm, wrong: str) -> None:
    done = run_helm("template", "demo", str(CHART), "--kube-version", "1.34.0", "--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
