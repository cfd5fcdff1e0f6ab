"""The kernel's messages about interfaces and addresses (rtnetlink(7)): asking for all, hearing of changes.

Only what the exporter looks at is read. A general library for this takes as much memory as all flows of a busy node.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

# <linux/rtnetlink.h>, <linux/netlink.h>, <linux/if_link.h>, <linux/if_addr.h>
NEW_LINK, DEL_LINK, _GET_LINK, NEW_ADDRESS, DEL_ADDRESS, _GET_ADDRESS = 16, 17, 18, 20, 21, 22
_GET_SPACE, _GENERIC, _SPACE_NUMBER, _SPACE_PID = 90, 4, 1, 2  # RTM_GETNSID, struct rtgenmsg, NETNSA_*
_ERROR, _DONE = 2, 3
_DUMP = 0x1 | 0x300  # NLM_F_REQUEST, NLM_F_DUMP
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_NAME, _LINK_INFO, _NETNS_ID, _KIND = 3, 18, 37, 1
_MAC, _MASTER, _PROMISCUITY, _LINK_SPACE = 1, 10, 30, 46
_ADDRESS, _LOCAL, _ADDRESS_SPACE = 1, 2, 10
_SOL_NETLINK, _STRICT = 270, 12  # NETLINK_GET_STRICT_CHK: without it the namespace of addresses is not looked at
_TYPE_BITS = 0x3FFF  # without the flags of nested and byte-ordered attributes

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")
_SOCKET_BYTES, _MESSAGE_BYTES = 1 << 20, 1 << 18


@dataclass(frozen=True)
class LinkMessage:
    """An interface as it is now, or, ``gone``, as it was.

    Attributes:
        family: 0; another one tells of the interface as somebody's port.
        hardware: ARPHRD_ number.
        kind: what makes it: veth, bridge, ...; empty for devices.
        elsewhere: its other end is in another network namespace.
        space: the kernel's number of that namespace; -1: none, or unknown.
        master: number of the bridge or bond that it belongs to; 0: none.
        mac: its hardware address; 0 where it has none of 48 bits.
        listeners: how many want it promiscuous.
    """

    gone: bool
    family: int
    number: int
    hardware: int
    name: str
    kind: str
    elsewhere: bool
    space: int = -1
    master: int = 0
    mac: int = 0
    listeners: int = 0


@dataclass(frozen=True)
class AddressMessage:
    """An address of an interface, as text, that it has, or, ``gone``, had."""

    gone: bool
    number: int
    address: str


Message = LinkMessage | AddressMessage


class RouteSocket:
    """Hears of changes from when it is made.

    Raises:
        OSError: the kernel refuses.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._socket.close()
            raise

    def changes(self) -> Iterator[Message]:
        """Give what has changed, without waiting.

        Raises:
            OSError: ENOBUFS: more changed than the socket held.
        """
        while True:
            try:
                data = self._socket.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from parse(data)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def space_of(pid: int) -> int:
    """Return the kernel's number, here, of the network namespace that a process is in; -1: it has none.

    Raises:
        OSError: there is no such process.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        body = bytes(_GENERIC) + _ATTRIBUTE.pack(8, _SPACE_PID) + struct.pack("=I", pid)
        asking.send(_HEADER.pack(_HEADER.size + len(body), _GET_SPACE, 0x1, 1, 0) + body)
        data = asking.recv(_MESSAGE_BYTES)
    for kind, answer in _messages(data):
        if kind == _ERROR:
            number = -struct.unpack_from("=i", answer)[0]
            raise OSError(number, os.strerror(number))
        return _signed(_attributes(answer[_GENERIC:]).get(_SPACE_NUMBER))
    return -1


def everything(space: int = -1) -> Iterator[Message]:
    """Give every interface, then every address.

    Args:
        space: of the namespace that ``LinkMessage.space`` numbers so, which needs CAP_NET_ADMIN; -1: of this one.

    Raises:
        OSError: the kernel refuses.
    """
    asked = [(_GET_LINK, _LINK.pack(0, 0, 0, 0, 0), _LINK_SPACE), (_GET_ADDRESS, _ADDR.pack(0, 0, 0, 0, 0),
             _ADDRESS_SPACE)]  # fmt: skip
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.setsockopt(_SOL_NETLINK, _STRICT, 1)
        for kind, body, attribute in asked:
            if space >= 0:
                body += _ATTRIBUTE.pack(8, attribute) + struct.pack("=i", space)
            asking.send(_HEADER.pack(_HEADER.size + len(body), kind, _DUMP, 1, 0) + body)
            while True:
                data = asking.recv(_MESSAGE_BYTES)
                yield from parse(data)
                if _ends(data):
                    break


def _ends(data: bytes) -> bool:
    for kind, body in _messages(data):
        if kind == _ERROR:
            number = -struct.unpack_from("=i", body)[0]
            raise OSError(number, os.strerror(number))
        if kind == _DONE:
            return True
    return False


def parse(data: bytes) -> Iterator[Message]:
    """Give the messages about interfaces and addresses in what one ``recv`` returned."""
    for kind, body in _messages(data):
        if kind in (NEW_LINK, DEL_LINK) and len(body) >= _LINK.size:
            family, hardware, number, _, _ = _LINK.unpack_from(body)
            found = _attributes(body[_LINK.size :])
            made = _attributes(found.get(_LINK_INFO, b"")).get(_KIND, b"")
            mac = found.get(_MAC, b"")
            yield LinkMessage(
                kind == DEL_LINK, family, number, hardware, _text(found.get(_NAME, b"")), _text(made),
                _NETNS_ID in found, _signed(found.get(_NETNS_ID)), max(0, _signed(found.get(_MASTER))),
                int.from_bytes(mac) if len(mac) == 6 else 0, max(0, _signed(found.get(_PROMISCUITY))),
            )  # fmt: skip
        elif kind in (NEW_ADDRESS, DEL_ADDRESS) and len(body) >= _ADDR.size:
            number = _ADDR.unpack_from(body)[4]
            found = _attributes(body[_ADDR.size :])
            # Of a point-to-point interface, the address is the other end's and the local one its own.
            raw = found.get(_LOCAL) or found.get(_ADDRESS, b"")
            if len(raw) in (4, 16):
                yield AddressMessage(kind == DEL_ADDRESS, number, str(ip_address(raw)))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + size]
        at += size + -size % 4


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_BITS] = data[at + _ATTRIBUTE.size : at + size]
        at += size + -size % 4
    return found


def _signed(raw: bytes | None) -> int:
    return int(struct.unpack("=i", raw)[0]) if raw is not None and len(raw) == 4 else -1


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")
