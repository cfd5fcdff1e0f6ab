"""The node's interfaces and addresses, kept up to date by the kernel's own messages."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from fnmatch import fnmatchcase

from exporter.live_source import SourceError
from exporter.settings import PacketSettings
from exporter.sources.rtnetlink import AddressMessage, LinkMessage, RouteSocket, everything

_ETHERNET = 1  # ARPHRD_ETHER
POD_KINDS = ("veth", "netkit")


@dataclass(frozen=True)
class Link:
    """An interface that is watched.

    Attributes:
        number: the kernel's.
        name: the node's.
        uplink: it leads out of the node, not to a pod.
    """

    number: int
    name: str
    uplink: bool


def watched(message: LinkMessage, settings: PacketSettings) -> Link | None:
    """Return an interface as it is watched; None: it is not."""
    name = message.name
    if message.hardware != _ETHERNET:
        return None
    if any(fnmatchcase(name, pattern) for pattern in settings.uplinks):
        return Link(message.number, name, True)
    leads_away = message.kind in POD_KINDS and message.elsewhere
    if leads_away and any(fnmatchcase(name, pattern) for pattern in settings.pods):
        return Link(message.number, name, False)
    return None


class Interfaces:
    """Which interfaces are watched, and the node's own addresses.

    Attributes:
        links: watched interfaces by number.
        newest: greatest number of any interface seen.

    Raises:
        SourceError: the kernel does not tell.
    """

    def __init__(self, settings: PacketSettings) -> None:
        self._settings = settings
        self.links: dict[int, Link] = {}
        self.newest = 0
        self._owned: dict[int, set[str]] = {}
        try:
            # Before the first listing, so that nothing falls between the two.
            self._changes = RouteSocket()
        except OSError as error:
            raise _refused(error) from None
        try:
            self._list()
        except OSError as error:
            self._changes.close()
            raise _refused(error) from None

    @property
    def addresses(self) -> set[str]:
        """The node's own addresses."""
        return set().union(*self._owned.values())

    def _list(self) -> None:
        before = set(self.links)
        self._owned.clear()
        for message in everything():
            self._take(message)
            before.discard(message.number)
        for number in before:
            del self.links[number]

    def update(self) -> bool:
        """Take in what has changed; tells whether anything has."""
        changed = False
        try:
            for message in self._changes.changes():
                changed |= self._take(message)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # More changed than the socket held: look at everything again.
            self._list()
            return True
        return changed

    def _take(self, message: LinkMessage | AddressMessage) -> bool:
        return self._take_link(message) if isinstance(message, LinkMessage) else self._take_address(message)

    def _take_link(self, message: LinkMessage) -> bool:
        number = message.number
        if message.family != 0:
            # A bridge tells of its ports, and lets go of them, in messages of its own family.
            return False
        if message.gone:
            self._owned.pop(number, None)
            return self.links.pop(number, None) is not None
        newer = number > self.newest
        self.newest = max(self.newest, number)
        link = watched(message, self._settings)
        if link is None or self.links.get(number) == link:
            return newer
        self.links[number] = link
        return True

    def _take_address(self, message: AddressMessage) -> bool:
        owned = self._owned.setdefault(message.number, set())
        known = message.address in owned
        owned.discard(message.address) if message.gone else owned.add(message.address)
        return known == message.gone

    def shut(self) -> None:
        """Stop listening."""
        self._changes.close()


def _refused(error: OSError) -> SourceError:
    return SourceError(f"packets: cannot hear of interfaces: {error.strerror}")
