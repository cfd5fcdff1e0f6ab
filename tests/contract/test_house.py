"""Rules of the house that no linter knows: the menu, the lock files, what the text of the project may say."""

import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("build", "runtime", "dev", "bench")
MENU = ("help", "setup", "demo", "test", "lint", "bench", "quality", "e2e", "chart")
TEXT_SUFFIXES = {
    "", ".cfg", ".go", ".in", ".ini", ".json", ".jsonl", ".md", ".mod", ".py", ".sh", ".toml", ".tpl", ".txt",
    ".xml", ".yaml", ".yml",
}  # fmt: skip
# A file this long has more than one subject. Most are below 200 lines.
LONGEST_FILE = 400


@cache
def _texts() -> tuple[tuple[str, str], ...]:
    """Every text file of the checkout that is ours: (path, content)."""
    found = []
    for folder, inner, files in os.walk(ROOT):
        # Pruned in place: the environment and the caches hold a hundred times as many files as we do.
        inner[:] = sorted(name for name in inner if not _passed_over(name))
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix in TEXT_SUFFIXES and name not in {"LICENSE", "go.sum"}:
                found.append((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8", errors="replace")))
    return tuple(found)


def _passed_over(folder: str) -> bool:
    hidden = folder.startswith(".") and folder != ".ci"
    return hidden or folder in {"build", "dist", "__pycache__"} or folder.endswith(".egg-info")


def _pins(name: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Requirements of a lock by canonical name, each with its number of hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    found: dict[str, list[tuple[Requirement, int]]] = {}
    for line in text.splitlines():
        requirement = Requirement(line.split(" --hash=")[0])
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, line.count("--hash=sha256:")))
    return found


def _pinned_here(name: str) -> dict[str, Version]:
    environment = {key: str(value) for key, value in default_environment().items()}
    return {
        package: Version(next(iter(requirement.specifier)).version)
        for package, entries in _pins(name).items()
        for requirement, _ in entries
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


@pytest.mark.parametrize("name", LOCKS)
def test_lock_is_exact_hashed_and_names_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    options = {word for word in re.findall(r"(?<!\S)--?[a-z-]+", text) if word != "--hash"}
    assert options == set()
    for entries in _pins(name).values():
        for requirement, hashes in entries:
            assert [part.operator for part in requirement.specifier] == ["=="], requirement
            assert hashes >= 1, requirement


def _wanted(lock: str) -> list[str]:
    groups: dict[str, list[str]] = PROJECT["dependency-groups"]
    build: list[str] = PROJECT["build-system"]["requires"]
    runtime: list[str] = PROJECT["project"]["dependencies"]
    by_lock = {
        "build": build,
        "runtime": runtime,
        "dev": build + runtime + groups["test"] + groups["lint"],
        "bench": groups["bench"],
    }
    return by_lock[lock]


@pytest.mark.parametrize("name", LOCKS)
def test_lock_satisfies_the_project(name: str) -> None:
    pinned = _pinned_here(name)
    for line in _wanted(name):
        wanted = Requirement(line)
        version = pinned.get(canonicalize_name(wanted.name))
        assert version is not None, f"{wanted} is not in requirements/{name}.txt: run `make lock`"
        assert wanted.specifier.contains(version), f"{wanted} is locked at {version}: run `make lock`"


def test_locks_agree_with_each_other() -> None:
    dev = _pinned_here("dev")
    for name in LOCKS:
        both = {package: version for package, version in _pinned_here(name).items() if package in dev}
        assert both == {package: dev[package] for package in both}


def test_build_requirements_are_written_once_in_effect() -> None:
    lines = (ROOT / "requirements" / "build.in").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == PROJECT["build-system"]["requires"]


def test_help_is_the_menu() -> None:
    makefile = (ROOT / "Makefile").read_text()
    printed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^  ([a-z0-9]+) ", printed, flags=re.M))
    assert set(MENU) <= listed
    assert listed == set(re.findall(r"^\.PHONY: (\S+)$", makefile, flags=re.M))


def test_readme_and_ci_name_targets_that_exist() -> None:
    targets = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), flags=re.M))
    for path in ("README.md", "CONTRIBUTING.md", "docs/quickstart.md", ".ci/run"):
        used = set(re.findall(r"(?:^|`)make ([a-z0-9]+)", (ROOT / path).read_text(), flags=re.M))
        assert used, path
        assert used <= targets, path


def test_ci_runs_what_the_readme_promises() -> None:
    steps = re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text(), flags=re.M)
    assert {"test", "lint", "e2e", "chart"} <= set(steps)
    # The last line of the log is pytest's own summary.
    assert steps[-1] == "test"


def test_relative_links_of_the_documents_lead_somewhere() -> None:
    missing = [
        f"{path}: {target}"
        for path, text in _texts()
        if path.endswith(".md")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
        if "://" not in target and not (ROOT / path).parent.joinpath(target).exists()
    ]
    assert missing == []


def test_no_path_of_one_machine_is_in_the_project() -> None:
    # Written in pieces, so that this file passes its own test.
    machine = re.compile(
        "|".join(["/" + r"work/", "/" + r"tmp/brief", r"\.\./" + "shared", "/" + r"root/", "/" + r"home/\w"])
    )
    found = [f"{path}: {match.group()}" for path, text in _texts() if (match := machine.search(text))]
    assert found == []


def test_nothing_is_left_for_later_in_the_code() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    found = [path for path, text in _texts() if path.endswith((".py", ".go", "Makefile")) and marks.search(text)]
    assert found == []


def test_files_stay_readable() -> None:
    lengths = {path: text.count("\n") for path, text in _texts() if path.endswith(".py")}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}
