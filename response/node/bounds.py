"""What a node refuses to do, whoever signed it: the last guard before packets are dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from response.guard import Refusal
from response.node.entries import CutKey, Key, LimitKey, Network, Rates, network_of, overlap
from response.node.settings import NodeAgentSettings
from schemas.node_command import Capture


@dataclass(frozen=True, slots=True)
class Bounds:
    """The settings' bounds, and the addresses that nothing may touch: the settings' and the node's own."""

    settings: NodeAgentSettings
    untouchable: tuple[Network, ...] = ()

    def with_addresses(self, texts: Iterable[str]) -> Bounds:
        """These bounds, with the settings' list and some addresses as the ones that nothing may touch."""
        blocks = {ip_network(text.partition("%")[0]) for text in (*self.settings.never, *texts)}
        return Bounds(self.settings, tuple(sorted(blocks, key=str)))

    def refuse(self, key: Key, rates: Rates | None, seconds: float) -> Refusal | None:
        """Why an entry is not set for so many seconds, or none."""
        if seconds > self.settings.max_timeout_s:
            message = f"{key.text()} for {seconds:.0f} s; at most {self.settings.max_timeout_s} s are allowed"
            return Refusal("too_long", message)
        sides = (key.source, key.destination) if isinstance(key, CutKey) else (key.victim,)
        for side in sides:
            refusal = self._refuse_side(side)
            if refusal is not None:
                return refusal
        return self._refuse_rates(key, rates) if isinstance(key, LimitKey) else None

    def refuse_capture(self, capture: Capture) -> Refusal | None:
        """Why a capture is not made here, or none; only looking harms nobody, whose address it ever is."""
        settings = self.settings
        if settings.capture_dir is None:
            return Refusal("no_capture_dir", "no captures are made on this node: see node_agent.capture_dir")
        asked = (capture.packets, capture.bytes, capture.seconds)
        most = (settings.capture_packets, settings.capture_bytes, settings.capture_s)
        if any(one > limit for one, limit in zip(asked, most, strict=True)):
            message = "{} packets, {} bytes, {} s are asked for; at most {}, {}, {} are allowed".format(*asked, *most)
            return Refusal("too_much", message)
        return None

    def refuse_overlap(self, key: Key, others: Iterable[Key]) -> Refusal | None:
        """Why an entry cannot stand beside others, or none: one set holds no pair twice."""
        for other in others:
            if isinstance(key, CutKey) and isinstance(other, CutKey) and overlap(key, other):
                return Refusal("overlaps", f"{key.text()} overlaps {other.text()}, which is cut already")
        return None

    def _refuse_side(self, text: str) -> Refusal | None:
        block = network_of(text)
        widest = self.settings.widest_ipv4 if block.version == 4 else self.settings.widest_ipv6
        if block.prefixlen < widest:
            return Refusal("too_wide", f"{text} is wider than /{widest}, the widest block that may be cut here")
        if block.is_loopback or block.is_multicast or block.is_link_local or block.is_unspecified:
            return Refusal("bad_address", f"{text} is a loopback, multicast, link-local or empty address")
        for other in self.untouchable:
            if other.version == block.version and other.overlaps(block):
                return Refusal("protected", f"{text} is or holds {other}, which nothing may touch on this node")
        return None

    def _refuse_rates(self, key: LimitKey, rates: Rates | None) -> Refusal | None:
        lowest = Rates(self.settings.lowest_per_source, self.settings.lowest_in_all)
        if rates is None or rates.per_source < lowest.per_source or rates.in_all < lowest.in_all:
            message = (
                f"{key.text()}: at least {lowest.per_source}/s per source and {lowest.in_all}/s in all must be left"
            )
            return Refusal("too_low", message)
        return None
