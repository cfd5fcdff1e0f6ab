"""What the processes on a node need of the settings; the rest of the file is not looked at.

The models of detectors bring libraries with them that take more memory than the whole exporter.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from exporter.settings import ExporterSettings
from response.settings import ResponseSettings
from sluicegate.settings_layers import LayeredSettings
from stream.settings import StreamSettings


class NodeSettings(LayeredSettings):
    """The settings of exporter and broker."""

    model_config = SettingsConfigDict(extra="ignore")

    exporter: ExporterSettings = Field(ExporterSettings())
    stream: StreamSettings = Field(StreamSettings())


class EnforcingSettings(LayeredSettings):
    """The settings of what enforces on a node, and of the broker."""

    model_config = SettingsConfigDict(extra="ignore")

    response: ResponseSettings = Field(ResponseSettings())
    stream: StreamSettings = Field(StreamSettings())
