"""Renders the chart with Helm itself."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "sluicegate"
EVERYTHING = Path(__file__).with_name("everything.yaml")
# What Helm believes the cluster to be; it only has to be a version whose objects can be validated.
KUBERNETES = "1.34.0"

Documents = list[dict[str, Any]]
Render = Callable[..., Documents]


@pytest.fixture(scope="session")
def helm() -> str:
    """Helm's path; `make chart` builds it into .cache/bin."""
    built = ROOT / ".cache" / "bin" / "helm"
    found = str(built) if built.exists() else shutil.which("helm")
    if found is not None:
        return found
    reason = "helm is neither in .cache/bin nor on the PATH: run `make chart`"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def run_helm(helm: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Helm; the caller looks at the exit code."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def render(run_helm: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """All objects of the chart for the given `--set` and `--values` arguments."""

    def rendered(*arguments: str) -> Documents:
        done = run_helm("template", "demo", str(CHART), "--namespace", "sluicegate", "--kube-version", KUBERNETES,
                        *arguments)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return rendered


@pytest.fixture(scope="session", params=["defaults", "everything"])
def objects(request: pytest.FixtureRequest, render: Render) -> Documents:
    """The chart as it comes, and with every switch turned on."""
    return render() if request.param == "defaults" else render("--values", str(EVERYTHING))
