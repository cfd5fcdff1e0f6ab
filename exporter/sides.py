"""By which side of a node packets come and go, and which flows this node is the one to report.

A live exporter watches interfaces, and each shows whole conversations: what came in by it and what went out. A flow
between two pods of one node passes two of them, a flow between nodes four. It is reported once, where its initiator
is: at the interface by which the initiator's packets entered, before any policy and any translation there.

What enters by an uplink in the name of an address of the cluster is reported by that address's own node, as long as
it really comes from there. So it is held back here until its handshake is complete, and reported as a copy where it
does not complete: only victims count copies, and a flood in a neighbour's name is not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

import numpy as np

from exporter.chunks import I64, U8
from exporter.gather import U64
from exporter.network_layer import Bool
from exporter.translations import Translations
from exporter.tuples import Tuples

# Values of ``Interface.side``: from a pod into the node, from the node to a pod, and the same for uplinks.
UNKNOWN, FROM_POD, TO_POD, FROM_UPLINK, TO_UPLINK = range(5)
# Where answers to packets of a side pass.
_OTHER_WAY = np.array([UNKNOWN, TO_POD, FROM_POD, TO_UPLINK, FROM_UPLINK])
ENTERING = (UNKNOWN, FROM_POD, FROM_UPLINK)

# What is done about a flow.
REPORT, ELSEWHERE, UNFINISHED = range(3)

Network = IPv4Network | IPv6Network
_Masked = tuple[tuple[np.uint64, np.uint64], tuple[np.uint64, np.uint64]]
_MAPPED = 0xFFFF << 32
_HALF = (1 << 64) - 1


class Locality:
    """Which addresses are the node's own, and which belong to its cluster.

    Args:
        cluster: networks of pods and nodes; empty: every source of an uplink counts as outside.
        local: networks of this node's own pods, where interfaces do not tell them.

    Attributes:
        translations: what NAT does to connections; None: not known.
        sees_outside: an uplink is watched.
    """

    def __init__(self, cluster: Iterable[Network] = (), local: Iterable[Network] = ()) -> None:
        self._networks = [_masked(network) for network in cluster]
        self._local = [_masked(network) for network in local]
        self._own: U64 = np.zeros((0, 2), np.uint64)
        self.translations: Translations | None = None
        self.sees_outside = False

    def set_own(self, addresses: Iterable[str]) -> None:
        """Set the node's own addresses."""
        halves = sorted({_halves(_number(text)) for text in addresses})
        self._own = np.array(halves, np.uint64).reshape(-1, 2)

    def is_own(self, high: U64, low: U64) -> Bool:
        """Tell which addresses, given as halves, are the node's own; bool (n,)."""
        found = np.zeros(len(low), np.bool_)
        for own_high, own_low in self._own:
            found |= (low == own_low) & (high == own_high)
        return found

    def in_cluster(self, high: U64, low: U64) -> Bool:
        """Tell which addresses are inside the cluster's networks; bool (n,)."""
        return _inside(self._networks, high, low)

    def is_local(self, high: U64, low: U64) -> Bool:
        """Tell which addresses are of this node's own pods; bool (n,)."""
        return _inside(self._local, high, low)

    def judge(self, sides: I64, turned: Bool, ends: Tuples, proto: I64) -> U8:
        """Return what to do about new flows.

        Args:
            sides: side of each flow's first packet.
            turned: the first packet was the responder's.
            ends: initiators and responders.
            proto: IANA numbers.
        """
        src_high, src_low = ends.src_high, ends.src_low
        sides = np.where(turned, _OTHER_WAY[sides], sides)
        verdicts = np.full(len(sides), REPORT, np.uint8)
        leaving = np.flatnonzero((sides == TO_POD) | (sides == TO_UPLINK))
        if len(leaving):
            own = self.is_own(src_high[leaving], src_low[leaving])
            verdicts[leaving[~own]] = ELSEWHERE
            leaving = leaving[own]
            verdicts[leaving[self._translated(ends.some(leaving), proto[leaving])]] = ELSEWHERE
        arriving = np.flatnonzero(sides == FROM_UPLINK)
        if len(arriving):
            inside = self.in_cluster(src_high[arriving], src_low[arriving])
            verdicts[arriving[inside]] = UNFINISHED
        return verdicts

    def _translated(self, ends: Tuples, proto: I64) -> Bool:
        """Tell which flows are another one, of somebody else, that was seen where it entered."""
        if self.translations is None or not len(proto):
            return np.zeros(len(proto), np.bool_)
        known, high, low = self.translations.origins_of(ends, proto)
        entered = known & ~self.is_own(high, low)
        return entered if self.sees_outside else entered & self.in_cluster(high, low)


def _number(text: str) -> int:
    address = ip_address(text)
    return int(address) | _MAPPED if address.version == 4 else int(address)


def _halves(number: int) -> tuple[int, int]:
    return number >> 64, number & _HALF


def _inside(networks: Sequence[_Masked], high: U64, low: U64) -> Bool:
    found = np.zeros(len(low), np.bool_)
    for value, mask in networks:
        found |= (high & mask[0] == value[0]) & (low & mask[1] == value[1])
    return found


def _masked(network: Network) -> _Masked:
    """Return value and mask of a network, each as two halves."""
    bits = network.prefixlen + (96 if network.version == 4 else 0)
    mask = (1 << 128) - (1 << (128 - bits))
    high, low = _halves(_number(str(network.network_address)) & mask)
    mask_high, mask_low = _halves(mask)
    return (np.uint64(high), np.uint64(low)), (np.uint64(mask_high), np.uint64(mask_low))
