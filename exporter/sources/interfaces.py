"""The node's interfaces and addresses, kept up to date by the kernel's own messages (rtnetlink)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from exporter.live_source import SourceError
from exporter.settings import PacketSettings

_ETHERNET = 1  # ARPHRD_ETHER
_POD_KINDS = ("veth", "netkit")
# RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of <linux/rtnetlink.h>.
_GROUPS = 0x1 | 0x10 | 0x100
_SOCKET_BYTES, _MESSAGE_BYTES = 1 << 20, 1 << 16
# Events read at one look; more wait for the next.
_MOST = 4096


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


class Interfaces:
    """Which interfaces are watched, and the node's own addresses.

    Attributes:
        links: watched interfaces by number.
        newest: greatest number of any interface seen.
        addresses: the node's own, as text.
    """

    def __init__(self, settings: PacketSettings) -> None:
        from pyroute2.netlink.rtnl.marshal import MarshalRtnl

        self._settings = settings
        self.links: dict[int, Link] = {}
        self.newest = 0
        self._owned: dict[int, set[str]] = {}
        self._parser = MarshalRtnl()
        # Before the first listing, so that nothing falls between the two.
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
            self._events.bind((0, _GROUPS))
        except OSError as error:
            self._events.close()
            problem = f"packets: cannot listen to the kernel's interface messages: {error.strerror}"
            raise SourceError(problem) from None
        self._list()

    @property
    def addresses(self) -> set[str]:
        """The node's own addresses."""
        return set().union(*self._owned.values())

    def _list(self) -> None:
        from pyroute2 import IPRoute

        before = set(self.links)
        self._owned.clear()
        with IPRoute() as route:
            for message in route.get_links():
                self._take(message)
                before.discard(message["index"])
            for message in route.get_addr():
                self._take(message)
        for number in before:
            self.links.pop(number, None)

    def update(self) -> bool:
        """Take in what has changed; tells whether anything has."""
        changed = False
        try:
            for message in self._waiting():
                changed |= self._take(message)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # More changed than the socket held: look at everything again.
            self._list()
            return True
        return changed

    def _waiting(self) -> Iterator[Any]:
        for _ in range(_MOST):
            try:
                data = self._events.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from self._parser.parse(data)

    def _take(self, message: Any) -> bool:
        event = message.get("event", "")
        if event in ("RTM_NEWLINK", "RTM_DELLINK"):
            return self._take_link(message, gone=event == "RTM_DELLINK")
        if event in ("RTM_NEWADDR", "RTM_DELADDR"):
            return self._take_address(message, gone=event == "RTM_DELADDR")
        return False

    def _take_link(self, message: Any, gone: bool) -> bool:
        number = int(message["index"])
        if gone:
            # A bridge that lets go of a port says so in a message of its own family.
            if message["family"] != 0:
                return False
            self._owned.pop(number, None)
            return self.links.pop(number, None) is not None
        newer = number > self.newest
        self.newest = max(self.newest, number)
        link = self._chosen(number, message)
        if link is None or message["family"] != 0:
            return newer
        changed = self.links.get(number) != link
        self.links[number] = link
        return changed or newer

    def _chosen(self, number: int, message: Any) -> Link | None:
        name = str(message.get("ifname") or "")
        if message["ifi_type"] != _ETHERNET:
            return None
        if any(fnmatchcase(name, pattern) for pattern in self._settings.uplinks):
            return Link(number, name, True)
        information = message.get("linkinfo")
        kind = information.get("kind") if information is not None else None
        away = message.get("link_netnsid") is not None
        if kind in _POD_KINDS and away and any(fnmatchcase(name, pattern) for pattern in self._settings.pods):
            return Link(number, name, False)
        return None

    def _take_address(self, message: Any, gone: bool) -> bool:
        number, address = int(message["index"]), message.get("local") or message.get("address")
        if address is None:
            return False
        owned = self._owned.setdefault(number, set())
        known = address in owned
        owned.discard(address) if gone else owned.add(address)
        return known == gone

    def shut(self) -> None:
        """Stop listening."""
        self._events.close()
