"""The configurations of all built-in detectors as one model, a section per detector found.

A new detector's file brings its section with it; nothing is listed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from detectors.registry import detector_classes

_FROZEN = ConfigDict(frozen=True, extra="forbid")


def _sections() -> dict[str, Any]:
    return {
        name: (detector.Config, Field(detector.Config(), description=detector.meta.title))
        for name, detector in detector_classes().items()
    }


if TYPE_CHECKING:

    class DetectorSettings(BaseModel):
        """One field per built-in detector, its ``Config``."""

        model_config = _FROZEN

else:
    DetectorSettings = create_model("DetectorSettings", __config__=_FROZEN, **_sections())


def overrides(settings: DetectorSettings) -> dict[str, dict[str, Any]]:
    """Return what differs from the defaults on purpose, by detector id.

    Defaults are left out, because a detector's seed follows the engine's unless it was set itself.
    """
    return settings.model_dump(exclude_unset=True)
