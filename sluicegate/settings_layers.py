"""Settings as a file says them, overridden by the environment, with a place for every complaint.

``SLUICEGATE_STREAM__KAFKA__BOOTSTRAP`` overrides ``stream.kafka.bootstrap``; values that are lists or
mappings are given as JSON. An empty variable counts as absent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sluicegate.problems import CommandProblem
from sluicegate.settings_file import read_settings_file
from sluicegate.terminal import shortened

PREFIX = "SLUICEGATE_"
DELIMITER = "__"
# Sections of the whole file; each package's settings under the package's name, detectors apart from the engine.
SECTIONS = ("exporter", "stream", "engine", "detectors", "alerts", "response")


class LayeredSettings(BaseSettings):
    """What a file says, overridden by the environment."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter=DELIMITER, env_ignore_empty=True,
    )  # fmt: skip

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose contents come in as arguments."""
        return (env_settings, init_settings)


_Model = TypeVar("_Model", bound=LayeredSettings)


def load(model: type[_Model], path: Path | None, environment: Mapping[str, str] | None = None) -> _Model:
    """Return the settings of a file (none: only defaults) and of the environment.

    Raises:
        CommandProblem: one line per mistake, each naming the file or variable.
    """
    variables = os.environ if environment is None else environment
    given = read_settings_file(path) if path is not None else {}
    problems = unknown_variables(variables)
    if problems:
        raise CommandProblem("\n".join(problems))
    try:
        return model(**given)
    except ValidationError as error:
        raise CommandProblem("\n".join(_mistakes(error, path, environment_values(model)))) from None
    except SettingsError as error:
        message = f"environment: {error} (lists and mappings are given as JSON)"
        raise CommandProblem(message) from None


def environment_values(model: type[LayeredSettings]) -> dict[str, Any]:
    """Return what the environment sets, nested as in the file.

    Raises:
        SettingsError: a list or mapping that is not JSON.
    """
    return EnvSettingsSource(model)()


def unknown_variables(variables: Mapping[str, str]) -> list[str]:
    """Return one line per variable that looks like a setting of ours and is none."""
    sections = sorted(SECTIONS)
    lines = []
    for name in sorted(variables):
        head, delimiter, _ = name.upper().removeprefix(PREFIX).partition(DELIMITER)
        if name.upper().startswith(PREFIX) and delimiter and head.lower() not in sections:
            lines.append(f"environment {shortened(name, 80)}: no such section; there are {', '.join(sections)}")
    return lines


def variable(path: tuple[str, ...]) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + DELIMITER.join(path).upper()


def at(tree: object, path: tuple[str, ...]) -> bool:
    """Tell whether nested mappings hold a path."""
    for name in path:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True


def plain(value: object) -> object:
    """Return a setting's value as JSON can hold it; secrets are masked."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, str | int | float | bool | dict | None) else str(value)


def _mistakes(error: ValidationError, path: Path | None, from_environment: dict[str, Any]) -> list[str]:
    lines = []
    for mistake in error.errors(include_url=False, include_input=False)[:20]:
        place = tuple(str(part) for part in mistake["loc"])
        text = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            text = "no such setting; see sluicegate config show"
        if place and at(from_environment, place):
            lines.append(f"environment {variable(place)}: {text}")
        else:
            lines.append(f"{path or 'settings'}: {'.'.join(place) + ': ' if place else ''}{text}")
    return lines
