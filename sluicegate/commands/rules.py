"""``sluicegate rules``: check rule files and show what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rules (YAML).")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per rule.")] = False,
) -> None:
    """Check a rule file and show how each rule is computed.

    Every mistake is one line with its place; the exit code is 2 if there is any. docs/rules.md lists the
    words that a condition may use.
    """
    import orjson

    from detectors.rule_file import load_rules
    from sluicegate.rule_view import print_rule, rule_words

    for rule in load_rules(file):
        if as_json:
            typer.echo(orjson.dumps(rule_words(rule)).decode())
        else:
            print_rule(rule)


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
