"""The generated pages about the command line and the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import typer

from sluicegate.app import app
from sluicegate.setting_lines import SettingLine, setting_lines
from sluicegate.settings import Settings
from sluicegate.terminal import WIDTH

_NOTE = "<!-- Made by docs/generate.py; change the code, not this page. -->"

_CLI_HEAD = f"""# The command line

{_NOTE}

`sluicegate [--config FILE] COMMAND`. Settings come from defaults, then the file, then the environment; see
[configuration.md](configuration.md).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | what was asked for was not met: a miss under `--strict`, a demo without an expected alert, an agent that failed |
| 2 | wrong usage, or input that cannot be read |
| 3 | broker or cluster out of reach |
| 70 | a bug; run again with `SLUICEGATE_DEBUG=1` and report the trace |
| 130 | interrupted |

Errors are lines on standard error, one for each mistake, that name the place and the remedy. Characters in data that
could steer a terminal are written as escapes.
"""

_CONFIGURATION_HEAD = f"""# Settings

{_NOTE}

One YAML file, named by `--config FILE` or `SLUICEGATE_CONFIG`, holds what differs from the defaults:

```yaml
stream:
  kafka: {{bootstrap: "kafka-1:9092,kafka-2:9092", security: tls, ca_file: /etc/sluicegate/ca.pem}}
  topics: {{replication: 3}}
detectors:
  port_scan: {{ports: 25}}
```

Every setting can be overridden by a variable: `SLUICEGATE_` and the path in capitals, two underscores between the
parts, as `SLUICEGATE_STREAM__KAFKA__BOOTSTRAP`. Lists and mappings are given as JSON; an empty variable counts as
absent. An unknown setting or variable section is an error. Secrets belong into files or variables, not into the
settings file. `sluicegate config show` prints the values in force and where each came from.
"""


def cli_page() -> str:
    """Return ``docs/cli.md``."""
    root = typer.main.get_command(app)
    # The width is stated, so that the page does not depend on who makes it.
    context = typer.Context(root, info_name="sluicegate", terminal_width=WIDTH, help_option_names=["-h", "--help"])
    return "\n".join([_CLI_HEAD, *_commands(root, context)])


def configuration_page() -> str:
    """Return ``docs/configuration.md``: every setting with default, unit and reason.

    The environment of whoever generates it plays no part.
    """
    lines = setting_lines(Settings.model_construct(), {}, {})
    parts = [_CONFIGURATION_HEAD]
    section = ""
    for line in lines:
        here = ".".join(line.path[:-1])
        if here != section:
            section = here
            parts.append(f"\n## {section}\n\n| setting | default | meaning |\n|---|---|---|")
        parts.append(_row(line))
    return "\n".join(parts) + "\n"


def documents() -> dict[str, str]:
    """Return the generated pages by their file name in ``docs``."""
    return {"cli.md": cli_page(), "configuration.md": configuration_page()}


def _row(line: SettingLine) -> str:
    value = orjson.dumps(line.value).decode()
    meaning = line.meaning or "whether it runs"
    return f"| `{line.path[-1]}` | `{_cell(value)}` | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _commands(node: Any, context: typer.Context) -> Iterator[str]:
    children = getattr(node, "commands", None)
    if children is None:
        yield f"## {context.command_path}\n\n```text\n{node.get_help(context).strip()}\n```\n"
        return
    for name, child in children.items():
        yield from _commands(child, typer.Context(child, parent=context, info_name=name))
