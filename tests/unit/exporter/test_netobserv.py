"""NetObserv records: whose flow it is, copies, samples, names, verdicts, DNS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.chunks import CaptureReport
from schemas.events import Capability, Verdict
from tests.log_samples import BEGIN, observed
from tests.unit.exporter.flow_logs import read, read_json, rows

SYN_ACK = 256


def answer(number: int = 0, **more: Any) -> dict[str, Any]:
    """The server's direction of the same connection."""
    back = {"SrcAddr": "10.0.0.2", "DstAddr": "10.0.0.1", "SrcPort": 80, "DstPort": 40000 + number, "Bytes": 700,
            "Packets": 4, "Flags": 16 | SYN_ACK, "SrcK8S_Name": "server-1", "SrcK8S_OwnerName": "server"}  # fmt: skip
    return observed(number, **(back | more))


def test_both_directions_are_one_flow(tmp_path: Path) -> None:
    found = rows(read_json(tmp_path, [observed(), answer(), observed(Flags=16, TimeFlowEndMs=BEGIN * 1000 + 900)]))
    assert len({row["flow_id"] for row in found}) == 1
    assert {(row["src"], row["dst_port"], row["direction_known"]) for row in found} == {("10.0.0.1", 80, True)}
    assert [row["marks"] for row in found] == ["o", "", "e"]
    assert sum(row["src_packets"] for row in found) == 10
    assert [(row["dst_packets"], row["dst_bytes"], row["dst_synack"]) for row in found] == [
        (0, 0, 0), (4, 700, 1), (0, 0, 0),
    ]  # fmt: skip
    assert found[0]["src_flags"] == 2 | 16
    assert found[1]["dst_flags"] == 18


def test_the_answer_may_be_told_first(tmp_path: Path) -> None:
    assert {row["src"] for row in rows(read_json(tmp_path, [answer(), observed()]))} == {"10.0.0.1"}


def test_without_a_syn_the_lower_port_is_taken_for_the_server(tmp_path: Path) -> None:
    found = rows(read_json(tmp_path, [answer(Flags=16)]))
    assert [(row["src"], row["direction_known"], row["marks"]) for row in found] == [("10.0.0.1", False, "")]


def test_refusal(tmp_path: Path) -> None:
    marks = [row["marks"] for row in rows(read_json(tmp_path, [observed(Flags=2), answer(Flags=1024)]))]
    assert marks == ["o", "r"]


@pytest.mark.parametrize("flags", [18 | SYN_ACK, ["SYN", "ACK", "SYN_ACK"]])
def test_flags_as_number_or_names(tmp_path: Path, flags: Any) -> None:
    (row,) = rows(read_json(tmp_path, [answer(Flags=flags)]))
    assert (row["dst_synack"], row["dst_flags"]) == (1, 18)


def test_what_another_node_or_interface_tells_again_is_left_out(tmp_path: Path) -> None:
    report = CaptureReport()
    again = [observed(AgentIP="10.1.0.2", FlowDirection=0), observed(Interfaces=["br0"])]
    later = observed(0, TimeFlowStartMs=(BEGIN + 4) * 1000, TimeFlowEndMs=(BEGIN + 5) * 1000, Flags=16)
    found = rows(read_json(tmp_path, [observed(), *again, later], report))
    assert len(found) == 2
    assert report.repeated == 2
    assert "2 records that another node or interface told again" in report.problems[0]


def test_samples_are_scaled_up_and_said(tmp_path: Path) -> None:
    messages = read_json(tmp_path, [observed(Sampling=50)])
    (row,) = rows(messages)
    assert (row["src_packets"], row["src_bytes"]) == (250, 372 * 50)
    assert {m.header.sampling for m in messages if m.batches} == {50}


def test_conversations_count_once(tmp_path: Path) -> None:
    whole = observed(_RecordType="endConnection", Bytes_AB=300, Bytes_BA=900, Packets_AB=3, Packets_BA=4)
    begin = observed(_RecordType="newConnection", Bytes_AB=60, Bytes_BA=0)
    (row,) = rows(read_json(tmp_path, [begin, whole]))
    assert (row["src_bytes"], row["dst_bytes"], row["src_packets"], row["dst_packets"]) == (300, 900, 3, 4)
    assert len(rows(read_json(tmp_path, [observed(_RecordType="flowLog"), whole]))) == 1


def test_names_become_inventory(tmp_path: Path) -> None:
    report = CaptureReport()
    moved = observed(9, SrcK8S_Name="other-1", SrcK8S_OwnerName="other")
    read_json(tmp_path, [observed(), observed(1), moved], report)
    first, second = report.identities
    assert (first.kind, first.namespace, first.name, first.workload, first.node, first.ips, first.valid_from) == (
        "Pod", "shop", "client-1", "Deployment/client", "node-a", ("10.0.0.1",), 0,
    )  # fmt: skip
    assert (second.name, second.valid_from) == ("other-1", BEGIN + 9)


@pytest.mark.parametrize(
    ("more", "verdict", "policy"),
    [
        ({"PktDropPackets": 5, "PktDropLatestDropCause": "SKB_DROP_REASON_NETFILTER_DROP"}, Verdict.DENIED, ""),
        ({"PktDropPackets": 1, "PktDropLatestDropCause": "SKB_DROP_REASON_NETFILTER_DROP"}, Verdict.UNKNOWN, ""),
        ({"PktDropPackets": 5, "PktDropLatestDropCause": "SKB_DROP_REASON_TCP_INVALID_SEQUENCE"}, Verdict.UNKNOWN, ""),
        ({"NetworkEvents": [{"Action": "drop", "Namespace": "shop", "Name": "deny-all"}]}, Verdict.DENIED,
         "shop/deny-all"),
        ({"NetworkEvents": [{"Action": "allow-related", "Name": "web"}]}, Verdict.ALLOWED, "web"),
    ],
)  # fmt: skip
def test_verdicts(tmp_path: Path, more: dict[str, Any], verdict: int, policy: str) -> None:
    messages = read_json(tmp_path, [observed(**more)])
    (row,) = rows(messages)
    assert (row["verdict"], row["policy"]) == (verdict, policy)
    assert Capability(messages[0].header.capabilities) & Capability.VERDICT


def test_dns_of_answers(tmp_path: Path) -> None:
    reply = answer(SrcPort=53, Proto=17, Flags=0, DnsId=7, DnsName="www.example.com", DnsLatencyMs=3, DnsFlags=0x8180,
                   DnsFlagsResponseCode="NoError")  # fmt: skip
    messages = read_json(tmp_path, [reply])
    (row,) = rows(messages, "dns")
    assert (row["client"], row["server"], row["qname"], row["id"], row["latency"]) == (
        "10.0.0.1", "10.0.0.2", "www.example.com", 7, 3_000_000,
    )  # fmt: skip
    assert row["rcode"] == -1
    assert not Capability(messages[0].header.capabilities) & Capability.DNS_ANSWERS


def test_the_older_schema_has_no_times_of_flows(tmp_path: Path) -> None:
    old = {"SrcAddr": "10.0.0.1", "DstAddr": "10.0.0.2", "SrcPort": 40000, "DstPort": 80, "Proto": 6, "Bytes": 100,
           "Packets": 2, "TimeFlowStart": 0, "TimeFlowEnd": 0, "TimeReceived": BEGIN, "SrcPod": "client-1",
           "SrcNamespace": "shop", "SrcWorkload": "client", "SrcWorkloadKind": "Deployment"}  # fmt: skip
    report = CaptureReport()
    messages = read_json(tmp_path, [old], report)
    (row,) = rows(messages)
    assert (row["start"], row["cut"]) == (BEGIN * 10**9, 1)
    assert not Capability(messages[0].header.capabilities) & (Capability.EXACT_TIME | Capability.TCP_FLAGS)
    assert report.identities[0].workload == "Deployment/client"


def test_answers_of_loki_lists_and_documents_over_several_lines(tmp_path: Path) -> None:
    plain = rows(read_json(tmp_path, [observed(), observed(1)]))
    values = [["1", json.dumps(observed(n))] for n in range(2)]
    loki = {
        "status": "success",
        "data": {"resultType": "streams", "result": [{"stream": {"app": "x"}, "values": values}]},
    }
    assert rows(read(tmp_path, json.dumps(loki, indent=2))) == plain
    assert rows(read(tmp_path, json.dumps(loki))) == plain
    assert rows(read(tmp_path, json.dumps([observed(), observed(1)]))) == plain
    assert rows(read(tmp_path, "".join(json.dumps(observed(n), indent=1) + "\n" for n in range(2)))) == plain
    report = CaptureReport()
    loki["data"]["result"][0]["values"].insert(1, ["2", "{nonsense"])  # type: ignore[index]
    assert rows(read(tmp_path, json.dumps(loki, indent=2), report)) == plain
    assert report.malformed == 1


@pytest.mark.parametrize(
    "damage", [{"SrcAddr": None}, {"DstPort": -1}, {"Bytes": "many"}, {"Proto": 300}, {"TimeFlowEndMs": 1 << 62},
               {"Flags": {}}, {"Sampling": 1.5}]
)  # fmt: skip
def test_values_that_cannot_be_damage_their_record_alone(tmp_path: Path, damage: dict[str, Any]) -> None:
    report = CaptureReport()
    assert len(rows(read_json(tmp_path, [observed(), observed(1, **damage), observed(2)], report))) == 2
    assert report.malformed == 1
