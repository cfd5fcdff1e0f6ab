"""How packets were cut into chunks and blocks never shows in the messages."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.settings import ExporterSettings, ReadingSettings
from schemas.event_codec import encode
from tests.unit.exporter.crafting import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    Timed,
    arp,
    ether,
    icmp,
    ipv4,
    messages,
    pcap,
    tcp4,
    udp4,
)  # fmt: skip

QUERY = b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\2xy\0\0\1\0\1"
FLAGS = [SYN, SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, 0, FIN, FIN | PSH]


def traffic(seed: int, count: int) -> list[Timed]:
    """Few endpoints and every flag, so that ports are reused, refused and closed all the time."""
    dice = random.Random(seed)
    when, out = 0.0, []
    for _ in range(count):
        when += dice.choice([0.0, 0.001, 0.01, 0.1, 0.4, 2.0]) if dice.random() < 0.97 else dice.choice([7.0, 45.0])
        client, server, port = f"10.0.0.{dice.randrange(2)}", "10.0.1.1", 40_000 + dice.randrange(3)
        back, kind, body = dice.random() < 0.5, dice.random(), b"x" * dice.choice([0, 0, 5, 900])
        if kind < 0.7:
            ends = (server, 80, client, port) if back else (client, port, server, 80)
            frame = tcp4(*ends, dice.choice(FLAGS), body, dice.randrange(1 << 32))
        elif kind < 0.85:
            ends = (server, 53, client, port) if back else (client, port, server, 53)
            frame = udp4(*ends, QUERY[:2] + (b"\x81\x80" if back else b"\1\0") + QUERY[4:])
        elif kind < 0.95:
            frame = ether(ipv4(client, server, 1, icmp(dice.choice([8, 0, 11]), 0, 5)))
        else:
            frame = arp(dice.choice([1, 2]), b"\2\0\0\0\0\1", client, server)
        out.append((round(when, 6), frame))
    return out


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6), size=st.integers(1, 60), block=st.sampled_from([1024, 1500, 4096]),
    disorder=st.sampled_from([0.0, 0.0, 0.3, 5.0]),
)  # fmt: skip
def test_chunk_sizes_change_nothing(tmp_path: Path, seed: int, size: int, block: int, disorder: float) -> None:
    dice = random.Random(seed)
    packets = [(round(max(0.0, when - dice.random() * disorder), 6), frame) for when, frame in traffic(seed, 80)]
    content = pcap(packets)
    whole = messages(tmp_path, content, ExporterSettings(reading=ReadingSettings(sort_bytes=0)))
    reading = ReadingSettings(sort_bytes=0, block_bytes=block, chunk_packets=size)
    pieces = messages(tmp_path, content, ExporterSettings(reading=reading))
    assert [encode(message) for message in pieces] == [encode(message) for message in whole]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_packets_are_neither_lost_nor_doubled(tmp_path: Path, seed: int) -> None:
    packets = traffic(seed, 120)
    total = 0
    for message in messages(tmp_path, pcap(packets)):
        if "flow" in message.batches:
            batch = message.batches["flow"]
            total += sum(batch.column("src_packets").to_pylist()) + sum(batch.column("dst_packets").to_pylist())
        assert message.header.lost_rows == message.header.malformed == 0
    assert total == sum(frame[12:14] == b"\x08\x00" for _, frame in packets)
