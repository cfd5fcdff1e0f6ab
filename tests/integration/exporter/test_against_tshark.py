"""Packets and bytes per pair of endpoints, counted by tshark and by us, on recorded captures."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from exporter.sources.capture import read_messages
from schemas.event_codec import batch_to_rows

ROOT = Path(__file__).resolve().parents[3]
# One of each folder keeps this quick; every detector's tests read the others.
CAPTURES = sorted(next(iter(sorted(folder.glob("*/capture.pcap*")))) for folder in (ROOT / "tests" / "cases").glob("*")
                  if any(folder.glob("*/capture.pcap*")))  # fmt: skip
FIELDS = ("ip.src", "ip.dst", "ip.len", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "icmp.type")
Key = tuple[tuple[str, int], tuple[str, int], int]

pytestmark = [
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
    pytest.mark.skipif(not CAPTURES, reason="no recorded captures under tests/cases"),
    pytest.mark.timeout(300),
]


def _key(src: str, source: int, dst: str, target: int, proto: int) -> Key:
    first, second = sorted([(src, source), (dst, target)])
    return first, second, proto


def _theirs(path: Path) -> Counter[tuple[Key, str]]:
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=f", "-o", "ip.defragment:false"]
    lines = subprocess.run(
        [*command, *[part for field in FIELDS for part in ("-e", field)]], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    counted: Counter[tuple[Key, str]] = Counter()
    for line in lines:
        src, dst, length, *ports, icmp = line.split("\t")
        if icmp or not src or not (ports[0] or ports[2]):
            continue  # an ICMP error shows the ports of the packet that it quotes
        proto, at = (6, 0) if ports[0] else (17, 2)
        key = _key(src, int(ports[at]), dst, int(ports[at + 1]), proto)
        counted[key, "packets"] += 1
        counted[key, "bytes"] += int(length)
    return counted


def _ours(path: Path) -> Counter[tuple[Key, str]]:
    counted: Counter[tuple[Key, str]] = Counter()
    for message in read_messages(path, "node", "lab"):
        if "flow" not in message.batches:
            continue
        for row in batch_to_rows("flow", message.batches["flow"]):
            if row["proto"] in (6, 17) and row["src_port"] and "." in row["src"]:
                key = _key(row["src"], row["src_port"], row["dst"], row["dst_port"], row["proto"])
                counted[key, "packets"] += row["src_packets"] + row["dst_packets"]
                counted[key, "bytes"] += row["src_bytes"] + row["dst_bytes"]
    return counted


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}")
def test_every_pair_has_the_same_packets_and_bytes(path: Path) -> None:
    theirs = _theirs(path)
    # A case of ARP or ICMP alone may hold no connection at all; then we must see none either.
    silent = ("arp_scan", "arp_spoof", "icmp_flood", "icmp_tunnel", "false_cluster_address")
    assert theirs or {path.parent.name, path.parent.parent.name}.intersection(silent)
    assert +_ours(path) == theirs
