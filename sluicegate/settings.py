"""All settings as one frozen model: each package's under the package's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from alerts.settings import AlertSettings
from detectors.settings import EngineSettings
from exporter.settings import ExporterSettings
from response.settings import ResponseSettings
from sluicegate.detector_settings import DetectorSettings
from sluicegate.settings_layers import LayeredSettings, load
from stream.settings import StreamSettings


class Settings(LayeredSettings):
    """Every package's settings under the package's name."""

    exporter: ExporterSettings = Field(ExporterSettings(), description="packets and flow logs to event messages")
    stream: StreamSettings = Field(StreamSettings(), description="broker, topics, worker, health")
    engine: EngineSettings = Field(EngineSettings(), description="what all detectors share")
    detectors: DetectorSettings = Field(DetectorSettings(), description="limits of each built-in detector")
    alerts: AlertSettings = Field(AlertSettings(), description="episodes and incidents")
    response: ResponseSettings = Field(ResponseSettings(), description="what responses must keep working")

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        for name in ("event_partitions", "rollup_partitions"):
            engine, topics = getattr(self.engine, name), getattr(self.stream.topics, name)
            if engine != topics:
                message = f"engine.{name} is {engine} and stream.topics.{name} is {topics}: give both the same number"
                raise ValueError(message)
        return self


def load_settings(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a file (none: only defaults) and of the environment.

    Raises:
        CommandProblem: one line per mistake, each naming the file or variable.
    """
    return load(Settings, path, environment)
