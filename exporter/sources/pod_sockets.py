"""Sockets inside pods as /proc tells them, without entering their namespaces.

``/proc/PID/net`` shows the network namespace of a process; its files have one inode number per namespace, by which
processes of one namespace are known. Only the owner of a socket needs a privilege (CAP_SYS_PTRACE).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

_LISTENING = "0A"
_MOST_BYTES = 1 << 18  # of one file
_MOST_PROCESSES, _MOST_DESCRIPTORS = 64, 512  # looked through for owners
MOST_SOCKETS = 256  # of one kind and namespace; a pod could open thousands to keep the exporter busy
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
                    left = _MOST_BYTES
                    # Line by line: the kernel makes them as they are read, and there may be very many.
                    for line in file:
                        left -= len(line)
                        if left < 0:
                            break
                        yield line.split()
            except OSError:
                continue
            return

    def packet_sockets(self, space: Space) -> list[SocketEntry]:
        """Return the first packet sockets of a namespace with the numbers of their interfaces, 0 for all."""
        found = (
            SocketEntry(int(words[8]), int(words[4]))
            for words in self._lines(space, "packet") if len(words) >= 9 and words[8].isdigit() and words[4].isdigit()
        )  # fmt: skip
        return list(islice(found, MOST_SOCKETS + 1))

    def listeners(self, space: Space) -> list[SocketEntry]:
        """Return the first listening TCP sockets of a namespace with their ports."""
        return list(islice(self._listening(space), MOST_SOCKETS + 1))

    def _listening(self, space: Space) -> Iterator[SocketEntry]:
        for name in ("tcp", "tcp6"):
            for words in self._lines(space, name):
                if len(words) < 10 or not words[0].endswith(":"):
                    continue
                if words[3] != _LISTENING:
                    break  # Listening ones come first.
                yield SocketEntry(int(words[9]), int(words[1].rsplit(":", 1)[1], 16))

    def interface(self, space: Space, number: int) -> str:
        """Return the name of an interface of a namespace; empty for none or where it is not told."""
        for words in self._lines(space, "dev_mcast") if number else ():
            if len(words) > 1 and words[0] == str(number):
                return words[1]
        return ""

    def owners(self, space: Space, inodes: Collection[int]) -> dict[int, str]:
        """Return the names of the programs that have sockets; those are left out that are not found."""
        wanted = {f"socket:[{inode}]": inode for inode in inodes}
        found: dict[int, str] = {}
        for pid in space.pids[-_MOST_PROCESSES:] if wanted else ():
            folder = f"{self._proc}/{pid}/fd"
            try:
                for name in os.listdir(folder)[:_MOST_DESCRIPTORS]:
                    inode = wanted.get(os.readlink(f"{folder}/{name}"))
                    if inode is not None:
                        found.setdefault(inode, self._name(pid))
            except OSError:
                continue  # It has ended, or must not be looked at.
            if len(found) == len(wanted):
                break
        return found

    def _name(self, pid: int) -> str:
        raw = Path(f"{self._proc}/{pid}/comm").read_bytes()[:_MOST_NAME]
        return "".join(c if c.isprintable() else "?" for c in raw.decode("utf-8", "replace").rstrip("\n"))
