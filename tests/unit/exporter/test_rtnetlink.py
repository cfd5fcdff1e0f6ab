"""Reading the kernel's messages about interfaces and addresses, and what is watched by them."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.settings import PacketSettings
from exporter.sources import interfaces
from exporter.sources.interfaces import Interfaces, Link
from exporter.sources.rtnetlink import (
    DEL_ADDRESS,
    DEL_LINK,
    NEW_ADDRESS,
    NEW_LINK,
    AddressMessage,
    LinkMessage,
    Message,
    parse,
    space_of,
)  # fmt: skip


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def netlink(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(kind: int, number: int, name: bytes, made: bytes = b"veth", family: int = 0, *more: bytes) -> bytes:
    head = struct.pack("=BxHiII", family, 1, number, 0, 0)
    # Nested attributes carry a flag above their number.
    nested = attribute(18 | 0x8000, attribute(1, made))
    return netlink(kind, head + attribute(3, name + b"\0") + nested + b"".join(more))


def address(kind: int, number: int, *attributes: bytes) -> bytes:
    return netlink(kind, struct.pack("=BBBBI", 2, 24, 0, 0, number) + b"".join(attributes))


def test_links_and_addresses_are_read() -> None:
    data = (
        link(NEW_LINK, 7, b"veth7", b"veth", 0, attribute(37, struct.pack("=i", 2)))
        + link(DEL_LINK, 8, b"br0", b"bridge", 7)
        + address(NEW_ADDRESS, 2, attribute(1, bytes([10, 0, 0, 2])), attribute(2, bytes([10, 0, 0, 1])))
        + address(DEL_ADDRESS, 3, attribute(1, bytes(15) + b"\1"))
        + netlink(24, b"a route, which is not looked at")
    )
    assert list(parse(data)) == [
        LinkMessage(False, 0, 7, 1, "veth7", "veth", True, space=2),
        LinkMessage(True, 7, 8, 1, "br0", "bridge", False),
        AddressMessage(False, 2, "10.0.0.1"),
        AddressMessage(True, 3, "::1"),
    ]


@given(st.binary(max_size=200))
def test_anything_is_read_without_harm(data: bytes) -> None:
    list(parse(data))
    list(parse(netlink(NEW_LINK, data)))
    list(parse(netlink(NEW_ADDRESS, data)))


class Told:
    """The kernel, saying what a test wants."""

    now: tuple[Message, ...] = ()
    later: tuple[Message, ...] = ()

    def changes(self) -> tuple[Message, ...]:
        return Told.later

    def close(self) -> None:
        pass


def pod(number: int, name: str, **other: object) -> LinkMessage:
    return LinkMessage(**{"gone": False, "family": 0, "number": number, "hardware": 1, "name": name, "kind": "veth",
                          "elsewhere": True} | other)  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "RouteSocket", Told)
    monkeypatch.setattr(interfaces, "everything", lambda: iter(Told.now))
    Told.later = ()


def test_pods_are_found_by_where_their_other_end_is() -> None:
    Told.now = (
        pod(2, "veth2"), pod(3, "veth3", elsewhere=False), pod(4, "br0", kind="bridge"), pod(5, "lxc5", kind="netkit"),
        pod(6, "eth0", kind="", elsewhere=False), pod(1, "lo", hardware=772, kind=""), pod(9, "tun0", hardware=65534),
    )  # fmt: skip
    found = Interfaces(PacketSettings(uplinks=("eth*",)))
    assert found.links == {2: Link(2, "veth2", False), 5: Link(5, "lxc5", False), 6: Link(6, "eth0", True)}
    assert found.newest == 9
    assert set(Interfaces(PacketSettings(pods=("lxc*",))).links) == {5}


def test_changes_are_followed() -> None:
    Told.now = (pod(2, "veth2"), AddressMessage(False, 2, "10.0.0.1"))
    found = Interfaces(PacketSettings())
    assert not found.update()
    Told.later = (pod(3, "veth3"), AddressMessage(False, 3, "10.0.0.3"))
    assert found.update()
    assert set(found.links) == {2, 3}
    assert found.addresses == {"10.0.0.1", "10.0.0.3"}
    Told.later = (pod(3, "veth3"), AddressMessage(False, 3, "10.0.0.3"))
    assert not found.update(), "said again"
    Told.later = (pod(2, "veth2", family=7, gone=True),)
    assert not found.update(), "a bridge lets go of its port, which stays"
    Told.later = (pod(2, "veth2", gone=True),)
    assert found.update()
    assert set(found.links) == {3}
    assert found.addresses == {"10.0.0.3"}


def test_after_an_overflow_everything_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Told.now = (pod(2, "veth2"), pod(3, "veth3"))
    found = Interfaces(PacketSettings())
    Told.now = (pod(3, "veth3"), pod(4, "veth4"))

    def overflow(_self: Told) -> tuple[Message, ...]:
        raise OSError(105, "No buffer space available")

    monkeypatch.setattr(Told, "changes", overflow)
    assert found.update()
    assert set(found.links) == {3, 4}


def test_the_namespace_of_this_process_is_known_by_its_number_or_has_none() -> None:
    assert space_of(os.getpid()) >= -1
    with pytest.raises(ProcessLookupError):
        space_of(2**22 + 1)
