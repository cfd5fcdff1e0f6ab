"""Our top-level names are generic; other people's distributions carry them too.

An editable install lets a stranger's package win while pytest, started in the checkout, lets ours win: green tests,
broken service. So each name must belong to our distribution alone in the environment that runs the tests.
"""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_INCLUDED = _PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
PACKAGES = sorted(name for name in _INCLUDED if "*" not in name)


@pytest.mark.parametrize("name", PACKAGES)
def test_name_belongs_to_us_alone(name: str) -> None:
    owners = set(packages_distributions().get(name, ()))
    assert owners == {"sluicegate"}, f"{name} is provided by {sorted(owners)}; uninstall the others"


@pytest.mark.parametrize("name", PACKAGES)
def test_name_imports_from_this_project(name: str, tmp_path: Path) -> None:
    # A directory of its own and -P: neither the checkout nor the working directory may help.
    code = f"import {name}, pathlib; print(pathlib.Path({name}.__file__).resolve().parent)"
    found = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == ROOT / name


def test_every_package_of_the_checkout_is_listed() -> None:
    outside = {"tests", "benchmarks", "docs", "examples", "helm", "requirements", "build", "dist"}
    folders = {path.parent.name for path in ROOT.glob("*/*.py")} - outside
    assert folders == set(PACKAGES)


def test_patterns_take_no_similar_names() -> None:
    # `stream*` would also package a forgotten `streams_old`.
    assert {f"{name}.*" for name in PACKAGES} == {name for name in _INCLUDED if "*" in name}


def test_modules_do_not_shadow_the_standard_library() -> None:
    taken = [
        str(path.relative_to(ROOT))
        for name in PACKAGES
        for path in (ROOT / name).rglob("*.py")
        if path.stem in sys.stdlib_module_names and path.stem != "__main__"
    ]
    assert taken == []
