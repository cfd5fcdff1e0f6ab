"""What reaches a terminal or a pipe: escaped, at most 100 columns wide, no markup taken from data."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

WIDTH = 100
# Categories that move the cursor, hide or reorder text, or cannot be encoded.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escape(text: str) -> str:
    """Return text with every character that could steer a terminal or reorder a line written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c == " " or unicodedata.category(c) not in _UNSAFE else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str, limit: int) -> str:
    """Return text of at most ``limit`` characters, its end replaced by an ellipsis where it was longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def console(stream: TextIO | None = None) -> Console:
    """Return a console for a stream (standard output) that is never wider than ``WIDTH``.

    Emoji codes, markup and highlighting are off: what is printed is what was given.
    """
    from rich.console import Console

    target = stream or sys.stdout
    made = Console(file=target, highlight=False, markup=False, emoji=False)
    made.width = min(WIDTH, made.width) if target.isatty() else WIDTH
    return made


def cell(text: object, style: str = "") -> Text:
    """Return a table cell of escaped text."""
    from rich.text import Text

    return Text(escape(str(text)), style=style)


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table; the columns named in ``right`` hold numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def wrapped(text: str, indent: str = "    ", later: str | None = None) -> list[str]:
    """Return escaped text in lines of at most ``WIDTH`` columns; ``later`` indents all but the first."""
    import textwrap

    return textwrap.wrap(
        escape(text), WIDTH, initial_indent=indent, subsequent_indent=indent if later is None else later,
        break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip


def complain(text: str) -> None:
    """Write lines to standard error, escaped, each under our name."""
    for line in text.splitlines() or [""]:
        sys.stderr.write(f"sluicegate: {escape(line)}\n")
    sys.stderr.flush()


def note(text: str) -> None:
    """Write one line about progress or a condition to standard error, escaped."""
    sys.stderr.write(escape(text) + "\n")
    sys.stderr.flush()
