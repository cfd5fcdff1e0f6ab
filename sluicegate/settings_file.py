"""A settings file: YAML, read as data only, with a place for every complaint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sluicegate.problems import CommandProblem

# All settings with comments are a few kilobytes; anything larger is not a settings file.
MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """The safe loader, which silently keeps the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping.

        Raises:
            yaml.constructor.ConstructorError: a key is given twice.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                problem = f"{name[:80]} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        made: dict[Any, Any] = super().construct_mapping(node, deep=True)
        return made


def read_settings_file(path: Path) -> dict[str, Any]:
    """Return a settings file's contents; an empty file sets nothing.

    Raises:
        CommandProblem: it cannot be read, is too large, or is no YAML mapping.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"{path}: cannot read the settings: {error.strerror}"
        raise CommandProblem(message) from None
    if len(raw) > MAX_BYTES:
        message = f"{path}: more than {MAX_BYTES} bytes, not a settings file"
        raise CommandProblem(message)
    try:
        document = yaml.load(raw.decode(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except UnicodeDecodeError:
        message = f"{path}: not UTF-8 text"
        raise CommandProblem(message) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"{path}:{mark.line + 1 if mark else 1}: not a settings file: {error.problem}"
        raise CommandProblem(message) from None
    except (yaml.YAMLError, RecursionError):
        message = f"{path}: not a settings file: it holds characters or nesting that YAML does not allow"
        raise CommandProblem(message) from None
    return _mapping(document, path)


def _mapping(document: object, path: Path) -> dict[str, Any]:
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        message = f"{path}: a mapping of sections is expected; see sluicegate config show"
        raise CommandProblem(message)
    return document
