"""Small flow logs of every format that is read, made by hand: ``count`` records, one each second from ``BEGIN``.

By the id of their reader. Each sample has one record a line after ``header`` lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BEGIN = 1_700_000_100
ZEEK_HEADER = (
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\t{path}\n#fields\t{fields}\n"
)
CONN_FIELDS = [
    "ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service", "duration", "orig_bytes",
    "resp_bytes", "conn_state", "history", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
]  # fmt: skip
DNS_FIELDS = [
    "ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "trans_id", "rtt", "query", "qtype",
    "rcode", "AA", "TC", "RD", "RA", "answers", "TTLs",
]  # fmt: skip
CIC_HEADER = (
    "Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Total Fwd Packet,Total Bwd packets,"
    "Total Length of Fwd Packet,Total Length of Bwd Packet,Fwd Header Length,Bwd Header Length,SYN Flag Count,"
    "RST Flag Count,ACK Flag Count,Bwd RST Flags,ICMP Code,ICMP Type,Label\n"
)
Values = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A format: its header lines, and a line without its end from the record's number."""

    header: str
    line: Callable[[int], str]

    def content(self, count: int = 20) -> bytes:
        return (self.header + "".join(self.line(n) + "\n" for n in range(count))).encode()


def conn(number: int = 0, **more: Any) -> Values:
    """A connection of conn.log that was used and closed in 0.2 s."""
    values: Values = {
        "ts": BEGIN + number + 0.25, "uid": f"C{number}", "id.orig_h": "10.0.0.1", "id.orig_p": 40000 + number,
        "id.resp_h": "10.0.0.2", "id.resp_p": 80, "proto": "tcp", "service": "http", "duration": 0.2,
        "orig_bytes": 100, "resp_bytes": 500, "conn_state": "SF", "history": "ShADadFf", "orig_pkts": 5,
        "orig_ip_bytes": 372, "resp_pkts": 4, "resp_ip_bytes": 712,
    }  # fmt: skip
    return values | more


def lookup(number: int = 0, **more: Any) -> Values:
    """A line of dns.log with two answers."""
    values: Values = {
        "ts": BEGIN + number + 0.25, "uid": f"D{number}", "id.orig_h": "10.0.0.1", "id.orig_p": 50000, "id.resp_h":
        "10.0.0.53", "id.resp_p": 53, "proto": "udp", "trans_id": 7, "rtt": 0.01, "query": f"w{number}.example.com",
        "qtype": 1, "rcode": 0, "AA": False, "TC": False, "RD": True, "RA": True,
        "answers": ["cdn.example.net", "192.0.2.8"], "TTLs": [300.0, 60.0],
    }  # fmt: skip
    return values | more


def zeek_line(values: Values, fields: list[str]) -> str:
    """Values as a tab-separated line."""

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return "T" if value else "F"
        return ",".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)

    return "\t".join(text(values.get(name)) for name in fields)


def cic(number: int = 0, **more: Any) -> str:
    """A line of CICFlowMeter: a connection that was used and closed in 0.2 s."""
    clock = f"2023-11-14 22:{15 + number // 60:02d}:{number % 60:02d}.250000"
    values: Values = {
        "id": "f", "src": "10.0.0.1", "sport": 40000 + number, "dst": "10.0.0.2", "dport": 80, "proto": 6,
        "time": clock, "duration": 200000, "fwd": 5, "bwd": 4, "fwdlen": 100, "bwdlen": 500.0, "fwdhead": 112,
        "bwdhead": 92, "syn": 2, "rst": 0, "ack": 8, "bwdrst": 0, "code": -1, "type": -1, "label": "BENIGN",
    }  # fmt: skip
    assert set(more) <= set(values)
    return ",".join(str(value) for value in (values | more).values())


def observed(number: int = 0, **more: Any) -> Values:
    """A NetObserv record: the client's direction of a connection with its SYN."""
    start = (BEGIN + number) * 1000 + 250
    values: Values = {
        "SrcAddr": "10.0.0.1", "DstAddr": "10.0.0.2", "SrcPort": 40000 + number, "DstPort": 80, "Proto": 6,
        "Etype": 2048, "TimeFlowStartMs": start, "TimeFlowEndMs": start + 200, "TimeReceived": BEGIN + number + 1,
        "Bytes": 372, "Packets": 5, "Flags": 2 | 16, "FlowDirection": 1, "Interfaces": ["eth0"], "AgentIP": "10.1.0.1",
        "SrcMac": "0a:58:0a:80:00:01", "SrcK8S_Name": "client-1", "SrcK8S_Namespace": "shop", "SrcK8S_Type": "Pod",
        "SrcK8S_OwnerName": "client", "SrcK8S_OwnerType": "Deployment", "SrcK8S_HostName": "node-a",
    }  # fmt: skip
    return values | more


def hubble(number: int = 0, *, reply: bool = False, flags: tuple[str, ...] = ("SYN",), **more: Any) -> Values:
    """A Hubble record: one packet of a connection."""
    ends, ports = ("10.0.0.1", "10.0.0.2"), (40000 + number, 80)
    pods = ({"pod_name": "client-1", "namespace": "shop", "workloads": [{"name": "client", "kind": "Deployment"}],
             "labels": ["k8s:app=client", "k8s:io.kubernetes.pod.namespace=shop"]},
            {"pod_name": "server-1", "namespace": "shop", "labels": ["k8s:app=server"]})  # fmt: skip
    one, other = (1, 0) if reply else (0, 1)
    flow: Values = {
        "time": f"2023-11-14T22:{15 + number // 60:02d}:{number % 60:02d}.250000001Z", "verdict": "FORWARDED",
        "IP": {"source": ends[one], "destination": ends[other], "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": ports[one], "destination_port": ports[other],
                       "flags": dict.fromkeys(flags, True)}},
        "source": pods[one], "destination": pods[other], "Type": "L3_L4", "node_name": "node-a", "is_reply": reply,
        "traffic_direction": "EGRESS", "trace_observation_point": "TO_OVERLAY",
        "interface": {"index": 4, "name": "lxc1"}, "ethernet": {"source": "0a:58:0a:80:00:01"},
    }  # fmt: skip
    return {"flow": flow | more, "node_name": "node-a", "time": flow["time"]}


def json_line(values: Values) -> str:
    return json.dumps(values, separators=(",", ":"))


SAMPLES: dict[str, dict[str, Sample]] = {
    "zeek_conn": {
        "tsv": Sample(
            ZEEK_HEADER.format(path="conn", fields="\t".join(CONN_FIELDS)), lambda n: zeek_line(conn(n), CONN_FIELDS)
        ),
        "json": Sample("", lambda n: json_line(conn(n))),
    },
    "zeek_dns": {
        "tsv": Sample(
            ZEEK_HEADER.format(path="dns", fields="\t".join(DNS_FIELDS)), lambda n: zeek_line(lookup(n), DNS_FIELDS)
        ),
        "json": Sample("", lambda n: json_line(lookup(n))),
    },
    "cicflowmeter_csv": {"csv": Sample(CIC_HEADER, lambda n: cic(n))},
    "netobserv_json": {"json": Sample("", lambda n: json_line(observed(n)))},
    "hubble_json": {"json": Sample("", lambda n: json_line(hubble(n)))},
    "domain_list": {
        "plain": Sample("", lambda n: f"host{n}.example.com"),
        "csv": Sample("label,family,domain\n", lambda n: f"benign,popular,host{n}.example.com"),
    },
}
