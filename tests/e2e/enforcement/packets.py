"""Packets of an attack, as they pass the attacker's own interface: what he sent, and what still answered him."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from pathlib import Path

from tests.lab.lab import Lab, wait_for

# Ethernet and IP headers up to both addresses; no more is read.
_KEPT = 64
_KIND, _IPV6 = slice(12, 14), b"\x86\xdd"
_FILE_HEADER, _RECORD = 24, struct.Struct("<IIII")
_SOURCE, _SOURCE6 = slice(26, 30), slice(22, 38)


@dataclass(frozen=True)
class Seen:
    """Times in s since the epoch: packets to the victims, and transport packets that came back from them."""

    sent: tuple[float, ...]
    answered: tuple[float, ...]


class Capture:
    """A tcpdump on a pod's interface, of transport packets between it and some addresses. ICMP is no answer."""

    def __init__(self, lab: Lab, folder: Path, where: str, victims: tuple[str, ...]) -> None:
        self._file = folder / f"attack-{where}.pcap"
        self._victims = {ipaddress.ip_address(text).packed for text in victims}
        hosts = " or ".join(f"host {text}" for text in victims)
        command = ["tcpdump", "-n", "-U", "--immediate-mode", "-i", "eth0", "-s", str(_KEPT), "-B", "16384",
                   "-w", str(self._file), f"({hosts}) and (tcp or udp)"]  # fmt: skip
        self._process = lab.start(where, command)
        wait_for(lambda: self._file.exists() and self._file.stat().st_size >= _FILE_HEADER, "tcpdump", 20.0)

    def stop(self) -> None:
        """End the capture; `seen` is complete then."""
        self._process.terminate()
        self._process.wait(20)

    def seen(self) -> Seen:
        """What has passed so far."""
        data = self._file.read_bytes()
        sent: list[float] = []
        answered: list[float] = []
        at = _FILE_HEADER
        while at + _RECORD.size <= len(data):
            seconds, micros, kept, _ = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            frame = data[at : at + kept]
            at += kept
            if len(frame) < kept:
                break  # being written just now
            source = frame[_SOURCE6 if frame[_KIND] == _IPV6 else _SOURCE]
            (answered if source in self._victims else sent).append(seconds + micros / 1e6)
        return Seen(tuple(sent), tuple(answered))
