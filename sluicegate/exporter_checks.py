"""What ``sluicegate doctor --exporter`` looks at: whether this node's packets could be exported, and to where."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path

from exporter.delivery import DeliveryError
from exporter.live_source import SourceError
from exporter.live_sources import LIVE_SOURCES
from exporter.privileges import PURPOSE, Privilege, missing, remedy
from exporter.settings import ExporterSettings
from exporter.sources.interfaces import Interfaces
from exporter.sources.packet_ring import PacketRing
from exporter.spool import Spool
from sluicegate.check_finding import Finding
from sluicegate.checks import broker
from sluicegate.node_settings import NodeSettings

_SHOWN = 8


def exporter_checks(settings: NodeSettings) -> Iterator[Finding]:
    """Run every check, one after the other; none raises."""
    yield _kernel()
    yield from _privileges()
    yield _ring(settings.exporter)
    yield from _interfaces(settings.exporter)
    yield _spool(settings.exporter)
    yield from broker(settings.stream)


def _kernel() -> Finding:
    here = f"{platform.system()} {platform.release()}"
    if platform.system() != "Linux":
        return Finding("kernel", "missing", here, "packets of a node are read on Linux only")
    return Finding("kernel", "ok", here)


def _privileges() -> Iterator[Finding]:
    needed = LIVE_SOURCES["packets"].needs
    for privilege in sorted(Privilege, reverse=True):
        if not missing([privilege]):
            yield Finding(privilege.name, "ok", PURPOSE[privilege])
        elif privilege in needed:
            yield Finding(privilege.name, "missing", PURPOSE[privilege], remedy([privilege]))
        else:
            yield Finding(privilege.name, "off", PURPOSE[privilege], remedy([privilege]))


def _ring(settings: ExporterSettings) -> Finding:
    packets = settings.packets
    size = f"{packets.rings} of {packets.ring_bytes >> 10} KiB"
    try:
        PacketRing(packets).close()
    except SourceError as error:
        locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        hint = "" if locked == resource.RLIM_INFINITY else f" (memory that may be locked: {locked} bytes)"
        return Finding("packet ring", "missing", str(error) + hint, "CAP_NET_RAW, a kernel with CONFIG_PACKET")
    return Finding("packet ring", "ok", size)


def _interfaces(settings: ExporterSettings) -> Iterator[Finding]:
    try:
        found = Interfaces(settings.packets)
    except SourceError as error:
        yield Finding("interfaces", "missing", str(error))
        return
    try:
        links = sorted(found.links.values(), key=lambda link: link.number)
    finally:
        found.shut()
    for name, uplink in (("pods", False), ("uplinks", True)):
        names = [link.name for link in links if link.uplink == uplink]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        if names:
            yield Finding(name, "ok", ", ".join(names[:_SHOWN]) + more)
        elif uplink:
            hint = "name them in exporter.packets.uplinks to see what enters from outside"
            yield Finding(name, "off", "none is chosen", hint)
        else:
            hint = "none is there yet, or the exporter is not in the host's network namespace (hostNetwork: true)"
            yield Finding(name, "off", "no interface leads into another network namespace", hint)


def _spool(settings: ExporterSettings) -> Finding:
    folder = settings.live.spool
    if folder is None:
        return Finding(
            "spool", "off", "none: what memory cannot hold is dropped", "set exporter.live.spool to a folder"
        )
    if not folder.is_dir():
        parent = next(path for path in (folder, *folder.parents) if path.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding("spool", "ok", f"{folder} will be made")
        return Finding("spool", "missing", f"{folder} cannot be made", f"give write access to {parent}")
    return _writable(folder, settings)


def _writable(folder: Path, settings: ExporterSettings) -> Finding:
    try:
        spool = Spool(folder, settings.live.spool_bytes)
    except DeliveryError as error:
        return Finding("spool", "missing", str(error), "one exporter per spool; check its permissions")
    try:
        return Finding("spool", "ok", f"{folder}: {spool.size} bytes wait to be sent")
    finally:
        spool.close()
