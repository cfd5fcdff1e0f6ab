"""``sluicegate evaluate``: recorded cases graded against what they are known to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation


def evaluate(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with case folders, at any depth.")],
    kinds: Annotated[str, typer.Option(metavar="KIND,...", help="Grade only lines about these kinds.")] = "",
    inventory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who had which address, beside what cases say (JSON lines).")
    ] = None,
    rules: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Rules (YAML); may be repeated.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 on a miss, a false alert or a failure.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Run every case and grade it: hit, miss, false alert, and the event time it took to detect.

    Only alerts of medium severity or higher against a silence line are false alerts; others are listed
    apart. Cases in formats that are not read yet are listed as such. docs/evaluation.md has the rules.
    """
    import orjson

    from sluicegate import problems
    from sluicegate.case_run import run_cases
    from sluicegate.cases import find_cases
    from sluicegate.evaluation_report import as_words, met, print_report
    from sluicegate.progress import counted
    from sluicegate.terminal import console

    folders = find_cases(folder)
    wanted = frozenset(name.strip() for name in kinds.split(",") if name.strip())
    running = run_cases(folders, invocation(context).settings, rules or [], wanted, inventory)
    results = list(counted(running, "cases", len(folders)))
    if as_json:
        typer.echo(orjson.dumps(as_words(results), option=orjson.OPT_INDENT_2).decode())
    else:
        print_report(console(), results)
    if strict and not met(results):
        raise typer.Exit(problems.NOT_MET)
