"""Does the command line take these arguments? Parses them as the program would, and runs nothing."""

from collections.abc import Sequence
from typing import Any

from typer.main import get_command

from sluicegate.app import app


def parse(arguments: Sequence[str]) -> str:
    """Return the command that the arguments name, as in `topics create`.

    Raises:
        Exception: what the parser says of a command, option or value that it does not know.
    """
    context: Any = get_command(app).make_context("sluicegate", list(arguments))
    words = []
    while hasattr(context.command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        word, inner, rest = context.command.resolve_command(context, rest)
        words.append(word)
        context = inner.make_context(word, rest, parent=context)
    return " ".join(words)
