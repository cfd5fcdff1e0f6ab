"""Privileges of the process (capabilities(7)): which there are, and giving away those that are not needed."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Collection
from enum import IntEnum
from pathlib import Path

_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_STATUS = Path("/proc/self/status")


class Privilege(IntEnum):
    """Numbers of <linux/capability.h>, and what they are for here."""

    CAP_NET_ADMIN = 12
    CAP_NET_RAW = 13
    CAP_SYS_PTRACE = 19


PURPOSE = {
    Privilege.CAP_NET_RAW: "packet sockets: the source of packets",
    Privilege.CAP_NET_ADMIN: "the sources conntrack and host; packets do without",
    Privilege.CAP_SYS_PTRACE: "names of programs with packet sockets: the source host",
}


def effective(status: Path = _STATUS) -> int:
    """Return the effective capabilities as bits; none where the system does not tell."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("CapEff:")]
    return int(found[0], 16) if found else 0


def missing(needed: Collection[Privilege], have: int | None = None) -> list[Privilege]:
    """Return which of the needed privileges the process lacks, by number."""
    bits = effective() if have is None else have
    return [privilege for privilege in sorted(needed) if not bits >> privilege & 1]


def remedy(lacking: Collection[Privilege]) -> str:
    """Return how to get privileges, in words."""
    names = ", ".join(privilege.name.removeprefix("CAP_") for privilege in sorted(lacking))
    return f"run as root, or give the container capabilities.add: [{names}] (systemd: AmbientCapabilities)"


def keep_only(kept: Collection[Privilege]) -> None:
    """Give away every privilege but some, for this thread and what it starts; never to be had again.

    Raises:
        OSError: the kernel refuses.
    """
    bits = effective() & sum(1 << privilege for privilege in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "cannot give privileges away")
