"""Labelled lists of domain names, taken apart by label: what an evaluation knows and a detector must not.

A case of this format holds names of many generators and ordinary names in one table. Each (label, family) is
run as a client of its own, and each line of truth that names a label is graded once per family.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from sluicegate.cases import Expectation
from sluicegate.problems import CommandProblem

FORMAT = "domain_list"
_LABEL = re.compile(r"row with label (\S+)")
_MOST = 1 << 20
Group = tuple[str, str]


def read_groups(path: Path) -> dict[Group, list[str]]:
    """Return names by (label, family), in the order of the file; one nameless group where it has no labels.

    Raises:
        CommandProblem: it cannot be read, or is longer than any list of this kind.
    """
    groups: dict[Group, list[str]] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                if number >= _MOST:
                    message = f"{path}: more than {_MOST} names"
                    raise CommandProblem(message)
                key = (row.get("label") or "", row.get("family") or "")
                groups.setdefault(key, []).append(row.get("domain") or "")
    except (OSError, csv.Error) as error:
        message = f"{path}: cannot be read: {error}"
        raise CommandProblem(message) from None
    return groups if any(label for label, _ in groups) else {}


def group_files(groups: Mapping[Group, list[str]]) -> Iterator[tuple[Group, Path]]:
    """Write each group as a list of its own, which is gone when the next one is asked for."""
    with TemporaryDirectory(prefix="sluicegate-") as folder:
        path = Path(folder) / "domains.txt"
        for group, names in groups.items():
            path.write_text("\n".join(names) + "\n", encoding="utf-8")
            yield group, path


def lines_about(lines: tuple[Expectation, ...], group: Group) -> tuple[Expectation, ...]:
    """Return the lines that hold for a group, with its name as their source."""
    label, family = group
    return tuple(
        line.model_copy(update={"src": f"{label} {family}".strip()})
        for line in lines
        if (named := _LABEL.search(line.src)) is None or named[1] == label
    )
