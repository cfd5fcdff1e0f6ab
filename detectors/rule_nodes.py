"""YAML nodes of a rule file, and what is wrong with them, each with its line.

A file is input from outside: PyYAML's safe loader composes it into nodes, never into objects, and it is
read field by field, so that every complaint has its line and nothing in it can name a type or run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from detectors.rule_fields import FieldError, printable, scalar

MAX_BYTES = 256 * 1024  # a rule is about 100 bytes; a larger file is not one that a person wrote

_Value = TypeVar("_Value")


class RuleError(ValueError):
    """A rule file that is not one: every mistake in it, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def text_of(source: Path | str, place: str) -> str:
    """Return the text of a path; a text as it is.

    Raises:
        RuleError: it cannot be read, is too long, or no UTF-8.
    """
    if isinstance(source, str):
        raw = source.encode("utf-8", "surrogatepass")
    else:
        try:
            with source.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise RuleError([f"{place}: cannot read the rules: {error.strerror}"]) from None
    if len(raw) > MAX_BYTES:
        raise RuleError([f"{place}: more than {MAX_BYTES} bytes; split the rules into several files"])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RuleError([f"{place}:{line}: not UTF-8 text"]) from None


class Nodes:
    """Reads nodes and gathers what is wrong with them."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._problems: list[tuple[int, str]] = []

    @property
    def mistakes(self) -> int:
        """How many mistakes were found so far."""
        return len(self._problems)

    def finish(self) -> None:
        """Raise what was found.

        Raises:
            RuleError: anything was.
        """
        if self._problems:
            raise RuleError([f"{self._place}:{line}: {what}" for line, what in sorted(self._problems)])

    def compose(self, text: str) -> yaml.Node | None:
        """Return the root of a text; none where it is no YAML."""
        try:
            root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._problems.append((mark.line + 1 if mark else 1, f"not YAML: {printable(str(error.problem))}"))
        except yaml.YAMLError:
            self._problems.append((1, "not YAML: it holds characters that YAML does not allow"))
        except RecursionError:
            self._problems.append((1, "not a rule file: it nests too deeply"))
        else:
            if root is None:
                self._problems.append((1, "the file is empty: it must begin with detection_rules:"))
            return root
        return None

    def say(self, node: yaml.Node, what: str) -> None:
        """Note a mistake."""
        self._problems.append((node.start_mark.line + 1, what))

    def mapping(self, node: yaml.Node, known: tuple[str, ...], what: str) -> dict[str, yaml.Node]:
        """Return the known fields of a mapping, in the order of the file; all else is a mistake."""
        if not isinstance(node, yaml.MappingNode):
            self.say(node, f"{what} must be a mapping with {', '.join(known)}")
            return {}
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = scalar(key)
            if name not in known:
                self.say(key, f"{what}: unknown field '{printable(name)}'; known: {', '.join(known)}")
            elif name in fields:
                self.say(key, f"{what}: {name} is given twice")
            else:
                fields[name] = value
        return fields

    def field(self, fields: dict[str, yaml.Node], name: str, read: Callable[[yaml.Node], _Value],
              absent: _Value, what: str) -> _Value:  # fmt: skip
        """Return a field's value as read; ``absent`` where it is not given or wrong."""
        if name not in fields:
            return absent
        try:
            return read(fields[name])
        except FieldError as error:
            self.say(fields[name], f"{what}: {error}")
            return absent
