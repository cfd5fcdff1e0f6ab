"""What may be in the tables of a node: pairs that are cut and ports that are limited, each under one name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from schemas.node_command import Cut, Limit, Transport

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class CutKey:
    """A pair of addresses or blocks, in canonical text; packets are dropped both ways.

    Without a port the two sides are in order of their addresses: the pair is the same from either side.
    """

    source: str
    destination: str
    protocol: Transport | None = None
    port: int | None = None

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.source else 4

    def text(self) -> str:
        """The pair in one line."""
        if self.port is None:
            return f"{self.source} ↔ {self.destination}"
        return f"{self.source} → {self.destination} {self.protocol}/{self.port}"


@dataclass(frozen=True, slots=True)
class LimitKey:
    """A port of an address, in canonical text."""

    victim: str
    protocol: Transport
    port: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.victim else 4

    def text(self) -> str:
        """The port in one line."""
        return f"{self.victim} {self.protocol}/{self.port}"


Key = CutKey | LimitKey


@dataclass(frozen=True, slots=True)
class Rates:
    """New connections per second: of each source, and of all together."""

    per_source: int
    in_all: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """That something is to be in the tables until a time (s since epoch); `rates` of limits only."""

    response_id: str
    expires_at: float
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class Present:
    """What is in the tables under a key: whose, for how long still, and what it dropped.

    `name` is the chain of a limit, which differs where its rates do; empty for cuts.
    """

    response_id: str
    expires_in: int
    packets: int
    bytes: int
    name: str = ""


def canonical(text: str) -> str:
    """The text of an address, or of a block where it is more than one.

    Raises:
        ValueError: not an address or block, or one that no packet carries in this form.
    """
    network = network_of(text)
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def network_of(text: str) -> Network:
    """The addresses that a text names.

    Raises:
        ValueError: as for `canonical`.
    """
    if "%" in text:
        message = f"{text[:64]!r} names an interface"
        raise ValueError(message)
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        message = f"{text[:64]!r} is an IPv4 address written as IPv6: write it as IPv4"
        raise ValueError(message)
    return network


def key_of(entry: Cut | Limit) -> Key:
    """The key of something commanded.

    Raises:
        ValueError: an address is none, the sides are of two versions or the same, or a port lacks its protocol.
    """
    if isinstance(entry, Limit):
        return LimitKey(canonical(entry.victim), entry.protocol, entry.port)
    source, destination = network_of(entry.source), network_of(entry.destination)
    if source.version != destination.version:
        message = f"{entry.source} and {entry.destination} are of different versions of IP"
        raise ValueError(message)
    if source.overlaps(destination):
        message = f"{entry.source} and {entry.destination} are the same"
        raise ValueError(message)
    if (entry.port is None) != (entry.protocol is None):
        message = "a protocol and a port belong together"
        raise ValueError(message)
    sides = (source, destination) if entry.port is not None else _ordered(source, destination)
    return CutKey(canonical(str(sides[0])), canonical(str(sides[1])), entry.protocol, entry.port)


def _ordered(one: Network, other: Network) -> tuple[Network, Network]:
    return (one, other) if one.network_address.packed <= other.network_address.packed else (other, one)


def overlap(one: CutKey, other: CutKey) -> bool:
    """Whether two different keys name a pair in common, so that no set can hold both."""
    if one == other or (one.version, one.protocol, one.port) != (other.version, other.protocol, other.port):
        return False
    if "/" not in f"{one.source}{one.destination}{other.source}{other.destination}":
        return False
    a, b, c, d = map(ip_network, (one.source, one.destination, other.source, other.destination))
    return bool(a.overlaps(c) and b.overlaps(d))


def chain_name(key: LimitKey, rates: Rates) -> str:
    """The name of a limit's chain: another for other rates, so that a change never edits a chain in use."""
    what = f"{key.text()} {rates.per_source} {rates.in_all}"
    return f"limit_{hashlib.sha256(what.encode()).hexdigest()[:16]}"
