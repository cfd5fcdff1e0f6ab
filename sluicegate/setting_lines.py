"""Settings one by one: value, where it came from, and what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from sluicegate.settings import Settings
from sluicegate.settings_layers import at, plain, variable

Source = Literal["default", "file", "environment"]


@dataclass(frozen=True)
class SettingLine:
    """One setting; ``meaning`` holds its unit and the reason for its default."""

    path: tuple[str, ...]
    value: object
    source: Source
    meaning: str

    @property
    def name(self) -> str:
        """Path as written on the command line."""
        return ".".join(self.path)

    @property
    def environment(self) -> str:
        """Variable that overrides it."""
        return variable(self.path)


def setting_lines(
    settings: Settings, from_file: Mapping[str, Any], from_environment: Mapping[str, Any]
) -> list[SettingLine]:
    """Return every setting in the order of the models.

    Args:
        settings: the composed settings.
        from_file: what the settings file says, nested.
        from_environment: what the environment says, nested.
    """
    return list(_lines(settings, (), from_file, from_environment))


def _lines(
    model: BaseModel, path: tuple[str, ...], from_file: Mapping[str, Any], from_environment: Mapping[str, Any]
) -> Iterator[SettingLine]:
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, name)
        if isinstance(value, BaseModel):
            yield from _lines(value, here, from_file, from_environment)
            continue
        source: Source = "file" if at(from_file, here) else "default"
        if at(from_environment, here):
            source = "environment"
        yield SettingLine(here, plain(value), source, " ".join((field.description or "").split()))
