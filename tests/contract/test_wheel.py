"""What ships is the wheel: its contents, and the command it installs, run away from the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [name for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] if "*" not in name]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy of what the image build copies."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
          "--wheel-dir", str(target), str(source)])  # fmt: skip
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and, beside it, the libraries of the running one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # A path in a .pth file adds the libraries but does not follow their own .pth files, so the editable
    # install of the checkout stays invisible.
    libraries = sysconfig.get_path("purelib")
    (home / "lib" / version / "site-packages" / "libraries.pth").write_text(libraries + "\n")
    _run([sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet", "--no-deps",
          "--no-index", "--ignore-installed", str(wheel)])  # fmt: skip
    return home


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == set(PACKAGES)


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".yaml"} or path.name == "py.typed"
    }
    assert {name for name in ours if "__pycache__" not in name} == shipped


def test_wheel_is_typed_and_licensed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_command_runs_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    answer = _run([str(installed / "bin" / "sluicegate"), "version"], cwd=tmp_path)
    assert PROJECT["project"]["version"] in answer


def test_packages_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = "import " + ", ".join(PACKAGES) + "; print([m.__file__ for m in (" + ", ".join(PACKAGES) + ",)])"
    answer = _run([str(installed / "bin" / "python"), "-c", code], cwd=tmp_path)
    assert answer.count(str(installed)) == len(PACKAGES)


def _run(command: list[str], cwd: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
