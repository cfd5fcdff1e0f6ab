"""Exporter speed: a generated capture, whole path from file to Arrow messages, beside dpkt and nfstream.

``run()`` returns JSON-ready figures; run as a script it prints them. All read the same file in the same
run, one after the other, so ratios hold where absolute figures drift.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dpkt

from exporter.chunks import CaptureReport
from exporter.sources.capture import read_chunks, read_messages
from schemas.event_codec import encode

_MACS = bytes.fromhex("020000000001020000000002")
_BODY = random.Random(1).randbytes(1460)


def _frame(src: bytes, dst: bytes, proto: int, transport: bytes, payload: int) -> bytes:
    length = 20 + len(transport) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, proto, 0)
    return _MACS + b"\x08\x00" + head + src + dst + transport + _BODY[:payload]


def _tcp(source: int, target: int, flags: int) -> bytes:
    return struct.pack(">HHIIBBHHH", source, target, 1000, 2000, 0x50, flags, 65_000, 0, 0)


def _conversation(dice: random.Random, number: int) -> list[bytes]:
    """One TCP connection with handshake, requests and answers, and its end; or one UDP exchange."""
    client = socket.inet_aton(f"10.{number % 4}.{dice.randrange(64)}.{dice.randrange(1, 250)}")
    server = socket.inet_aton(f"10.9.{dice.randrange(8)}.{dice.randrange(1, 250)}")
    source, target = dice.randrange(32_768, 61_000), dice.choice((443, 443, 80, 5432, 6379, 9092, 8080))
    if dice.random() < 0.2:
        sizes = [dice.randrange(40, 400) for _ in range(dice.choice((2, 2, 2, 8, 30)))]
        ends = ((client, server, source, 4000 + target % 97), (server, client, 4000 + target % 97, source))
        return [
            _frame(a, b, 17, struct.pack(">HHHH", s, t, 8 + size, 0), size)
            for size, (a, b, s, t) in zip(sizes, ends * len(sizes), strict=False)
        ]

    def up(flags: int, size: int = 0) -> bytes:
        return _frame(client, server, 6, _tcp(source, target, flags), size)

    def down(flags: int, size: int = 0) -> bytes:
        return _frame(server, client, 6, _tcp(target, source, flags), size)

    packets = [up(2), down(18), up(16)]
    for _ in range(dice.choice((1, 1, 2, 4, 12))):
        packets += [up(24, dice.randrange(80, 900)), down(16)]
        for _ in range(dice.choice((1, 1, 2, 3, 10, 40))):
            packets += [down(16, 1448), up(16)] if dice.random() < 0.6 else [down(24, dice.randrange(60, 1448))]
    return [*packets, up(17), down(17), up(16)]


def write_capture(path: Path, packets: int, seed: int, per_second: int = 20_000) -> None:
    """Write about ``packets`` packets of about 300 interleaved conversations at a steady rate."""
    dice = random.Random(seed)
    running: list[list[bytes]] = []
    written = begun = 0
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        while written < packets:
            while len(running) < 300:
                running.append(_conversation(dice, begun)[::-1])
                begun += 1
            place = dice.randrange(len(running))
            for _ in range(min(len(running[place]), dice.randrange(1, 6))):
                frame = running[place].pop()
                micros = written * 1_000_000 // per_second
                out.write(struct.pack("<IIII", 1_700_000_000 + micros // 1_000_000, micros % 1_000_000,
                                      len(frame), len(frame)) + frame)  # fmt: skip
                written += 1
            if not running[place]:
                running[place] = running[-1]
                running.pop()


def _cpu() -> float:
    """CPU s of this process and of those it has waited for; wall time says little on a shared machine."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _timed(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least CPU time in s, and the result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        begin = _cpu()
        result = work()
        best = min(best, _cpu() - begin)
    return best, result


def _exporter(path: Path) -> tuple[int, int]:
    report, size, rows = CaptureReport(), 0, 0
    for message in read_messages(path, "node", "bench", report=report):
        size += len(encode(message))
        rows += message.rows("flow")
    return rows, size


def _dpkt_flows(path: Path) -> int:
    """The plain loop: one dictionary entry per 5-tuple, packets and bytes counted."""
    flows: dict[tuple[bytes, bytes, int, int, int], list[int]] = {}
    with path.open("rb") as source:
        for _, frame in dpkt.pcap.Reader(source):
            packet = dpkt.ethernet.Ethernet(frame).data
            if not isinstance(packet, dpkt.ip.IP):
                continue
            segment = packet.data
            ports = (segment.sport, segment.dport) if isinstance(segment, dpkt.tcp.TCP | dpkt.udp.UDP) else (0, 0)
            entry = flows.setdefault((packet.src, packet.dst, packet.p, *ports), [0, 0])
            entry[0] += 1
            entry[1] += packet.len
    return len(flows)


def _nfstream(path: Path) -> int:
    """The peer at its plainest: no payload inspection, no statistics, one meter process."""
    from nfstream import NFStreamer

    return sum(1 for _ in NFStreamer(source=str(path), statistical_analysis=False, n_dissections=0, n_meters=1))


def run(packets: int = 400_000, seed: int = 7, repeats: int = 3) -> dict[str, Any]:
    """Measure packets per CPU second, best of ``repeats`` (dpkt: one run; it is slow and steady)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ordinary.pcap"
        write_capture(path, packets, seed)
        size = path.stat().st_size
        walk, count = _timed(lambda: sum(len(chunk) for chunk in read_chunks(path)), repeats)
        ours, (rows, row_bytes) = _timed(lambda: _exporter(path), repeats)
        plain, flows = _timed(lambda: _dpkt_flows(path), 1)
        peer, peer_flows = _timed(lambda: _nfstream(path), repeats)
    rates = {
        "exporter": count / ours,
        "record_walk": count / walk,
        "dpkt_loop": count / plain,
        "nfstream": count / peer,
    }
    return {
        "packets": count, "bytes": size, "seed": seed, "rows": rows, "row_bytes": row_bytes, "dpkt_flows": flows,
        "nfstream_flows": peer_flows, "packets_per_cpu_second": {name: round(rate) for name, rate in rates.items()},
        "exporter_to_record_walk": round(walk / ours, 2), "exporter_to_dpkt": round(plain / ours, 2),
        "exporter_to_nfstream": round(peer / ours, 2),
    }  # fmt: skip


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packets", type=int, default=400_000)
    print(json.dumps(run(arguments.parse_args().packets), indent=2))
