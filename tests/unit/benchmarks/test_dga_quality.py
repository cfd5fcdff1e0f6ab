"""The demand on `dga`: nine in ten generated names, and next to no honest one."""

from __future__ import annotations

import pytest

from benchmarks import arithmetic_names, honest_names
from benchmarks.dga_quality import Measured, rows, share


@pytest.fixture(scope="module")
def measured() -> list[Measured]:
    return rows(clients=3)


@pytest.mark.parametrize("answers", [False, True])
def test_generated_names_are_found_and_honest_ones_are_not(measured: list[Measured], answers: bool) -> None:
    assert share(measured, generated=True, answers=answers) >= 0.9
    assert share(measured, generated=False, answers=answers) < 0.005


def test_every_family_is_found_where_answers_are_told(measured: list[Measured]) -> None:
    assert [m.group for m in measured if m.generated and m.answers and m.alarmed < m.names] == []


@pytest.mark.parametrize("family", arithmetic_names.FAMILIES)
def test_a_family_makes_different_names_by_seed_and_the_same_ones_again(family: str) -> None:
    made = arithmetic_names.names(family, 1, 60)
    assert made == arithmetic_names.names(family, 1, 60)
    assert len(set(made)) == 60
    assert not set(made) & set(arithmetic_names.names(family, 2, 60))


@pytest.mark.parametrize("kind", honest_names.KINDS)
def test_honest_names_are_the_same_again(kind: str) -> None:
    assert honest_names.names(kind, 1, 60) == honest_names.names(kind, 1, 60) != honest_names.names(kind, 2, 60)
