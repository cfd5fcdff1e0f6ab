"""Sigma's log sources about flows and DNS, and which of our columns their fields are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detectors.row_filter import RowKind


@dataclass(frozen=True)
class SigmaSource:
    """One log source: the kind of row that it is here, and our columns by its field names."""

    kind: RowKind
    fields: Mapping[str, str]

    @property
    def actor(self) -> str:
        """The column that a count of these rows is kept for."""
        return "src" if self.kind == "flow" else "client"


_ZEEK_ENDS = {"id.orig_h": "src", "id.orig_p": "src_port", "id.resp_h": "dst", "id.resp_p": "dst_port"}
_ZEEK_CONN = {
    **_ZEEK_ENDS, "proto": "proto", "service": "app", "conn_state": "conn_state", "vlan": "vlan",
    "orig_bytes": "total_src_payload", "resp_bytes": "total_dst_payload",
    "orig_pkts": "total_src_packets", "resp_pkts": "total_dst_packets",
    "orig_ip_bytes": "total_src_bytes", "resp_ip_bytes": "total_dst_bytes",
}  # fmt: skip
_DNS_ENDS = {"src_ip": "client", "dst_ip": "server", "src_port": "client_port"}
_ZEEK_DNS = {
    "id.orig_h": "client", "id.orig_p": "client_port", "id.resp_h": "server", "proto": "transport",
    "query": "qname", "qtype": "qtype", "qtype_name": "qtype", "rcode": "rcode", "rcode_name": "rcode",
    "answers": "record_data", "trans_id": "id",
}  # fmt: skip
_DNS = {
    **_DNS_ENDS, "query": "qname", "QueryName": "qname", "record_type": "qtype", "rcode": "rcode",
    "answer": "record_data", "answers": "record_data",
}  # fmt: skip
_FIREWALL = {
    "src_ip": "src", "src_port": "src_port", "dst_ip": "dst", "dst_port": "dst_port", "proto": "proto",
    "protocol": "proto", "action": "verdict",
}  # fmt: skip
_CONNECTION = {
    **_FIREWALL, "SourceIp": "src", "SourcePort": "src_port", "DestinationIp": "dst", "DestinationPort": "dst_port",
    "Protocol": "proto",
}  # fmt: skip

# By product, service and category; an entry of none fits whatever the rule says there.
_SOURCES: tuple[tuple[str | None, str | None, str | None, SigmaSource], ...] = (
    ("zeek", "conn", None, SigmaSource("flow", _ZEEK_CONN)),
    ("zeek", "dns", None, SigmaSource("dns", _ZEEK_DNS)),
    ("zeek", None, "dns", SigmaSource("dns", _ZEEK_DNS)),
    (None, None, "dns", SigmaSource("dns", _DNS)),
    (None, None, "dns_query", SigmaSource("dns", _DNS)),
    (None, None, "firewall", SigmaSource("flow", _FIREWALL)),
    (None, None, "network_connection", SigmaSource("flow", _CONNECTION)),
)
KNOWN_SOURCES = "zeek conn, zeek dns, and the categories dns, dns_query, firewall and network_connection"

# Zeek's names of services by which we guess too, and our names.
APPLICATIONS: Mapping[str, str] = {
    "ssl": "tls", "http": "http", "ssh": "ssh", "dns": "dns", "quic": "quic", "smb": "smb", "ftp": "ftp",
    "rdp": "rdp", "smtp": "smtp",
}  # fmt: skip
# What firewalls call their decisions.
VERDICTS: Mapping[str, str] = {
    **dict.fromkeys(("allow", "allowed", "accept", "accepted", "permit", "permitted", "pass"), "allowed"),
    **dict.fromkeys(("deny", "denied", "block", "blocked", "drop", "dropped", "reject", "rejected"), "denied"),
}
# Zeek's states of a connection that some mark of ours says too.
CONNECTION_STATES: Mapping[str, str] = {"S0": "unanswered", "REJ": "refused"}

# Columns that have the same value in all rows of a flow, or of a query: they can be judged when it begins.
CONSTANT: Mapping[RowKind, frozenset[str]] = {
    "flow": frozenset(
        {"src", "dst", "src_port", "dst_port", "proto", "icmp_type", "icmp_code", "vlan", "vni", "verdict"}
    ),
    "dns": frozenset({"client", "server", "client_port", "transport", "qname", "qtype", "id"}),
}


def source_of(product: str | None, service: str | None, category: str | None) -> SigmaSource | None:
    """Return what a log source is here; none where it is neither flows nor DNS."""
    for wanted_product, wanted_service, wanted_category, source in _SOURCES:
        pairs = ((wanted_product, product), (wanted_service, service), (wanted_category, category))
        if all(wanted is None or wanted == given for wanted, given in pairs):
            return source
    return None
