"""Connection tracking of this node: what NAT makes of flows, or, where packets may not be captured, the flows."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from exporter.connection_rows import ConnectionRows
from exporter.live_source import SourceError, SourceState
from exporter.privileges import Privilege
from exporter.second import Second
from exporter.settings import ExporterSettings
from exporter.sides import Locality
from exporter.sources.ctnetlink import DESTINATION_CHANGED, SOURCE_CHANGED, ConnectionMessages
from exporter.sources.ctnetlink_socket import ConnectionSocket, everything
from exporter.sources.rtnetlink import AddressMessage
from exporter.sources.rtnetlink import everything as node_state
from exporter.translations import Translations
from schemas.events import Capability

_COUNTING = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
_RETRY_S = 10
_ALONE = Capability.REVERSE | Capability.PORTS | Capability.NAT


class ConntrackSource:
    """Events of connection tracking.

    Beside the source of packets (``translations`` is asked for) it only tells that one what NAT does. Alone it reports
    connections as flows: it sees no packet that opens none (odd flags, dropped attempts), and ends late.

    Args:
        settings: of the exporter.
        node_hash: tells flow ids of nodes apart.
        began: when the exporter starts, ns since epoch.
    """

    name: ClassVar[str] = "conntrack"
    needs: ClassVar[frozenset[Privilege]] = frozenset({Privilege.CAP_NET_ADMIN})
    # After a loss everything is listed again, which is asked anew.
    keeps: ClassVar[frozenset[Privilege]] = needs

    def __init__(self, settings: ExporterSettings, node_hash: int, began: int) -> None:
        self._settings = settings
        self._began, self._now = began, began
        self._place = Locality(settings.packets.cluster_networks, settings.conntrack.pod_networks)
        self._rows = ConnectionRows(settings.conntrack.connections, node_hash, self._place, settings.flow.seed)
        self._table: Translations | None = None
        self._socket: ConnectionSocket | None = None
        self._messages = ConnectionMessages()
        self._heard = self._malformed = self._malformed_before = 0
        self._relist_at = 0
        self._problems: list[str] = []
        self._refused_before = self._dropped = self._dropped_before = 0

    @property
    def capabilities(self) -> Capability:
        """What it can fill, as it is used and as the kernel counts."""
        if self._table is not None:
            return Capability.NAT
        return _ALONE | Capability.PACKETS if _counts() else _ALONE

    @property
    def notes(self) -> tuple[str, ...]:
        """What it cannot know."""
        if self._table is not None:
            return ()
        counting = "" if _counts() else "; no bytes (net.netfilter.nf_conntrack_acct is 0)"
        return (f"connection tracking alone: no dropped attempts, no odd flags, ends told late{counting}",)

    @property
    def interfaces(self) -> Sequence[str]:
        """Connection tracking knows none."""
        return ("",)

    @property
    def next_due(self) -> int | None:
        """Nothing times out here."""
        return None

    @property
    def busy(self) -> bool:
        """It is read whole each time."""
        return False

    @property
    def translations(self) -> Translations:
        """What NAT does, kept up to date by ``update``; from the first call on, no flows are reported."""
        if self._table is None:
            flow = self._settings.flow
            linger = max(flow.udp_idle_seconds, flow.half_open_seconds) + flow.linger_seconds
            self._table = Translations(self._settings.conntrack.translations, linger, flow.seed)
        return self._table

    def open(self) -> None:
        """Begin to listen, then list what there is already."""
        try:
            self._socket = ConnectionSocket(translated=self._table is not None)
            self._place.set_own(m.address for m in node_state() if isinstance(m, AddressMessage) and not m.gone)
            self._list(first=True, cut=0)
        except OSError as error:
            self.shut()
            problem = f"conntrack: cannot hear of connections: {error.strerror}"
            raise SourceError(problem) from None

    def _list(self, *, first: bool, cut: int) -> None:
        """Look at everything that there is, and let go of what is gone."""
        table = self._table
        if table is not None:
            table.start_again(cut)
            for status in (SOURCE_CHANGED, DESTINATION_CHANGED):
                for slots, sizes in everything(status):
                    table.take(self._messages.parse(slots, sizes)[0], cut)
            return
        listed = [self._messages.parse(slots, sizes)[0] for slots, sizes in everything()]
        if not first:
            self._rows.resume(listed, self._now)
            return
        for found in listed:
            self._rows.know(found, self._began)

    def _look_again(self, cut: int) -> None:
        """List everything again; where the kernel does not answer, once more in a while."""
        try:
            self._list(first=False, cut=cut)
        except OSError as error:
            self._relist_at = cut + _RETRY_S
            problem = f"cannot list connections again: {error.strerror}"
            if problem not in self._problems:
                self._problems.append(problem)

    def update(self, cut: int) -> None:
        """Take in what has happened, without waiting."""
        if self._socket is None:
            return
        lost = False
        while True:
            try:
                for slots, sizes in self._socket.events():
                    self._heard += len(slots)
                    found, unread = self._messages.parse(slots, sizes)
                    self._malformed += unread
                    self._table.take(found, cut) if self._table is not None else self._rows.take(found, self._now)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # What was kept comes before the gap, so it is read before everything is looked at anew.
                lost = True
                continue
            break
        if lost:
            self._look_again(cut)
            self._dropped = self._socket.dropped()

    def collect(self, cut: int, now: int) -> None:
        """Take in what has happened."""
        self._now = now
        self.update(cut)

    def close(self, cut: int, final: bool = False) -> Second:
        """End a second; messages for which there was no room count as lost packets, connections as lost rows."""
        self._relist_at = self._relist_at or cut + self._settings.conntrack.relist_seconds
        if self._socket is not None and cut >= self._relist_at:
            self._relist_at = cut + self._settings.conntrack.relist_seconds
            self.update(cut)
            self._look_again(cut)
        table = self._table
        if table is not None:
            table.close(cut)
        refused = table.refused if table is not None else self._rows.lost
        second = Second(
            self._rows.close(), lost_packets=self._dropped - self._dropped_before,
            lost_rows=refused - self._refused_before, malformed=self._malformed - self._malformed_before,
        )  # fmt: skip
        self._dropped_before, self._refused_before = self._dropped, refused
        self._malformed_before = self._malformed
        return second

    def state(self) -> SourceState:
        """Return how it stands; its packets are messages of the kernel."""
        return SourceState(self._heard, self._dropped, (), list(self._problems))

    def shut(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _counts() -> bool:
    """Tell whether the kernel counts packets and bytes of connections."""
    try:
        return _COUNTING.read_text().strip() == "1"
    except OSError:
        return False
