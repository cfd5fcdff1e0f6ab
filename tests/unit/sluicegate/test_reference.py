from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.reference import documents

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["cli.md", "configuration.md"])
def test_the_page_in_docs_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == documents()[name], "run python docs/generate.py"


def test_pages_do_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = documents()
    monkeypatch.setenv("SLUICEGATE_STREAM__KAFKA__PREFIX", "mine")
    monkeypatch.setenv("COLUMNS", "40")
    assert documents() == before
