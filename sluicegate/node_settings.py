"""What an exporter on a node needs of the settings; the rest of the file is not looked at.

The models of detectors bring libraries with them that take more memory than the whole exporter.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from exporter.settings import ExporterSettings
from sluicegate.settings_layers import LayeredSettings
from stream.settings import StreamSettings


class NodeSettings(LayeredSettings):
    """The settings of exporter and broker."""

    model_config = SettingsConfigDict(extra="ignore")

    exporter: ExporterSettings = Field(ExporterSettings())
    stream: StreamSettings = Field(StreamSettings())
