"""Sockets inside pods as /proc tells them, without entering their namespaces.

``/proc/PID/net`` shows the network namespace of a process; its files have one inode number per namespace, by which
processes of one namespace are known. Only the owner of a socket needs a privilege (CAP_SYS_PTRACE).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

_LISTENING = "0A"
_MOST_BYTES = 1 << 18  # of one file; a pod with more listeners than fit is cut off there
_MOST_PROCESSES, _MOST_DESCRIPTORS = 64, 512  # looked through for an owner
_MOST_NAME = 64


@dataclass(frozen=True)
class Space:
    """A network namespace: what tells it apart from others, and its processes."""

    inode: int
    pids: Sequence[int]


@dataclass(frozen=True)
class SocketEntry:
    """One socket: the kernel's number, and the interface's number or the port that it listens on."""

    inode: int
    number: int


class PodSockets:
    """Reads /proc.

    Args:
        proc: where it is mounted.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def spaces(self) -> list[Space]:
        """Return the network namespaces that processes are in, by inode."""
        found: dict[int, list[int]] = {}
        with os.scandir(self._proc) as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
        for name in names:
            try:
                inode = os.stat(f"{self._proc}/{name}/net/packet").st_ino
            except OSError:
                continue  # It has ended.
            found.setdefault(inode, []).append(int(name))
        return [Space(inode, sorted(pids)) for inode, pids in sorted(found.items())]

    def own(self) -> int:
        """Return the inode of the namespace that this process is in; 0 where it is not told."""
        try:
            return os.stat(f"{self._proc}/self/net/packet").st_ino
        except OSError:
            return 0

    def _lines(self, space: Space, name: str) -> Iterator[list[str]]:
        """Give the words of a file's lines, from the first process of the namespace that still is there."""
        for pid in space.pids:
            try:
                with (self._proc / str(pid) / "net" / name).open(encoding="ascii", errors="replace") as file:
                    yield from (line.split() for line in file.read(_MOST_BYTES).splitlines())
            except OSError:
                continue
            return

    def addresses(self, space: Space) -> set[str]:
        """Return the addresses of a namespace, loopback and link-local ones left out."""
        found, last = set(), ""
        for words in self._lines(space, "fib_trie"):
            if words[:1] == ["|--"] and len(words) > 1:
                last = words[1]
            elif words[:3] == ["/32", "host", "LOCAL"]:
                found.add(last)
        for words in self._lines(space, "if_inet6"):
            if words and len(words[0]) == 32:
                found.add(str(IPv6Address(int(words[0], 16))))
        return {text for text in found if is_global(text)}

    def packet_sockets(self, space: Space) -> list[SocketEntry]:
        """Return the packet sockets of a namespace with the numbers of their interfaces, 0 for all."""
        return [
            SocketEntry(int(words[8]), int(words[4]))
            for words in self._lines(space, "packet") if len(words) >= 9 and words[8].isdigit() and words[4].isdigit()
        ]  # fmt: skip

    def listeners(self, space: Space) -> list[SocketEntry]:
        """Return the listening TCP sockets of a namespace with their ports."""
        found = []
        for name in ("tcp", "tcp6"):
            for words in self._lines(space, name):
                if len(words) < 10 or not words[0].endswith(":"):
                    continue
                if words[3] != _LISTENING:
                    break  # Listening ones come first.
                found.append(SocketEntry(int(words[9]), int(words[1].rsplit(":", 1)[1], 16)))
        return found

    def interface(self, space: Space, number: int) -> str:
        """Return the name of an interface of a namespace; empty for none or where it is not told."""
        for words in self._lines(space, "dev_mcast") if number else ():
            if len(words) > 1 and words[0] == str(number):
                return words[1]
        return ""

    def owner(self, space: Space, inode: int) -> str:
        """Return the name of a program that has a socket; empty where it is not found, or must not be looked at."""
        wanted = f"socket:[{inode}]"
        for pid in space.pids[-_MOST_PROCESSES:]:
            folder = f"{self._proc}/{pid}/fd"
            try:
                for name in os.listdir(folder)[:_MOST_DESCRIPTORS]:
                    if os.readlink(f"{folder}/{name}") == wanted:
                        return self._name(pid)
            except OSError:
                continue
        return ""

    def _name(self, pid: int) -> str:
        raw = Path(f"{self._proc}/{pid}/comm").read_bytes()[:_MOST_NAME]
        return "".join(c if c.isprintable() else "?" for c in raw.decode("utf-8", "replace").rstrip("\n"))


def is_global(text: str) -> bool:
    """Tell whether an address is of use beyond its interface."""
    address = ip_address(text)
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)
