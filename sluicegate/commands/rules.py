"""``sluicegate rules``: check rule files, show what they cost, and make them from Sigma."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rules (YAML).")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per entry.")] = False,
) -> None:
    """Check a rule file and show how each rule is computed.

    Every mistake is one line with its place; the exit code is 2 if there is any. docs/rules.md lists the
    words that a condition may use.
    """
    import orjson

    from detectors.rule_file import load_rule_file
    from sluicegate.rule_view import print_rules, rule_file_words

    read = load_rule_file(file)
    if as_json:
        for words in rule_file_words(read):
            typer.echo(orjson.dumps(words).decode())
    else:
        print_rules(read)


def import_rules(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Sigma rules and correlations (YAML).")],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rules here.")] = None,
) -> None:
    """Turn Sigma rules and correlations over flow and DNS log sources into a rule file.

    What cannot be expressed is refused by name with the reason; the others are still imported. The exit code
    is 2 if nothing is left. docs/rules.md says what is known.
    """
    from sluicegate.problems import CommandProblem
    from sluicegate.sigma_files import read_sigma, write_rules
    from sluicegate.sigma_import import import_sigma
    from sluicegate.terminal import note

    imported = import_sigma(read_sigma(files))
    for name, reason in imported.refused:
        note(f"refused: {name}: {reason}")
    count = len(imported.rules) + len(imported.sequences)
    if not count:
        message = "nothing was imported: every rule was refused"
        raise CommandProblem(message)
    if output is not None:
        write_rules(output, imported.text())
    else:
        typer.echo(imported.text(), nl=False)
    note(f"{len(imported.rules)} rules and {len(imported.sequences)} sequences; {len(imported.refused)} refused")


def plan(
    context: typer.Context,
    rules: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Rules (YAML); may be repeated.")] = None,
) -> None:
    """Show what the engine computes for all detectors and rules together, and what it costs.

    Equal features are computed once, however many detectors and rules ask for them.
    """
    from sluicegate.composition import parts
    from sluicegate.plan_view import print_plan

    print_plan(parts(invocation(context).settings, rules=rules or []).detectors())
