"""What a run of event messages holds: the statistics an analyst asks of a capture first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.addresses import unpack
from schemas.event_codec import EventMessage
from schemas.events import KINDS, FlowMark
from sluicegate.source_summary import SourceSummary
from sluicegate.traffic_groups import Grouped

TCP, UDP = 6, 17
_MARKS = ("opened", "established", "exchanged", "refused", "unanswered", "closed")
_FLAGS = ("src_syn", "dst_synack", "src_fin", "dst_fin", "src_rst", "dst_rst")
_PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 89: "OSPF",
              103: "PIM", 112: "VRRP", 132: "SCTP"}  # fmt: skip
_ARP = (1, 2)


def protocol_name(number: int) -> str:
    """Return a protocol's name, else its number."""
    return _PROTOCOLS.get(number, f"protocol {number}")


class TrafficSummary:
    """Takes messages, gives statistics. Memory does not grow with the traffic."""

    def __init__(self) -> None:
        self.sources = SourceSummary()
        self.rows = dict.fromkeys(KINDS, 0)
        self._pairs = Grouped(("src", "dst"), ("bytes", "packets", "flows"))
        self._protocols = Grouped(("proto",), ("flows", "bytes", "packets"))
        self._ports = Grouped(("proto", "dst_port"), ("flows", "bytes"))
        self._ttl = Grouped(("ttl_max",), ("flows",))
        self._marks = dict.fromkeys(_MARKS, 0)
        self._flags = dict.fromkeys(_FLAGS, 0)
        self._arp = Grouped(("claim", "claimed", "claimed_mac"), ("claims",))
        self.dns = DnsSummary()

    def add(self, message: EventMessage) -> None:
        """Take one message."""
        self.sources.add(message)
        for kind, batch in message.batches.items():
            self.rows[kind] += batch.num_rows
        if "flow" in message.batches:
            self._add_flows(message.batches["flow"])
        if "dns" in message.batches:
            self.dns.add(message.batches["dns"])
        if "link" in message.batches:
            self._add_links(message.batches["link"])

    def _add_flows(self, batch: pa.RecordBatch) -> None:
        marks, proto = (batch.column(name).to_numpy() for name in ("marks", "proto"))
        flows = pa.array(((marks & FlowMark.OPENED) != 0).astype(np.int64))
        packets, octets = (pc.add(batch.column(f"src_{w}"), batch.column(f"dst_{w}")) for w in ("packets", "bytes"))
        columns = {
            "src": _plain(batch, "src"), "dst": _plain(batch, "dst"), "proto": batch.column("proto"),
            "dst_port": batch.column("dst_port"), "ttl_max": batch.column("ttl_max"),
            "bytes": octets, "packets": packets, "flows": flows,
        }  # fmt: skip
        self._pairs.add(columns)
        self._protocols.add(columns)
        with_ports = pa.array((proto == TCP) | (proto == UDP))
        self._ports.add(
            {n: c.filter(with_ports) for n, c in columns.items() if n in ("proto", "dst_port", "flows", "bytes")}
        )
        self._ttl.add(columns)
        tcp = marks[proto == TCP]
        for name in _MARKS:
            self._marks[name] += int(((tcp & FlowMark[name.upper()]) != 0).sum())
        for name in _FLAGS:
            self._flags[name] += int(batch.column(name).to_numpy().sum())

    def _add_links(self, batch: pa.RecordBatch) -> None:
        ones = pa.array(np.ones(batch.num_rows, np.int64))
        self._arp.add({"claim": batch.column("claim"), "claimed": _plain(batch, "claimed"),
                       "claimed_mac": batch.column("claimed_mac"), "claims": ones})  # fmt: skip

    def result(self, top: int) -> dict[str, Any]:
        """Return everything as JSON values; lists hold at most ``top`` entries."""
        return {
            "sources": self.sources.result(),
            "rows": self.rows,
            "talkers": {"pairs": len(self._pairs), "top": [_named(row) for row in self._pairs.top(top)]},
            "protocols": [{**row, "name": protocol_name(row["proto"])} for row in self._protocols.top(top)],
            "ports": [{**row, "protocol": protocol_name(row.pop("proto"))} for row in self._ports.top(top)],
            "tcp": {"flows": self._marks, "packets": self._flags},
            "ttl": self._ttl.top(top),
            "dns": self.dns.result(top),
            "arp": self._claims(top),
        }

    def _claims(self, top: int) -> dict[str, Any]:
        rows = [r for r in self._arp.top(len(self._arp)) if r["claim"] in _ARP]
        owners: dict[bytes, set[int]] = {}
        for row in rows:
            owners.setdefault(row["claimed"], set()).add(row["claimed_mac"])
        several = sorted(address for address, macs in owners.items() if len(macs) > 1)
        return {
            "claims": sum(row["claims"] for row in rows),
            "addresses": len(owners),
            "claimed_by_several": [
                {"address": unpack(a), "macs": sorted(mac_text(m) for m in owners[a])} for a in several[:top]
            ],
        }


class DnsSummary:
    """Names asked, and how they were answered."""

    def __init__(self) -> None:
        self._names = Grouped(("qname",), ("queries", "failures"))
        self._types = Grouped(("qtype",), ("queries",))
        self._codes = Grouped(("rcode",), ("answers",))
        self.queries = self.unanswered = self.unsolicited = 0
        self._latency = np.zeros(_LATENCY_STEPS + 1, np.int64)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take one batch of DNS rows; a query or answer with several records counts once."""
        number, rcode = batch.column("answer_number").to_numpy(), batch.column("rcode").to_numpy()
        asked = batch.column("query_bytes").to_numpy() > 0
        answered = batch.column("answer_bytes").to_numpy() > 0
        failed = answered & (rcode > 0)
        counts = {"queries": pa.array(asked.astype(np.int64)), "failures": pa.array(failed.astype(np.int64)),
                  "answers": pa.array(answered.astype(np.int64))}  # fmt: skip
        self._names.add({"qname": _plain(batch, "qname"), **counts})
        self._types.add({"qtype": batch.column("qtype"), **counts})
        self._codes.add({"rcode": batch.column("rcode").filter(pa.array(answered)),
                         "answers": counts["answers"].filter(pa.array(answered))})  # fmt: skip
        self.queries += int(asked.sum())
        self.unanswered += int((number == 0).sum())
        self.unsolicited += int((batch.column("unsolicited").to_numpy(zero_copy_only=False) & answered).sum())
        latency = batch.column("latency").to_numpy()[answered]
        steps = np.log2(np.maximum(latency[latency >= 0], 1)) * _STEPS_PER_DOUBLING
        np.add.at(self._latency, np.minimum(steps.astype(np.int64), _LATENCY_STEPS), 1)

    def result(self, top: int) -> dict[str, Any]:
        """Return JSON values; ``latency_ms`` are quantiles exact to a quarter of a doubling."""
        failing = [row for row in self._names.top(top, by="failures") if row["failures"]]
        return {
            "queries": self.queries, "names": len(self._names), "unanswered": self.unanswered,
            "unsolicited": self.unsolicited, "top": [r for r in self._names.top(top) if r["queries"]],
            "failing": failing, "types": self._types.top(top), "codes": self._codes.top(top),
            "latency_ms": {f"p{q}": self._quantile(q / 100) for q in (50, 95, 99)} if self._latency.sum() else {},
        }  # fmt: skip

    def _quantile(self, share: float) -> float:
        step = int(np.searchsorted(np.cumsum(self._latency), share * self._latency.sum()))
        return round(2 ** ((step + 0.5) / _STEPS_PER_DOUBLING) / 1e6, 3)


_STEPS_PER_DOUBLING = 4
_LATENCY_STEPS = 40 * _STEPS_PER_DOUBLING  # up to 2**40 ns, 18 minutes


def mac_text(value: int) -> str:
    """Return a hardware address as text."""
    return ":".join(f"{value:012x}"[i : i + 2] for i in range(0, 12, 2))


def _plain(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a dictionary column as plain values: groupings then need no common dictionary."""
    return batch.column(name).dictionary_decode()


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "src": unpack(row["src"]), "dst": unpack(row["dst"])}
