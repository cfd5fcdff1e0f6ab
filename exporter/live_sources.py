"""The live sources by name."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.live_source import LiveSource
from exporter.sources.packets import PacketSource

# Each is made from the exporter's settings, what tells the node's flow ids apart, and when it starts (ns since epoch).
LIVE_SOURCES: Mapping[str, type[LiveSource]] = {PacketSource.name: PacketSource}
