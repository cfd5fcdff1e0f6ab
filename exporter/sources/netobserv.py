"""NetObserv flows: JSON lines as flowlogs-pipeline writes them, its older schema, and Loki's answers with them.

Fields: https://github.com/netobserv/network-observability-operator/blob/main/docs/flows-format.adoc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

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
from exporter.sources.text_columns import mac_number
from schemas.events import MAX_TEXT, Capability, Verdict

_MS, _SECOND = 1_000_000, 1_000_000_000
_FLAG_NAMES = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128,
               "SYN_ACK": 256, "FIN_ACK": 512, "RST_ACK": 1024}  # fmt: skip
_SYN_ACK, _FIN_ACK, _RST_ACK = 256, 512, 1024
# Causes by which a policy drops, not a full queue or a stale sequence number (Linux and Open vSwitch names).
_POLICY_CAUSES = ("NETFILTER_DROP", "OVS_DROP_EXPLICIT", "OVS_DROP_REASON_EXPLICIT", "SOCKET_FILTER", "TC_EGRESS",
                  "TC_INGRESS", "XDP", "CPU_POLICY")  # fmt: skip
_DNS_PORTS = (53, 5353)
_BASE = ("src", "dst", "src_port", "dst_port", "proto", "src_packets", "dst_packets", "src_bytes", "dst_bytes",
         "icmp_type", "icmp_code", "src_mac", "direction_known")  # fmt: skip
_FLAG_COLUMNS = ("src_syn", "dst_synack", "src_fin", "dst_fin", "src_rst", "dst_rst", "src_flags", "dst_flags")


class NetObserv(LogReader):
    """One direction of a flow per record, for some seconds, from every node and interface that saw it."""

    id = "netobserv_json"
    title = "NetObserv flows"

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        able = Capability.PACKETS | Capability.REVERSE | Capability.PORTS | Capability.ICMP
        fields: set[str] = set().union(*head.records)
        able |= Capability.TCP_FLAGS if "Flags" in fields else Capability(0)
        able |= Capability.EXACT_TIME if any(head.field("TimeFlowStartMs")) else Capability(0)
        able |= Capability.INTERFACES if fields & {"Interface", "Interfaces"} else Capability(0)
        able |= Capability.VERDICT if fields & {"NetworkEvents", "PktDropPackets"} else Capability(0)
        able |= Capability.DNS | Capability.DNS_LATENCY if any(head.field("DnsName")) else Capability(0)
        self._able = able

    @classmethod
    def recognises(cls, head: Head) -> bool:
        """Endpoints, protocol and bytes by their names."""
        return any({"SrcAddr", "DstAddr", "Proto"} <= record.keys() for record in head.records)

    @property
    def capabilities(self) -> Capability:
        """By the fields that records have."""
        return self._able

    @property
    def notes(self) -> Sequence[str]:
        """What these records leave out."""
        notes = ["NetObserv: each record is one direction; unanswered attempts and ends of flows are not told"]
        if Capability.TCP_FLAGS in self._able:
            notes.append("NetObserv: flags are known once per record, packets and bytes are scaled up from samples")
        if Capability.DNS in self._able:
            notes.append("NetObserv: DNS names end after 31 bytes and come with answers only; types are not told")
        if Capability.EXACT_TIME not in self._able:
            notes.append("NetObserv: only the time of receipt is known, not when flows began and ended")
        return notes

    def read(self, source: ByteSource, reading: Reading) -> Iterator[RecordBlock]:
        """Read all records."""
        state = _State(reading, self._able)
        for numbers, records, lost in read_records(source, reading.settings.reading, reading.damaged, reading.path):
            yield state.block(numbers, records, lost)


class _State:
    """What is remembered from record to record."""

    def __init__(self, reading: Reading, able: Capability) -> None:
        self._reading, self._able = reading, able
        self._flows, self._points = Conversations(), PointsOfView()
        self._names = LearnedNames(reading.report)
        self._columns = [*_BASE]
        self._columns += _FLAG_COLUMNS if Capability.TCP_FLAGS in able else ()
        self._columns += ("interface",) if Capability.INTERFACES in able else ()
        self._columns += ("verdict", "policy") if Capability.VERDICT in able else ()

    def block(self, numbers: list[int], records: list[Record], lost: int) -> RecordBlock:
        """Return the rows of some records."""
        rows: list[dict[str, Any]] = []
        lookups: list[DnsLookup] = []
        taken, sampling = 0, 1
        for number, record in zip(numbers, records, strict=True):
            try:
                row, lookup = self._take(record)
                sampling = max(sampling, whole(record.get("Sampling"), 1 << 32))
            except ValueError as error:
                lost += self._reading.damaged.add([number], str(error)[:100])
                continue
            taken += row is not None
            rows += [row] if row is not None else []
            lookups += [lookup] if lookup is not None else []
        out = [event_rows(flow_records(rows, self._columns), self._reading.salt)] if rows else []
        if lookups:
            out.append(lookup_rows(lookups, 0, 1, answers=False, latency=True))
        return RecordBlock(out, taken, lost, sampling=sampling)

    def _take(self, record: Record) -> tuple[dict[str, Any] | None, DnsLookup | None]:
        """Return what a record says; nothing where it only repeats what another said."""
        if record.get("_RecordType", "flowLog") not in ("flowLog", "endConnection"):
            # Beginnings and heartbeats of a conversation say in part what its end says whole.
            return None, None
        source = endpoint(record.get("SrcAddr"), record.get("SrcPort"))
        target = endpoint(record.get("DstAddr"), record.get("DstPort"))
        proto = whole(record.get("Proto"), 255)
        start, end = _times(record)
        flags = _flags(record.get("Flags")) if Capability.TCP_FLAGS in self._able else 0
        kind = whole(record.get("IcmpType"), 255)
        self._learn(record, end // _SECOND)
        verdict, policy = _verdict(record)
        point = (record.get("AgentIP"), _interface(record), str(record.get("FlowDirection")))
        what = (source, target, proto, verdict == Verdict.DENIED, whole(record.get("DnsId"), 65_535))
        if self._points.repeats(what, point, end):
            self._reading.report.repeated += 1
            return None, None
        began = _initiator(source, target, proto, flags, kind)
        flow = self._flows.find(source, target, proto, start, began)
        if "_RecordType" in record and record["_RecordType"] == "endConnection":
            if flow.sliced:
                self._reading.report.repeated += 1
                return None, None
        else:
            flow.sliced = True
        forward = flow.initiator == source
        row = _row(record, (source, target) if forward else (target, source), forward, flags)
        row |= {
            "conn_start": flow.began, "start": start, "end": end, "proto": proto,
            "direction_known": flow.known, "verdict": verdict,
            "policy": policy, "marks": _marks(flow, proto, forward, flags, kind), "icmp_type": kind if forward else 0,
            "icmp_code": whole(record.get("IcmpCode"), 255) if forward else 0,
        }  # fmt: skip
        if proto in (ICMP, ICMP6):
            row |= {"src_port": 0, "dst_port": 0}
        lookup = _lookup(record, source, target, start) if Capability.DNS in self._able else None
        return row, lookup

    def _learn(self, record: Record, seconds: int) -> None:
        for side in ("Src", "Dst"):
            name = _text(record, f"{side}K8S_Name") or _text(record, f"{side}Pod")
            namespace = _text(record, f"{side}K8S_Namespace") or _text(record, f"{side}Namespace")
            kind = _text(record, f"{side}K8S_Type") or ("Pod" if name else "")
            owner = _text(record, f"{side}K8S_OwnerName") or _text(record, f"{side}Workload")
            owner_kind = _text(record, f"{side}K8S_OwnerType") or _text(record, f"{side}WorkloadKind")
            self._names.tell(
                str(record[f"{side}Addr"]), seconds, kind, "" if kind == "Node" else namespace, name,
                workload=f"{owner_kind}/{owner}" if owner and owner_kind and kind == "Pod" else "",
                node=_text(record, f"{side}K8S_HostName") if kind == "Pod" else "",
            )  # fmt: skip


def _text(record: Record, name: str) -> str:
    value = record.get(name)
    return value[:253] if isinstance(value, str) else ""


def _times(record: Record) -> tuple[int, int]:
    """Return start and end in ns since epoch; the time of receipt where neither is known."""
    start, end = (whole(record.get(f"TimeFlow{side}Ms")) for side in ("Start", "End"))
    received = whole(record.get("TimeReceived"), 1 << 34) * _SECOND
    end_ns = (end or start) * _MS or received
    if not 0 < end_ns < 9_000_000_000 * _SECOND:
        message = "no time that can be read"
        raise ValueError(message)
    return min(start * _MS or end_ns, end_ns), end_ns


def _flags(value: Any) -> int:
    """Return flags given as a number or as a list of names."""
    if isinstance(value, list):
        return sum({_FLAG_NAMES.get(str(name), 0) for name in value})
    return whole(value, 0xFFFF)


def _interface(record: Record) -> str:
    several = record.get("Interfaces")
    first = several[0] if isinstance(several, list) and several else record.get("Interface")
    return first[:MAX_TEXT] if isinstance(first, str) else ""


def _initiator(source: Endpoint, target: Endpoint, proto: int, flags: int, kind: int) -> Endpoint | None:
    if proto == TCP and flags & (SYN | _SYN_ACK):
        return target if flags & _SYN_ACK else source
    return icmp_initiator(source, target, proto, kind)


def _marks(flow: Conversation, proto: int, forward: bool, flags: int, kind: int) -> int:
    begins = flags & SYN > 0 if proto == TCP else is_question(proto, kind) if proto in (ICMP, ICMP6) else True
    return new_marks(
        flow, proto, forward, begins=begins, syn_ack=flags & _SYN_ACK > 0, reset=flags & (RST | _RST_ACK) > 0,
        ack=flags & ACK > 0,
    )  # fmt: skip


def _row(record: Record, ends: tuple[Endpoint, Endpoint], forward: bool, flags: int) -> dict[str, Any]:
    """Return endpoints, counts and flags of the side that sent."""
    scale = max(1, whole(record.get("Sampling"), 1 << 32))
    side, other = ("src", "dst") if forward else ("dst", "src")
    back = {"src": "_AB", "dst": "_BA"} if "Bytes_AB" in record else {}
    row: dict[str, Any] = {"src": ends[0][0], "dst": ends[1][0], "src_port": ends[0][1], "dst_port": ends[1][1]}
    for name, ours in (("Packets", "packets"), ("Bytes", "bytes")):
        row[f"{side}_{ours}"] = whole(record.get(name + ("_AB" if back else "")), 1 << 48) * scale
        if back:
            row[f"{other}_{ours}"] = whole(record.get(f"{name}_BA"), 1 << 48) * scale
    plain = flags & 0xFF
    for bit, bits in ((_SYN_ACK, SYN | ACK), (_FIN_ACK, FIN | ACK), (_RST_ACK, RST | ACK)):
        plain |= bits if flags & bit else 0
    row |= {f"{side}_flags": plain, f"{side}_fin": int(flags & (FIN | _FIN_ACK) > 0)}
    row[f"{side}_rst"] = int(flags & (RST | _RST_ACK) > 0)
    row |= {"src_syn": int(flags & SYN > 0)} if forward else {"dst_synack": int(flags & _SYN_ACK > 0)}
    if forward:
        row |= {"src_mac": mac_number(str(record.get("SrcMac", ""))), "interface": _interface(record)}
    return row


def _verdict(record: Record) -> tuple[int, str]:
    """Return what policy decided and which policy it was."""
    events = record.get("NetworkEvents")
    for event in events if isinstance(events, list) else ():
        if not isinstance(event, dict):
            continue
        action = str(event.get("Action", "")).lower()
        name = "/".join(p for p in (_text(event, "Namespace"), _text(event, "Name")) if p)
        if action in ("drop", "deny", "reject"):
            return Verdict.DENIED, name
        if action.startswith("allow"):
            return Verdict.ALLOWED, name
    cause = str(record.get("PktDropLatestDropCause", "")).upper()
    dropped = whole(record.get("PktDropPackets"))
    if dropped and any(word in cause for word in _POLICY_CAUSES) and dropped >= whole(record.get("Packets")):
        return Verdict.DENIED, ""
    return Verdict.UNKNOWN, ""


def _lookup(record: Record, source: Endpoint, target: Endpoint, start: int) -> DnsLookup | None:
    """Return the question that an answer's record names; only answers carry names and latency."""
    name = _text(record, "DnsName")
    if not whole(record.get("DnsId"), 65_535) or not name or source[1] not in _DNS_PORTS:
        return None
    latency = whole(record.get("DnsLatencyMs"), 1 << 32) * _MS
    return DnsLookup(
        time=max(1, start - latency), client=target[0], server=source[0], qname=name_text(name), client_port=target[1],
        transport=whole(record.get("Proto"), 255), id=whole(record.get("DnsId"), 65_535), latency=latency or -1,
        flags=whole(record.get("DnsFlags"), 65_535),
    )  # fmt: skip
