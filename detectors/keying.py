"""From a frame to the inputs of each stage-1 key space: keys, identity, measures and elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from detectors.dns_frame import DnsFrame
from detectors.features import Distinct
from detectors.frame import ICMP, ICMPV6, SCTP, TCP, UDP, FlowFrame, scoped
from detectors.grouping import Grouping
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.mixing import U64

Array = npt.NDArray[Any]
Elements = tuple[I64, U64, npt.NDArray[np.bool_]]


class _Frame(Protocol):
    @property
    def node(self) -> I64: ...
    @property
    def tick(self) -> I64: ...
    @property
    def capabilities(self) -> I64: ...

    def measure(self, name: str) -> I64: ...


# Members of a frame to (grouping by key columns and element, element hash per group).
Finer = Callable[[I64], tuple[Grouping, U64]]


@dataclass(frozen=True)
class SpaceInput:
    """What one round of ticks adds to one key space; every array has one entry per key."""

    keys: U64
    grouping: Grouping
    frame: _Frame
    identity: Callable[[I64], Mapping[str, Array]]  # the space's columns of keys given by position
    finer: Mapping[str, Finer] = field(default_factory=dict)  # by element name
    # false where an absent key is not worth a slot: everything it did ended in conversations at once
    admit: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def ticks(self) -> I64:
        """Tick of each key."""
        return self.frame.tick[self.grouping.first]

    @cached_property
    def nodes(self) -> I64:
        """Node number of each key."""
        return self.frame.node[self.grouping.first]

    @property
    def weight(self) -> I64:
        """Different things that each key did in its tick."""
        return self.grouping.sizes()

    @property
    def capabilities(self) -> I64:
        """Capability bits of each key's source."""
        return self.frame.capabilities[self.grouping.first]

    def total(self, measure: str) -> I64:
        """Sum a measure over each key."""
        return self.grouping.total(self.frame.measure(measure))

    def keep(self, chosen: npt.NDArray[np.bool_]) -> SpaceInput:
        """Return only the chosen keys."""
        places = positions(chosen)
        return SpaceInput(self.keys[chosen], self.grouping.keep(chosen), self.frame,
                          lambda rows: self.identity(places[rows]), self.finer)  # fmt: skip

    def elements(self, aggregate: Distinct) -> Elements:
        """Return (position of the owner key, element hash, cancel) for each pair to record."""
        finer, hashes, owner = self._refined(aggregate.element)
        seen = finer.total(self.frame.measure(aggregate.measure)) > 0
        out = np.zeros(len(finer), np.bool_)
        if aggregate.cancel:
            out = finer.total(self.frame.measure(aggregate.cancel)) > 0
        wanted = seen | out
        return owner[wanted], hashes[wanted], out[wanted]

    def _refined(self, element: str) -> tuple[Grouping, U64, I64]:
        """Return the groups of a key and an element, the hash of each one's element, and the position of its key."""
        if element not in self._parts:
            finer, hashes = self.finer[element](self.grouping.members)
            position = np.empty(int(self.grouping.members.max(initial=-1)) + 1, np.int64)
            position[self.grouping.members] = self.grouping.number
            self._parts[element] = finer, hashes, position[finer.first]
        return self._parts[element]

    @cached_property
    def _parts(self) -> dict[str, tuple[Grouping, U64, I64]]:
        return {}


_TRANSPORT = np.zeros(256, np.bool_)
_TRANSPORT[[TCP, UDP, SCTP]] = True


def flow_inputs(frame: FlowFrame, wanted: set[str]) -> dict[str, SpaceInput]:
    """Return the inputs of the wanted flow spaces."""
    own = positions(~frame.copy)
    transport = _TRANSPORT[frame.proto]
    tried = (frame.probes > 0) | (frame.conversed > 0) | (frame.established > 0)
    inputs = {}
    if "source" in wanted:
        inputs["source"] = _source(frame, own)
    if "pair" in wanted:
        inputs["pair"] = _pair(frame, own[(transport & tried)[own]])
    if "sweep" in wanted:
        scanning = transport | (frame.proto == ICMP) | (frame.proto == ICMPV6)
        inputs["sweep"] = _sweep(frame, own[(scanning & tried)[own]])
    return inputs


def _source(frame: FlowFrame, members: I64) -> SpaceInput:
    grouping = Grouping.of_ticks(members, frame.place, frame.src, len(frame.hashes))
    first = grouping.first

    def hosts(members: I64) -> tuple[Grouping, U64]:
        finer = Grouping(members, [frame.place, frame.src, frame.dst])
        return finer, frame.hashes[frame.dst[finer.first]]

    def ports(members: I64) -> tuple[Grouping, U64]:
        finer = Grouping(members, [frame.place, frame.src, frame.service])
        return finer, frame.service[finer.first].astype(np.uint64)

    def identity(rows: I64) -> dict[str, Array]:
        return {"src": frame.addresses[frame.src[first[rows]]]}

    keys = scoped(frame.node[first], frame.hashes[frame.src[first]])
    return SpaceInput(keys, grouping, frame, identity, {"host": hosts, "port": ports})


# In the next two spaces a group of the frame, copies left out, is one element of one key.


def _pair(frame: FlowFrame, members: I64) -> SpaceInput:
    grouping = Grouping(members, [frame.place, frame.src, frame.dst])
    first = grouping.first

    def ports(members: I64) -> tuple[Grouping, U64]:
        return Grouping.each(members), frame.service[members].astype(np.uint64)

    src, dst = frame.src[first], frame.dst[first]
    keys = scoped(frame.node[first], combine(frame.hashes[src], frame.hashes[dst]))

    def identity(rows: I64) -> dict[str, Array]:
        at = first[rows]
        return {
            "src": frame.addresses[src[rows]],
            "dst": frame.addresses[dst[rows]],
            "mac": frame.detail("src_mac", at),
            "interface": frame.interface(at),
        }

    return SpaceInput(keys, grouping, frame, identity, {"port": ports}, _suspicious(frame, grouping))


def _sweep(frame: FlowFrame, members: I64) -> SpaceInput:
    grouping = Grouping(members, [frame.place, frame.src, frame.service])
    first = grouping.first

    def hosts(members: I64) -> tuple[Grouping, U64]:
        return Grouping.each(members), frame.hashes[frame.dst[members]]

    service = frame.service[first]
    admit = _suspicious(frame, grouping)
    keys = combine(scoped(frame.node[first], frame.hashes[frame.src[first]]), service.astype(np.uint64))

    def identity(rows: I64) -> dict[str, Array]:
        at = first[rows]
        return {
            "src": frame.addresses[frame.src[at]],
            "proto": service[rows] >> 16,
            "port": service[rows] & 0xFFFF,
            "dst": frame.addresses[frame.dst[at]],
            "mac": frame.detail("src_mac", at),
            "interface": frame.interface(at),
        }

    return SpaceInput(keys, grouping, frame, identity, {"host": hosts}, admit)


def _suspicious(frame: FlowFrame, grouping: Grouping) -> npt.NDArray[np.bool_]:
    """Tell per key whether it tried anything in this tick that did not become a conversation."""
    return grouping.total(frame.dangling) > 0


def dns_inputs(frame: DnsFrame, wanted: set[str]) -> dict[str, SpaceInput]:
    """Return the inputs of the wanted DNS spaces."""
    inputs = {}
    if "dns_zone" in wanted:
        inputs["dns_zone"] = _dns_zone(frame)
    if "dns_client" in wanted:
        inputs["dns_client"] = _dns_client(frame)
    return inputs


def _names(frame: DnsFrame, keys: list[I64]) -> Finer:
    def finer(members: I64) -> tuple[Grouping, U64]:
        grouping = Grouping(members, [*keys, frame.name])
        return grouping, frame.book.name_hashes[frame.name[grouping.first]]

    return finer


def _dns_zone(frame: DnsFrame) -> SpaceInput:
    parts = [frame.node, frame.client, frame.server, frame.zone]
    grouping = Grouping(frame.subjects, parts)
    first = grouping.first
    ends = combine(frame.hashes[frame.client[first]], frame.hashes[frame.server[first]])
    keys = combine(scoped(frame.node[first], ends), frame.book.zone_hashes[frame.zone[first]])

    def identity(rows: I64) -> dict[str, Array]:
        at = first[rows]
        return {
            "client": frame.addresses[frame.client[at]],
            "server": frame.addresses[frame.server[at]],
            "zone": frame.book.zone_bytes(frame.zone[at]),
        }

    return SpaceInput(keys, grouping, frame, identity, {"name": _names(frame, parts)})


def _dns_client(frame: DnsFrame) -> SpaceInput:
    parts = [frame.node, frame.client]
    grouping = Grouping(frame.subjects, parts)
    first = grouping.first
    keys = scoped(frame.node[first], frame.hashes[frame.client[first]])

    def labels(members: I64) -> tuple[Grouping, U64]:
        finer = Grouping(members, [*parts, frame.label])
        return finer, frame.book.label_hashes[frame.label[finer.first]]

    def identity(rows: I64) -> dict[str, Array]:
        return {"client": frame.addresses[frame.client[first[rows]]]}

    return SpaceInput(keys, grouping, frame, identity, {"name": _names(frame, parts), "label": labels})
