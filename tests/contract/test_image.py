"""The Dockerfile's steps, as far as they can be checked without a container engine; test_wheel.py runs the rest."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [name for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] if "*" not in name]


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, rest in lines]


INSTRUCTIONS = _instructions()
STAGES = [index for index, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM"]
BUILD, SHIPPED = INSTRUCTIONS[: STAGES[1]], INSTRUCTIONS[STAGES[1] :]


def _copied() -> list[str]:
    return [source for word, rest in BUILD if word == "COPY" for source in rest.split()[:-1]]


def test_there_are_two_stages_on_one_base() -> None:
    assert len(STAGES) == 2
    # The environment is bound to the interpreter it was made with.
    assert BUILD[0][1].split()[0] == SHIPPED[0][1].split()[0]


def test_base_is_a_python_that_the_project_supports() -> None:
    found = re.match(r"python:(\d+\.\d+)", BUILD[0][1])
    assert found is not None
    assert PROJECT["project"]["requires-python"] == f">={found.group(1)}"


def test_build_copies_the_packages_and_the_locks() -> None:
    assert set(_copied()) == {
        *PACKAGES, "requirements/build.txt", "requirements/runtime.txt", "pyproject.toml", "README.md", "LICENSE",
    }  # fmt: skip
    assert all((ROOT / source).exists() for source in _copied())


@pytest.mark.parametrize("source", _copied())
def test_ignore_file_lets_in_what_is_copied(source: str) -> None:
    admitted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert any(fnmatch.fnmatch(source, pattern) for pattern in admitted)


def test_ignore_file_shuts_out_the_rest() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(_copied())


def test_every_download_is_checked_by_hash() -> None:
    for word, rest in BUILD:
        if word != "RUN":
            continue
        for command in rest.split("&&"):
            if "pip" in command and (" install " in command or " wheel " in command):
                assert "--require-hashes" in command or "--no-index" in command, command
            assert not re.search(r"\b(apt|apt-get|curl|wget|git)\b", command), command


def test_nothing_is_run_in_what_ships() -> None:
    assert "RUN" not in {word for word, _ in SHIPPED}
    assert [rest for word, rest in SHIPPED if word == "COPY"] == ["--from=build /opt/sluicegate /opt/sluicegate"]


def test_shipped_environment_is_safe() -> None:
    words = dict(SHIPPED)
    assert "PYTHONSAFEPATH=1" in words["ENV"].split()
    user = words["USER"].split(":")
    assert len(user) == 2
    assert all(number.isdigit() and int(number) > 0 for number in user)
    assert words["ENTRYPOINT"] == '["sluicegate"]'
    # Nothing is copied into the working directory: no stray file can be imported from there.
    assert words["WORKDIR"] not in {"/", "/opt/sluicegate"}
