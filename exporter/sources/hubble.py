"""Hubble flows: JSON lines as `hubble observe -o json` and the exporter of Cilium write them.

Fields: https://github.com/cilium/cilium/blob/main/api/v1/flow/flow.proto, in protojson: zero values are absent,
64-bit numbers are strings.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from exporter.flow_records import event_rows
from exporter.learned_names import LearnedNames
from exporter.record_cutter import RecordBlock
from exporter.sources.byte_source import ByteSource
from exporter.sources.dns_records import DnsLookup, lookup_rows
from exporter.sources.dns_text import name_text
from exporter.sources.json_records import Record, read_records
from exporter.sources.log_reader import Head, LogReader, Reading
from exporter.sources.observed import (
    ACK,
    FIN,
    ICMP,
    ICMP6,
    RST,
    SYN,
    TCP,
    UDP,
    Conversation,
    Conversations,
    Endpoint,
    PointsOfView,
    endpoint,
    flow_records,
    icmp_initiator,
    is_question,
    new_marks,
    whole,
)  # fmt: skip
from exporter.sources.text_columns import iso_times, mac_number
from schemas.events import MAX_TEXT, Capability, Verdict

_SECOND = 1_000_000_000
_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": 132, "ICMPv4": ICMP, "ICMPv6": ICMP6, "VRRP": 112, "IGMP": 2}
_FLAGS = {"FIN": FIN, "SYN": SYN, "RST": RST, "PSH": 8, "ACK": ACK, "URG": 32, "ECE": 64, "CWR": 128}
# Drops that somebody decided; the others are faults (stale connections, wrong addresses, full tables).
_POLICY_REASONS = {"", "POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED", "DENIED_BY_LB_SRC_RANGE_CHECK",
                   "UNENCRYPTED_TRAFFIC"}  # fmt: skip
_TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "NULL": 10, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33,
          "SVCB": 64, "HTTPS": 65, "ANY": 255}  # fmt: skip
_OTHER_KINDS = {"lost_events", "agent_event", "debug_event", "node_status"}
# Of one packet's two reports; both nodes' clocks differ by less.
_SAME_PACKET = _SECOND
_COLUMNS = ("src", "dst", "src_port", "dst_port", "proto", "src_syn", "dst_synack", "src_fin", "dst_fin", "src_rst",
            "dst_rst", "src_flags", "dst_flags", "icmp_type", "icmp_code", "src_mac", "interface", "verdict", "policy",
            "direction_known")  # fmt: skip


class Hubble(LogReader):
    """One packet, or one request of a proxy, per record; with policy verdicts and identities."""

    id = "hubble_json"
    title = "Hubble flows"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        able = Capability.REVERSE | Capability.TCP_FLAGS | Capability.PORTS | Capability.ICMP | Capability.VERDICT
        able |= Capability.INTERFACES | Capability.EXACT_TIME
        if any(_dns(flow) for record in head.records if (flow := _flow(record)) is not None):
            able |= Capability.DNS | Capability.DNS_ANSWERS | Capability.DNS_LATENCY
        self._able = able

    @classmethod
    def recognises(cls, head: Head) -> bool:
        """A flow with addresses or a verdict, in its envelope or bare."""
        return any(_flow(record) is not None for record in head.records)

    @property
    def capabilities(self) -> Capability:
        """DNS only where its beginning shows requests that the proxy saw."""
        return self._able

    @property
    def notes(self) -> Sequence[str]:
        """What Hubble leaves out."""
        notes = [
            "Hubble: one event stands for one or several packets; packets, bytes and payload are not told",
            "Hubble: unanswered attempts and ends of flows are not told",
        ]
        if Capability.DNS not in self._able:
            notes.append("Hubble: DNS is told only where a policy sends it through the proxy; here it is not")
        return notes

    def read(self, source: ByteSource, reading: Reading) -> Iterator[RecordBlock]:
        """Read all records."""
        state = _State(reading, self._able)
        for numbers, records, lost in read_records(source, reading.settings.reading, reading.damaged, reading.path):
            yield state.block(numbers, records, lost)
        yield state.rest()


def _flow(record: Record) -> Record | None:
    """Return the flow of a record; none where it is of another kind."""
    flow = record.get("flow", record)
    if isinstance(flow, dict) and isinstance(flow.get("IP"), dict) and ("verdict" in flow or "l4" in flow):
        return flow
    return None


def _dns(flow: Record) -> Record | None:
    layer = flow.get("l7")
    found = layer.get("dns") if isinstance(layer, dict) else None
    return found if isinstance(found, dict) else None


class _State:
    """What is remembered from record to record."""

    def __init__(self, reading: Reading, able: Capability) -> None:
        self._reading, self._able = reading, able
        self._flows, self._points = Conversations(), PointsOfView(_SAME_PACKET)
        self._names = LearnedNames(reading.report)
        self._asked: OrderedDict[tuple[Endpoint, str], DnsLookup] = OrderedDict()

    def block(self, numbers: list[int], records: list[Record], lost: int) -> RecordBlock:
        """Return the rows of some records."""
        rows: list[dict[str, Any]] = []
        lookups: list[DnsLookup] = []
        taken = dropped = 0
        flows = [_flow(record) for record in records]
        times = iso_times(pa.array([_time(f, r) for f, r in zip(flows, records, strict=True)], pa.string())).tolist()
        for number, record, flow, time in zip(numbers, records, flows, times, strict=True):
            try:
                dropped += _lost_events(record)
                if flow is None:
                    _check_other(record)
                else:
                    found = self._take(flow, time)
                    taken += found is not None
                    rows += [found] if isinstance(found, dict) else []
                    lookups += found if isinstance(found, list) else []
            except ValueError as error:
                lost += self._reading.damaged.add([number], str(error)[:100])
        out = [event_rows(flow_records(rows, _COLUMNS), self._reading.salt)] if rows else []
        return RecordBlock(out + self._dns_rows(lookups), taken, lost, lost=dropped)

    def rest(self) -> RecordBlock:
        """Return the questions that were never answered."""
        waiting, self._asked = list(self._asked.values()), OrderedDict()
        return RecordBlock(self._dns_rows(waiting))

    def _dns_rows(self, lookups: list[DnsLookup]) -> list[Any]:
        dns = self._reading.settings.dns
        return [lookup_rows(lookups, dns.answer_seconds, dns.answers_per_message)] if lookups else []

    def _take(self, flow: Record, time: int) -> dict[str, Any] | list[DnsLookup] | None:
        """Return a flow row, lookups, or nothing where it only repeats what another node said."""
        if time <= 0:
            message = "no time that can be read"
            raise ValueError(message)
        ends, proto, layer = _ends(flow)
        self._learn(flow, time // _SECOND)
        if flow.get("Type") == "SOCK":
            # A connect() seen before load balancing; its packets are told by themselves.
            return None
        dns = _dns(flow)
        if flow.get("Type") == "L7" or dns is not None:
            return self._lookup(flow, dns, ends, proto, time) if dns and Capability.DNS in self._able else None
        flags = sum(bit for name, bit in _FLAGS.items() if _part(layer, "flags").get(name) is True)
        kind = whole(layer.get("type"), 255) if proto in (ICMP, ICMP6) else 0
        verdict, policy = _verdict(flow)
        point = (flow.get("node_name"), flow.get("traffic_direction"), flow.get("trace_observation_point"))
        if self._points.repeats((*ends, proto, flags, kind, verdict == Verdict.DENIED), point, time):
            self._reading.report.repeated += 1
            return None
        known = self._flows.find(*ends, proto, time, _initiator(flow, ends, proto, flags, kind))
        forward = known.initiator == ends[0]
        row = _row(ends if forward else (ends[1], ends[0]), proto, forward, flags)
        if forward:
            ethernet, interface = _part(flow, "ethernet"), _part(flow, "interface").get("name")
            row |= {"src_mac": mac_number(str(ethernet.get("source", ""))), "icmp_type": kind,
                    "icmp_code": whole(layer.get("code"), 255) if proto in (ICMP, ICMP6) else 0,
                    "interface": interface[:MAX_TEXT] if isinstance(interface, str) else ""}  # fmt: skip
        return row | {
            "conn_start": known.began, "start": time, "end": time, "direction_known": known.known, "verdict": verdict,
            "policy": policy, "marks": _marks(known, proto, forward, flags, kind),
        }  # fmt: skip

    def _lookup(
        self, flow: Record, dns: Record, ends: tuple[Endpoint, Endpoint], proto: int, time: int
    ) -> list[DnsLookup]:
        """Return what became certain: an answered question, and those that waited too long."""
        answer = _part(flow, "l7").get("type") == "RESPONSE"
        client, server = (ends[1], ends[0]) if answer else ends
        name = name_text(str(dns.get("query", "")))
        types = dns.get("qtypes")
        qtype = _TYPES.get(str(types[0]).upper(), 0) if isinstance(types, list) and types else 0
        waited = self._reading.settings.dns.answer_seconds * _SECOND
        out = []
        while self._asked and (first := next(iter(self._asked.values()))).time < time - waited:
            self._asked.popitem(last=False)
            out.append(first)
        lookup = DnsLookup(time, client[0], name, server[0], client[1], proto, qtype=qtype)
        if not answer:
            self._asked[client, name] = lookup
            if len(self._asked) > self._reading.settings.dns.pending:
                out.append(self._asked.popitem(last=False)[1])
            return out
        self._asked.pop((client, name), None)
        latency = whole(_part(flow, "l7").get("latency_ns"), 1 << 50)
        answers = [str(value) for field in ("cnames", "ips") for value in _list(dns, field)]
        ttl = whole(dns.get("ttl"), (1 << 32) - 1)
        out.append(DnsLookup(
            max(1, time - latency), client[0], name, server[0], client[1], proto, qtype=qtype,
            rcode=whole(dns.get("rcode"), 4095), latency=latency, answers=answers, ttls=[ttl] * len(answers),
        ))  # fmt: skip
        return out

    def _learn(self, flow: Record, seconds: int) -> None:
        node = flow.get("node_name")
        local = {"INGRESS": "destination", "EGRESS": "source"}.get(str(flow.get("traffic_direction")))
        for side in ("source", "destination"):
            ip, peer = _part(flow, "IP").get(side), _part(flow, side)
            labels = [label for label in _list(peer, "labels") if isinstance(label, str)]
            here = str(node) if isinstance(node, str) and local == side else ""
            if not isinstance(ip, str):
                continue
            if isinstance(peer.get("pod_name"), str):
                owners = [o for o in _list(peer, "workloads") if isinstance(o, dict)]
                workload = f"{owners[0].get('kind', '')}/{owners[0].get('name', '')}" if owners else ""
                self._names.tell(ip, seconds, "Pod", str(peer.get("namespace", "")), peer["pod_name"], node=here,
                                 workload=workload, labels=_labels(labels))  # fmt: skip
            elif "reserved:host" in labels and isinstance(node, str):
                self._names.tell(ip, seconds, "Node", "", node)


def _part(value: Record, name: str) -> Record:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Record, name: str) -> list[Any]:
    found = value.get(name)
    return found if isinstance(found, list) else []


def _labels(labels: list[str]) -> dict[str, str]:
    """Return a pod's own labels without those that Cilium adds."""
    pairs = (label.removeprefix("k8s:").partition("=") for label in labels if label.startswith("k8s:"))
    return {key: value for key, _, value in pairs if not key.startswith(("io.cilium.", "io.kubernetes."))}


def _time(flow: Record | None, record: Record) -> str | None:
    value = (flow or {}).get("time", record.get("time"))
    return value if isinstance(value, str) else None


def _check_other(record: Record) -> None:
    """Let records of the other kinds pass.

    Raises:
        ValueError: it is of no kind that Hubble has.
    """
    if not record.keys() & _OTHER_KINDS:
        message = "neither a flow nor another record of Hubble"
        raise ValueError(message)


def _lost_events(record: Record) -> int:
    return whole(_part(record, "lost_events").get("num_events_lost"))


def _ends(flow: Record) -> tuple[tuple[Endpoint, Endpoint], int, Record]:
    """Return source and destination, the protocol, and what its header says."""
    layers = _part(flow, "l4")
    name = next((name for name in _PROTOCOLS if isinstance(layers.get(name), dict)), None)
    if name is None:
        message = "no transport protocol that is known"
        raise ValueError(message)
    layer, ip = layers[name], _part(flow, "IP")
    ports = (layer.get("source_port"), layer.get("destination_port"))
    return (endpoint(ip.get("source"), ports[0]), endpoint(ip.get("destination"), ports[1])), _PROTOCOLS[name], layer


def _initiator(
    flow: Record, ends: tuple[Endpoint, Endpoint], proto: int, flags: int, kind: int
) -> Endpoint | None:  # fmt: skip
    """Return who began: connection tracking knows it, else the handshake shows it."""
    reply = flow.get("is_reply")
    if isinstance(reply, bool):
        return ends[1] if reply else ends[0]
    if proto == TCP and flags & SYN:
        return ends[1] if flags & ACK else ends[0]
    return icmp_initiator(*ends, proto, kind)


def _verdict(flow: Record) -> tuple[int, str]:
    """Return what policy decided and the policies that did."""
    verdict, reason = flow.get("verdict"), str(flow.get("drop_reason_desc", ""))
    if verdict == "DROPPED" and reason in _POLICY_REASONS:
        return Verdict.DENIED, _policy(flow, "denied")
    if verdict in ("FORWARDED", "REDIRECTED", "AUDIT"):
        return Verdict.ALLOWED, _policy(flow, "allowed")
    return Verdict.UNKNOWN, ""


def _policy(flow: Record, how: str) -> str:
    for direction in ("ingress", "egress"):
        for policy in _list(flow, f"{direction}_{how}_by"):
            if isinstance(policy, dict) and isinstance(policy.get("name"), str):
                return "/".join(p for p in (policy.get("namespace"), policy["name"]) if isinstance(p, str))[:MAX_TEXT]
    return ""


def _row(ends: tuple[Endpoint, Endpoint], proto: int, forward: bool, flags: int) -> dict[str, Any]:
    side = "src" if forward else "dst"
    row: dict[str, Any] = {"src": ends[0][0], "dst": ends[1][0], "src_port": ends[0][1], "dst_port": ends[1][1]}
    row |= {"proto": proto, f"{side}_flags": flags, f"{side}_fin": int(flags & FIN > 0)}
    row[f"{side}_rst"] = int(flags & RST > 0)
    if forward:
        row["src_syn"] = int(flags & SYN > 0 and not flags & ACK)
    else:
        row["dst_synack"] = int(flags & SYN > 0 and flags & ACK > 0)
    return row


def _marks(flow: Conversation, proto: int, forward: bool, flags: int, kind: int) -> int:
    begins = flags & SYN > 0 and not flags & ACK if proto == TCP else True
    return new_marks(
        flow, proto, forward, begins=is_question(proto, kind) if proto in (ICMP, ICMP6) else begins,
        syn_ack=flags & SYN > 0 and flags & ACK > 0, reset=flags & RST > 0, ack=flags & ACK > 0,
    )  # fmt: skip
