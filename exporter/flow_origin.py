"""Who began a flow: told from its first packet.

TCP: a SYN comes from the initiator, a SYN-ACK or a RST from the responder. Probes with odd flags (no
ACK, no SYN, no RST) come from the initiator: nothing else sends them. Whatever carries ACK joined in
mid-stream, or is an ACK probe: the side with the well-known, else the lower, port is taken for the
responder, and the direction is marked as guessed. An answer to an ICMP question comes from the
responder. Everything else: the first sender is the initiator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.chunks import I64, U8
from exporter.flow_keys import is_answer, is_question
from exporter.flow_state import ATTEMPT, JOINED, KNOWN, PAIRED
from exporter.network_layer import Bool
from exporter.packets import ACK, ICMP, ICMP6, RST, SYN, TCP, UDP, Packets

_WELL_KNOWN = 1024


@dataclass(frozen=True)
class Origins:
    """Shape (n,): ``reversed`` where the first packet came from the responder; ``bits`` of FlowState."""

    reversed: Bool
    bits: U8


@dataclass(frozen=True)
class Resync:
    """Until when a flow without a beginning is taken for one that is older than the exporter.

    Attributes:
        tcp: ns since epoch, for TCP packets that carry no payload; 0: never, as in captures.
        others: ns since epoch, for whatever is not TCP.
    """

    tcp: int = 0
    others: int = 0


def origins(packets: Packets, first: I64, start: Resync) -> Origins:
    """Judge flows by their first packets, given by position."""
    proto, flags = packets.net.proto[first], packets.flags[first]
    source, target = packets.src_port[first], packets.dst_port[first]
    later = packets.net.later[first]
    tcp = (proto == TCP) & ~later
    syn, ack, rst = flags & SYN != 0, flags & ACK != 0, flags & RST != 0
    from_responder = tcp & ((syn & ack) | rst)
    middle = tcp & ack & ~syn & ~rst
    source_served, target_served = source < _WELL_KNOWN, target < _WELL_KNOWN
    served = np.where(source_served != target_served, source_served, source < target)
    from_responder |= middle & served
    icmp = ((proto == ICMP) | (proto == ICMP6)) & ~later
    answer = icmp & is_answer(proto, packets.icmp_type[first])
    question = icmp & is_question(proto, packets.icmp_type[first])
    # An unanswered question's answer, late: a low source port on UDP is a server's.
    udp_late = (proto == UDP) & source_served & ~target_served
    known = ~later & ~middle & ~rst & ~udp_late
    # Payload in mid-stream is a conversation that began before; without any, it may be an ACK probe.
    attempt = ~later & ~from_responder & ~(middle & (packets.payload[first] > 0)) & (~icmp | question)
    if start.tcp:
        times = packets.times[first]
        attempt &= ~(middle & (times < start.tcp)) & (tcp | (times >= start.others))
    bits = known * KNOWN | attempt * ATTEMPT
    bits |= (tcp & ~syn) * JOINED | (attempt & ~udp_late) * PAIRED
    return Origins(from_responder | answer, bits.astype(np.uint8))
