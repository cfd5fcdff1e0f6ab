"""Address arithmetic over the whole IPv4 and IPv6 space, on plain integers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_LAST = {4: 2**32 - 1, 6: 2**128 - 1}
_MAPPED_PREFIX = 96
# Proofs ask for the same texts again and again; a large cluster has some ten thousand of them.
_REMEMBERED = 65536


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The addresses `low`..`high` (inclusive, as integers) of one family, 4 or 6."""

    family: int
    low: int
    high: int

    def covers(self, other: Span) -> bool:
        """Whether every address of `other` is in this span."""
        return self.family == other.family and self.low <= other.low and other.high <= self.high

    def address(self) -> str:
        """The lowest address, as text."""
        made = ipaddress.IPv4Address(self.low) if self.family == 4 else ipaddress.IPv6Address(self.low)
        return str(made)


@lru_cache(maxsize=_REMEMBERED)
def span_of_address(text: str) -> Span:
    """The span of one address; an IPv4-mapped IPv6 address is the IPv4 one. Raises ValueError."""
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return Span(address.version, int(address), int(address))


@lru_cache(maxsize=_REMEMBERED)
def span_of_cidr(text: str) -> Span:
    """The span of a CIDR block. Raises ValueError.

    Host bits are ignored and IPv4-mapped blocks are IPv4, as the API server reads old objects that its present
    validation would refuse.
    """
    network = ipaddress.ip_network(text, strict=False)
    first = network.network_address
    mapped = getattr(first, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= _MAPPED_PREFIX:
        network = ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED_PREFIX}")
    return Span(network.version, int(network.network_address), int(network.broadcast_address))


def host_cidr(text: str) -> str:
    """One address as the CIDR block that holds only it. Raises ValueError."""
    span = span_of_address(text)
    return f"{span.address()}/{32 if span.family == 4 else 128}"


def cut_space(spans: Iterable[Span]) -> list[Span]:
    """The whole IPv4 and IPv6 space cut at the edges of `spans`, in order.

    Every given span is a union of returned ones, so no policy built from them can tell two addresses of one cell apart.
    """
    edges: dict[int, set[int]] = {4: {0}, 6: {0}}
    for span in spans:
        edges[span.family].add(span.low)
        if span.high < _LAST[span.family]:
            edges[span.family].add(span.high + 1)
    cells: list[Span] = []
    for family in (4, 6):
        starts = sorted(edges[family])
        ends = [start - 1 for start in starts[1:]] + [_LAST[family]]
        cells += [Span(family, low, high) for low, high in zip(starts, ends, strict=True)]
    return cells
