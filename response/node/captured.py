"""A capture that a node made: the file, what is in it, its hash, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ended = Literal["packets", "bytes", "time", "stopped"]


@dataclass(frozen=True, slots=True)
class Captured:
    """One file of packets. `missed` are packets that the kernel had no room for; `sha256` is of the whole file."""

    file: str
    interface: str
    packets: int
    bytes: int
    missed: int
    sha256: str
    ended: Ended

    def text(self, address: str) -> str:
        """The same in one sentence."""
        return (
            f"{self.packets} packets of {address} at {self.interface} in {self.file}, {self.bytes} bytes, "
            f"SHA-256 {self.sha256}, ended by {self.ended}, {self.missed} missed"
        )
