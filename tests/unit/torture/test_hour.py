"""The mixed hour is what its page says: four nodes, every second, the recorded attacks at known times."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter

import orjson

from schemas.event_codec import batch_to_rows
from tests.torture import hour
from tests.torture.recut import in_sequence

SHIFT = orjson.loads((hour.FOLDER / "case.json").read_bytes())


def test_the_record_matches_the_rows_and_stays_small() -> None:
    raw = (hour.FOLDER / SHIFT["input"]).read_bytes()
    assert (len(raw), hashlib.sha256(raw).hexdigest()) == (SHIFT["bytes"], SHIFT["sha256"])
    assert len(raw) < 4_000_000
    assert gzip.decompress(raw)[:4] == b"SGEF"
    kinds = [line["kind"] for line in SHIFT["expect"] if line["expect"] == "alert"]
    assert kinds == ["port_scan_vertical", "port_scan_horizontal", "syn_flood", "connection_flood", "dns_tunnel"]


def test_every_node_says_every_second_once_and_ends() -> None:
    found = list(hour.messages(shifts=1, nodes=2))
    assert [m.header.node for m in found[:3]] == ["node1", "node2", "node1"]
    cuts = [m.header.cut for m in found]
    assert cuts == sorted(cuts)
    for node in ("node1", "node2"):
        own = [m.header for m in found if m.header.node == node]
        assert [h.sequence for h in own] == list(range(len(own)))
        assert [h.final for h in own] == [False] * (len(own) - 1) + [True]
        seconds = [h.cut for h in own if h.part == 0]
        assert seconds[:-1] == list(range(seconds[0], seconds[0] + hour.SHIFT_S + 1))
        assert seconds[-1] == seconds[-2] + hour.CLOSING_S


def test_a_second_shift_is_the_first_moved() -> None:
    one = [m for m in hour.messages(shifts=2, nodes=1) if not m.header.final]
    begin = one[0].header.cut
    first = {m.header.cut: m for m in one if m.header.cut < begin + hour.SHIFT_S and m.batches}
    second = {m.header.cut - hour.SHIFT_S: m for m in one if m.header.cut >= begin + hour.SHIFT_S and m.batches}
    assert first.keys() == second.keys()
    cut = sorted(first)[100]
    (a, b) = (batch_to_rows("flow", each[cut].batches["flow"]) for each in (first, second))
    assert [row["end"] + hour.SHIFT_S * 10**9 for row in a] == [row["end"] for row in b]
    assert [(row["src"], row["dst"], row["marks"]) for row in a] == [
        (row["src"], row["dst"], row["marks"]) for row in b
    ]


def test_nodes_have_pods_of_their_own_and_the_same_outside() -> None:
    hosts: dict[str, set[str]] = {"node1": set(), "node3": set()}
    for message in hour.messages(shifts=1, nodes=3):
        if message.header.node in hosts and (batch := message.batches.get("flow")) is not None:
            for name in ("src", "dst"):
                hosts[message.header.node] |= {row[name] for row in batch_to_rows("flow", batch)}
    assert {h for h in hosts["node3"] if h.startswith(("10.244.1.", "fd00:244:1:"))} == set()
    own = {h.replace("10.244.3.", "10.244.1.") for h in hosts["node3"] if h.startswith("10.244.3.")}
    assert own <= {h for h in hosts["node1"] if h.startswith("10.244.1.")}
    assert {"10.244.1.66", "10.244.1.10"} <= own
    assert "203.0.113.1" in hosts["node1"] & hosts["node3"]


def test_the_truth_names_each_attack_once_a_node_and_shift() -> None:
    lines, _ = hour.truth()
    attacks = [line for line in lines if line.expect == "alert"]
    assert Counter(line.kind for line in attacks) == dict.fromkeys(
        ["port_scan_vertical", "port_scan_horizontal", "syn_flood", "connection_flood", "dns_tunnel"],
        hour.NODES * hour.SHIFTS,
    )
    assert {line.dst for line in attacks if line.kind == "syn_flood"} == {f"10.244.{n}.10" for n in range(1, 5)}
    assert all(0 <= (line.start_s or 0) <= (line.end_s or 0) < hour.SHIFTS * hour.SHIFT_S for line in attacks)


def test_the_hour_is_the_same_to_the_byte_each_time() -> None:
    assert [m.header for m in in_sequence(hour.messages(1, 2))] == [m.header for m in hour.messages(1, 2)]
