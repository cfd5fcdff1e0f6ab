"""The live sources by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.live_source import LiveSource
from exporter.settings import ExporterSettings
from exporter.sources.conntrack import ConntrackSource
from exporter.sources.host import HostSource
from exporter.sources.packets import PacketSource

# Each is made from the exporter's settings, what tells the node's flow ids apart, and when it starts (ns since epoch).
LIVE_SOURCES: Mapping[str, type[LiveSource]] = {
    source.name: source for source in (PacketSource, ConntrackSource, HostSource)
}


def make_sources(names: Sequence[str], settings: ExporterSettings, node_hash: int, began: int) -> list[LiveSource]:
    """Return the sources of these names, not open yet; those that know something of each other's rows are joined."""
    made = {name: LIVE_SOURCES[name](settings, node_hash, began) for name in names}
    packets, conntrack = made.get(PacketSource.name), made.get(ConntrackSource.name)
    if isinstance(packets, PacketSource) and isinstance(conntrack, ConntrackSource):
        packets.translate_by(conntrack)
    return list(made.values())
