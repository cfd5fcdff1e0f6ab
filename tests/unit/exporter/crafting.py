"""Captures written byte by byte: frames, pcap, pcapng; independent of the code that reads them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter.chunks import CaptureReport
from exporter.settings import ExporterSettings
from exporter.sources.capture import read_messages
from schemas.event_codec import EventMessage, batch_to_rows
from schemas.events import FlowMark

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
BASE = 1_700_000_000
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
Timed = tuple[float, bytes]

MARK_LETTERS = {
    FlowMark.OPENED: "o", FlowMark.ESTABLISHED: "e", FlowMark.REFUSED: "r", FlowMark.UNANSWERED: "u",
    FlowMark.EXCHANGED: "x", FlowMark.CLOSED: "c",
}  # fmt: skip


def ether(payload: bytes, kind: int = 0x0800, src: bytes = MAC_A, dst: bytes = MAC_B) -> bytes:
    return dst + src + struct.pack(">H", kind) + payload


def ipv4(src: str, dst: str, proto: int, body: bytes, *, fragment: int = 0, length: int | None = None) -> bytes:
    total = 20 + len(body) if length is None else length
    head = struct.pack(">BBHHHBBH", 0x45, 0, total, 7, fragment, 64, proto, 0)
    return head + ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed + body


def ipv6(src: str, dst: str, proto: int, body: bytes, extensions: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """``extensions``: (kind, header bytes without its own next-header byte), outermost first."""
    kinds = [kind for kind, _ in extensions] + [proto]
    chain = b"".join(bytes([kinds[i + 1]]) + rest for i, (_, rest) in enumerate(extensions))
    head = struct.pack(">IHBB", 6 << 28, len(chain) + len(body), kinds[0], 64)
    return head + ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed + chain + body


def tcp(source: int, target: int, flags: int, payload: bytes = b"", sequence: int = 1) -> bytes:
    return struct.pack(">HHIIBBHHH", source, target, sequence, 0, 0x50, flags, 1000, 0, 0) + payload


def udp(source: int, target: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", source, target, 8 + len(payload), 0) + payload


def icmp(kind: int, code: int = 0, number: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">BBHHH", kind, code, 0, number, 1) + payload


def tcp4(src: str, source: int, dst: str, target: int, flags: int, payload: bytes = b"", sequence: int = 1) -> bytes:
    return ether(ipv4(src, dst, 6, tcp(source, target, flags, payload, sequence)))


def udp4(src: str, source: int, dst: str, target: int, payload: bytes = b"x") -> bytes:
    return ether(ipv4(src, dst, 17, udp(source, target, payload)))


def arp(operation: int, mac: bytes, sender: str, target: str) -> bytes:
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation) + mac + ipaddress.IPv4Address(sender).packed
    return ether(body + b"\0" * 6 + ipaddress.IPv4Address(target).packed, 0x0806, mac)


def pcap(
    packets: Sequence[Timed], *, order: str = "<", nano: bool = False, link: int = 1, snap: int = 1 << 18
) -> bytes:
    out = [struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snap, link)]
    for when, frame in packets:
        unit = 1_000_000_000 if nano else 1_000_000
        ticks = round(when * unit)
        kept = frame[:snap]
        out.append(struct.pack(order + "IIII", BASE + ticks // unit, ticks % unit, len(kept), len(frame)) + kept)
    return b"".join(out)


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += b"\0" * (-len(body) % 4)
    size = 12 + len(body)
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def section(order: str = "<") -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str = "<", link: int = 1, name: str = "", resolution: int | None = None, snap: int = 0) -> bytes:
    options = b""
    if name:
        options += option(order, 2, name.encode())
    if resolution is not None:
        options += option(order, 9, bytes([resolution]))
    if options:
        options += option(order, 0, b"")
    return block(order, 1, struct.pack(order + "HHI", link, 0, snap) + options)


def enhanced(frame: bytes, ticks: int, number: int = 0, order: str = "<") -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(order, 6, head + frame)


def simple(frame: bytes, order: str = "<") -> bytes:
    return block(order, 3, struct.pack(order + "I", len(frame)) + frame)


def messages(
    folder: Path, content: bytes, settings: ExporterSettings | None = None, report: CaptureReport | None = None
) -> list[EventMessage]:
    path = folder / "made.cap"
    path.write_bytes(content)
    return list(read_messages(path, "node", "lab", settings, report))


def rows(found: Sequence[EventMessage], kind: str = "flow") -> list[dict[str, Any]]:
    """All rows of a kind, each with its message's cut in s after ``BASE``, and marks as letters."""
    out = []
    for message in found:
        if kind in message.batches:
            for row in batch_to_rows(kind, message.batches[kind]):
                row["cut"] = message.header.cut - BASE
                if "marks" in row:
                    row["letters"] = "".join(v for k, v in MARK_LETTERS.items() if row["marks"] & k)
                out.append(row)
    return out


def life(found: Sequence[EventMessage]) -> list[tuple[int, str]]:
    """(cut, marks) of every flow row, in order."""
    return [(row["cut"], row["letters"]) for row in rows(found)]
