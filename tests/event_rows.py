"""Builders of event messages for tests: rows as plain words, times relative to ``BEGIN``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from schemas.event_codec import EventMessage, rows_to_batch
from schemas.events import CAPTURE_CAPABILITIES, EventHeader, FlowMark, LinkClaim

BEGIN = 1_700_000_100  # a whole minute and a whole 25 s bucket

TCP, UDP, ICMP = 6, 17, 1
OPENED, ESTABLISHED, REFUSED = int(FlowMark.OPENED), int(FlowMark.ESTABLISHED), int(FlowMark.REFUSED)
UNANSWERED, CLOSED, EXCHANGED = int(FlowMark.UNANSWERED), int(FlowMark.CLOSED), int(FlowMark.EXCHANGED)
CONVERSATION = OPENED | ESTABLISHED | EXCHANGED

Row = dict[str, Any]


def flow(src: str, dst: str, port: int = 80, *, marks: int = OPENED, proto: int = TCP, **more: Any) -> Row:
    """A flow row; an unanswered attempt unless told otherwise."""
    row: Row = {"src": src, "dst": dst, "proto": proto, "dst_port": port, "src_port": 40000, "marks": marks}
    row |= {"src_packets": 1, "src_bytes": 60, "ttl_min": 64, "ttl_max": 64}
    if proto == TCP:
        row |= {"src_syn": 1, "src_flags": 2}
    return row | more


def query(client: str, name: str, *, server: str = "10.0.0.53", **more: Any) -> Row:
    """A DNS row of an answered query."""
    row: Row = {"client": client, "server": server, "qname": name, "qtype": 1, "transport": UDP, "rcode": 0}
    return row | {"answer_number": 1, "query_bytes": 40, "answer_bytes": 80} | more


def mac(number: int) -> int:
    """A locally administered hardware address."""
    return 0x020000000000 | number


BROADCAST = 0xFFFFFFFFFFFF


def arp(sender: int, claimed: str, target: str, *, reply: bool = False, to: int = BROADCAST, **more: Any) -> Row:
    """An ARP request to everybody, or a reply to one hardware address; hardware addresses by number."""
    claim = LinkClaim.ARP_REPLY if reply else LinkClaim.ARP_REQUEST
    row: Row = {"claim": claim, "mac": mac(sender), "claimed_mac": mac(sender), "claimed": claimed, "target": target}
    return row | {"destination_mac": to if to == BROADCAST else mac(to)} | more


def dhcp(claim: int, sender: int, client: int, *, lease: str = "::", speaker: str = "::", **more: Any) -> Row:
    """A DHCP message; ``sender`` and ``client`` are hardware addresses by number."""
    row: Row = {"claim": claim, "mac": mac(sender), "claimed_mac": mac(client), "destination_mac": BROADCAST}
    return row | {"claimed": lease, "speaker": speaker, "number": 7} | more


def certificate(server: str, issuer: str, *, name: str = "pay.example", **more: Any) -> Row:
    """A TLS row that shows a certificate."""
    row: Row = {"src": "10.0.0.9", "dst": server, "src_port": 40000, "dst_port": 443, "sni": name}
    return row | {"certificate": f"{len(issuer):064x}", "issuer": issuer} | more


class Node:
    """Makes the messages of one node, in order."""

    def __init__(self, name: str = "node1", boot: str = "one", **header: Any) -> None:
        self.name = name
        self._boot = boot
        self._sequence = 0
        self._header = header

    def second(self, at: int, *, flows: Sequence[Row] = (), dns: Sequence[Row] = (), link: Sequence[Row] = (),
               tls: Sequence[Row] = (), http: Sequence[Row] = (), **header: Any) -> EventMessage:  # fmt: skip
        """The message of the second that ends ``at`` seconds after ``BEGIN``."""
        cut = BEGIN + at
        fields = {"exporter": "test", "capabilities": int(CAPTURE_CAPABILITIES), "clock": "capture"}
        fields |= {**self._header, **header}
        head = EventHeader(
            cluster="test", node=self.name, boot=self._boot, sequence=self._sequence, cut=cut, source="capture",
            **fields,
        )  # fmt: skip
        self._sequence += 1
        kinds = (("flow", flows), ("dns", dns), ("link", link), ("tls", tls), ("http", http))
        batches = {kind: rows_to_batch(kind, list(rows), cut) for kind, rows in kinds if rows}
        return EventMessage(head, batches)


_ONE = flow("10.0.0.1", "10.0.0.2")


class LiveNode(Node):
    """A node with a clock; ``ahead`` s wrong."""

    def __init__(self, name: str = "node1", boot: str = "one", ahead: float = 0.0) -> None:
        super().__init__(name, boot, clock="live")
        self.ahead = ahead

    def at(
        self, second: float, *, cut: int | None = None, delay: float = 0.05, flows: Sequence[Row] = (_ONE,), **more: Any
    ) -> EventMessage:
        """What it sends at a true second; its cut is that of its own clock, unless told otherwise."""
        sent = BEGIN + second + self.ahead
        own = int(second + self.ahead) if cut is None else cut
        message = self.second(own, sent_at=int(sent * 1e9), flows=flows, **more)
        return replace(message, appended_ms=int((BEGIN + second + delay) * 1000))
