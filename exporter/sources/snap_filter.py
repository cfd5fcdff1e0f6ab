"""Which packets the kernel hands over and how much of each: a classic BPF program for a packet socket.

Packets of other interfaces than the watched ones never reach the ring. Of data, the headers are enough; DNS, DHCP, ARP,
and what begins a TLS record of a handshake or an HTTP head is kept longer. Loads outside a packet would make the
program refuse it, so lengths are asked for first.

Instructions and their encoding: https://docs.kernel.org/networking/filter.html.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

from exporter.http_wire import METHODS
from exporter.link_layer import ETHER_IPV4, ETHER_IPV6
from exporter.packets import TCP, UDP

_LD_W_ABS, _LD_H_ABS, _LD_B_ABS, _LD_LEN = 0x20, 0x28, 0x30, 0x80
_LD_W_IND, _LD_H_IND, _LD_B_IND = 0x40, 0x48, 0x50
_LDX_IMM, _LDX_MSH = 0x01, 0xB1
_JA, _JEQ, _JGE, _JSET, _JGE_X = 0x05, 0x15, 0x35, 0x45, 0x3D
_AND, _RSH, _ADD_X, _SUB, _TAX, _RET = 0x54, 0x74, 0x0C, 0x14, 0x07, 0x06
_INTERFACE = 0xFFFFF008  # SKF_AD_OFF + SKF_AD_IFINDEX

_ETHERNET = 14
_LONG_PORTS = (53, 67, 68, 546, 547)
_TLS_HANDSHAKE = 0x1603
# Two instructions each, and the kernel takes 4,096 of them.
MAX_INTERFACES = 1900

_Line = tuple[int, int, str, str]  # code, k, label when true (or to go to), label when false


def program(interfaces: Collection[int], newest: int, header_bytes: int, head_bytes: int) -> bytes:
    """Return the program as the kernel takes it, 8 bytes an instruction.

    Args:
        interfaces: numbers of the watched interfaces.
        newest: greatest number of an interface that is known. The kernel counts upwards, so greater ones have just
            appeared; their packets are handed over too, lest the first ones are missed.
        header_bytes: kept of packets of which only headers matter.
        head_bytes: kept of the others.
    """
    lines: list[_Line | str] = [(_LD_W_ABS, _INTERFACE, "", "")]
    for number in sorted(interfaces)[:MAX_INTERFACES]:
        skip = f"not {number}"
        lines += [(_JEQ, number, "", skip), (_JA, 0, "watched", ""), skip]
    lines += [(_JGE, newest + 1, "", "unwatched"), (_JA, 0, "watched", "")]
    lines += ["unwatched", (_RET, 0, "", ""), "watched", *_network(), *_transport()]
    lines += ["long", (_RET, head_bytes, "", ""), "short", (_RET, header_bytes, "", "")]
    return _assemble(lines)


def _network() -> list[_Line | str]:
    """Find the transport header: X is the length of the network header, A the protocol."""
    return [
        # Shorter than the smallest TCP packet: whole.
        (_LD_LEN, 0, "", ""), (_JGE, 54, "", "long"),
        (_LD_H_ABS, 12, "", ""), (_JEQ, ETHER_IPV4, "four", ""), (_JEQ, ETHER_IPV6, "six", "long"),
        "four", (_LD_H_ABS, 20, "", ""), (_JSET, 0x1FFF, "short", ""),
        (_LDX_MSH, _ETHERNET, "", ""), (_LD_B_ABS, 23, "", ""), (_JA, 0, "proto", ""),
        "six", (_LDX_IMM, 40, "", ""), (_LD_B_ABS, 20, "", ""),
        "proto", (_JEQ, TCP, "tcp", ""), (_JEQ, UDP, "udp", "short"),
    ]  # fmt: skip


def _transport() -> list[_Line | str]:
    """Tell by ports and first payload bytes whether more is wanted than headers."""
    lines: list[_Line | str] = ["udp", *_reaches(_ETHERNET + 4, "long"), *_ports()]
    lines += [(_JA, 0, "short", ""), "tcp", *_reaches(_ETHERNET + 20, "long"), *_ports()]
    lines += [
        (_LD_B_IND, _ETHERNET + 12, "", ""), (_AND, 0xF0, "", ""), (_RSH, 2, "", ""), (_ADD_X, 0, "", ""),
        (_TAX, 0, "", ""), *_reaches(_ETHERNET + 4, "short"),
        (_LD_H_IND, _ETHERNET, "", ""), (_JEQ, _TLS_HANDSHAKE, "long", ""), (_LD_W_IND, _ETHERNET, "", ""),
    ]  # fmt: skip
    words = sorted({int.from_bytes(word[:4], "big") for word in (*METHODS, b"HTTP")})
    return [*lines, *((_JEQ, word, "long", "") for word in words), (_JA, 0, "short", "")]


def _ports() -> list[_Line | str]:
    lines: list[_Line | str] = []
    for at in (0, 2):
        lines += [(_LD_H_IND, _ETHERNET + at, "", ""), *((_JEQ, port, "long", "") for port in _LONG_PORTS)]
    return lines


def _reaches(offset: int, otherwise: str) -> list[_Line | str]:
    """Go on where the packet is at least X + offset bytes long."""
    return [(_LD_LEN, 0, "", ""), (_SUB, offset, "", ""), (_JGE_X, 0, "", otherwise)]


def _assemble(lines: Sequence[_Line | str]) -> bytes:
    places: dict[str, int] = {}
    code: list[_Line] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(code)
        else:
            code.append(line)
    out = []
    for at, (opcode, value, true, false) in enumerate(code):
        jumps = [places[label] - at - 1 if label else 0 for label in (true, false)]
        if opcode == _JA:
            out.append(struct.pack("=HBBI", opcode, 0, 0, jumps[0]))
        else:
            out.append(struct.pack("=HBBI", opcode, *jumps, value))
    return b"".join(out)
