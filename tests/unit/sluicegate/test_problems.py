from __future__ import annotations

import importlib

import pytest

from response.gateway import ClusterError
from sluicegate import problems


def test_every_known_error_exists_under_its_name() -> None:
    for module, name, _ in problems._KNOWN:
        assert issubclass(getattr(importlib.import_module(module), name), Exception)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (problems.CommandProblem("x"), 2),
        (problems.CommandProblem("x", 3), 3),
        (ClusterError("x", "bad_kubeconfig"), 2),
        (ClusterError("x", "unreachable"), 3),
        (FileNotFoundError(2, "No such file", "/x"), 2),
        (OSError("no file in it"), None),
        (ValueError("x"), None),
    ],
)
def test_exit_codes(error: Exception, code: int | None) -> None:
    assert problems.exit_code(error) == code


def test_an_error_of_the_system_names_its_file() -> None:
    assert problems.told(PermissionError(13, "Permission denied", "/x")).startswith("/x: Permission denied")
