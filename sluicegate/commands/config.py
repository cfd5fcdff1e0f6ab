"""``sluicegate config show``: every setting, its value, its source and its meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.invocation import invocation
from sluicegate.problems import CommandProblem

if TYPE_CHECKING:
    from sluicegate.setting_lines import SettingLine


def show(
    context: typer.Context,
    section: Annotated[str, typer.Argument(help="Only this section or setting, as stream.kafka.")] = "",
    changed: Annotated[bool, typer.Option("--changed", help="Only what the file or the environment set.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per setting.")] = False,
) -> None:
    """Print every setting with its value, its source, its unit and the reason for its default.

    Settings come from defaults, then the file of --config, then variables such as
    SLUICEGATE_STREAM__KAFKA__BOOTSTRAP. Secrets are masked.
    """
    from sluicegate.setting_lines import setting_lines
    from sluicegate.settings import Settings
    from sluicegate.settings_file import read_settings_file
    from sluicegate.settings_layers import environment_values

    run = invocation(context)
    settings = run.settings
    from_file = read_settings_file(run.config_file) if run.config_file is not None else {}
    lines = setting_lines(settings, from_file, environment_values(Settings))
    chosen = [
        line for line in lines if line.name == section or f"{line.name}.".startswith(f"{section}.") or not section
    ]
    if not chosen:
        message = f"no setting {section}; the sections are {', '.join(type(settings).model_fields)}"
        raise CommandProblem(message)
    for line in chosen:
        if not changed or line.source != "default":
            _print(line, as_json)


def _print(line: SettingLine, as_json: bool) -> None:
    import textwrap

    import orjson

    from sluicegate.terminal import WIDTH, escape

    if as_json:
        words = {"name": line.name, "value": line.value, "source": line.source, "environment": line.environment,
                 "meaning": line.meaning}  # fmt: skip
        typer.echo(orjson.dumps(words).decode())
        return
    value = orjson.dumps(line.value).decode() if not isinstance(line.value, str) else line.value or '""'
    head = f"{line.name} = {value}  [{line.source}]"
    for piece in textwrap.wrap(escape(head), WIDTH, subsequent_indent="    ", break_on_hyphens=False):
        typer.echo(piece)
    for piece in textwrap.wrap(escape(line.meaning), WIDTH - 4):
        typer.echo(f"    {piece}")
