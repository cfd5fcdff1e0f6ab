"""New external destination: a workload that speaks to few outside, or to nobody, begins to speak to somebody new."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.address_names import AddressNames, address_keys
from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import ClaimDetector
from detectors.columns import is_mapped
from detectors.frame import FlowFrame, scoped
from detectors.grouping import Grouping
from detectors.hashing import combine
from detectors.index import I64, positions
from detectors.kernels.contacts import active_sources, other_callers
from detectors.kernels.grouping import rank_by
from detectors.lately import Lately
from detectors.ledger import Entry
from detectors.mixing import U64, hash_addresses, hash_text
from detectors.round_frames import RoundFrames
from detectors.statement import PROTOCOLS, count
from schemas.addresses import unpack
from schemas.events import Capability
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.roles import SHARED

_PAIRS = 1 << 18  # sources, and pairs of source and destination, that were looked at within the hour, all nodes
_HOUR = 3600
_NAMES = 1 << 14  # addresses told to clients, per node; 2 MB
_CALLERS = 8  # remembered per destination
_CONFIDENCE: dict[Severity, float] = {"medium": 0.6, "low": 0.3}
_MANY = SHARED | {"resolver", "vulnerability_scanner", "monitoring_scraper"}


class _Contacts(NamedTuple):
    """Contacts of a round, in order; those of a node share its tick. Columns have one entry per contact.

    ``source`` and ``destination`` number ``sources`` and ``destinations``; a destination of -1 says that the source
    is active, nothing else.
    """

    names: Sequence[str]  # of nodes, by number
    sources: list[tuple[str, int]]  # address, tick
    destinations: list[tuple[str, int]]
    nodes: I64
    ticks: I64
    source: I64
    destination: I64
    service: I64
    domains: list[str]  # that the client asked for; empty where it asked for none
    places: U64  # hash of what stands for the destination


class _Contact(NamedTuple):
    """One contact that is news."""

    destination: str
    port: int
    proto: int
    domain: str


class NewExternalDestinationConfig(DetectorConfig):
    """Limits of ``new_external_destination``."""

    learning: Annotated[int, Field(ge=1)] = Field(
        86_400, description="s that a node and a workload are watched before a new destination is news; a day of habits"
    )
    destinations: Annotated[int, Field(ge=1)] = Field(
        10, description="destinations that a workload has (count) above which a new one is its ordinary business"
    )
    callers: Annotated[int, Field(ge=1, lt=_CALLERS)] = Field(
        2, description="other workloads of a node that speak to a destination (count) from which on it is no news"
    )
    settle: Annotated[int, Field(ge=0)] = Field(
        600, description="s of a pod's life in which a new destination may come with a new version; then low"
    )
    names: Annotated[int, Field(ge=60)] = Field(
        7200, description="s that an address counts as the domain that was asked for; programs keep answers for long"
    )
    memory: Annotated[int, Field(ge=3600)] = Field(
        3_024_000, description="s that workloads and destinations are remembered after they were last seen; a month"
    )


class NewExternalDestination(ClaimDetector):
    """Fires per workload and destination: a registered domain, where the client asked for one, else a network."""

    meta = Meta(
        id="new_external_destination",
        title="New external destination",
        stage=1,
        severity="medium",
        techniques=("T1071", "T1102"),
        needs=Capability.PORTS | Capability.PAYLOAD | Capability.REVERSE,
        blind="new destinations are not seen: the source does not report payload bytes both ways",
        response="block_egress_destination",
    )
    Config: ClassVar[type[DetectorConfig]] = NewExternalDestinationConfig
    config: NewExternalDestinationConfig
    state_version: ClassVar[int] = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        memory = self.config.memory
        self._watched = self.ledger("watched", Entry, 8, memory)
        # Of a workload: when it was first seen, and how many destinations it had outside so far.
        self._workloads = self.remembered("workloads", 2048, memory, 2)
        self._known = self.remembered("known", 16_384, memory)
        # Of a destination: hashes of the workloads or addresses that speak to it.
        self._destinations = self.remembered("destinations", 8192, memory, _CALLERS)
        self._lately = Lately(_PAIRS, _HOUR)
        self._names: dict[int, AddressNames] = {}

    def observe(self, frames: RoundFrames) -> None:
        """Take in what domains addresses have, who is active, and whom they speak to outside."""
        dns = frames.questions
        if dns is not None:
            rows, told = frames.told
            zoned = positions(dns.book.in_a_zone(dns.zone[rows]))
            rows, zones = rows[zoned], dns.book.zone_bytes(dns.zone[rows[zoned]])
            keys, nodes = combine(dns.hashes[dns.client[rows]], told[zoned]), dns.node[rows]
            for node in np.unique(nodes).tolist():
                own = positions(nodes == node)
                self._of(node).add(int(dns.tick[rows[own[0]]]), keys[own], zones[own])
        frame = frames.groups
        if frame is not None:
            for item in frame.columns.batches:
                self._watched.touch(item.node, (0,), item.tick)
            self._take(frame, frames)

    def _of(self, node: int) -> AddressNames:
        return self._names.setdefault(node, AddressNames(_NAMES, self.config.names))

    def _take(self, frame: FlowFrame, frames: RoundFrames) -> None:
        """Note whom nobody looked at within the hour: sources, and pairs with somebody outside."""
        needs = int(self.meta.needs)
        sees = frame.columns.by_place("capabilities") & needs == needs
        active = active_sources(frame.exchanged, frame.copy, frame.place, frame.src, sees, frame.private)
        far = frames.outwards
        far = far[(frame.exchanged[far] > 0) & sees[frame.place[far]]]
        rows = np.concatenate([active, far])
        pairs = combine(frame.hashes[frame.src[far]], frame.hashes[frame.dst[far]])
        keys = scoped(frame.node[rows], np.concatenate([frame.hashes[frame.src[active]], pairs]))
        fresh = positions(self._lately.fresh(keys, frame.tick[rows]))
        fresh = self.heads(frame.node[rows[fresh]], fresh)
        if len(fresh):
            self._noted.append(self._contacts(frame, frames.names, rows[fresh], fresh >= len(active)))

    def _contacts(
        self, frame: FlowFrame, names: Sequence[str], groups: I64, outside: npt.NDArray[np.bool_]
    ) -> _Contacts:
        nodes, ticks = frame.node[groups], frame.tick[groups]
        sources, source = _texts(frame.addresses, frame.src[groups], ticks)
        destinations = np.full(len(groups), -1, np.int64)
        far = positions(outside)
        ends, destinations[far] = _texts(frame.addresses, frame.dst[groups[far]], ticks[far])
        domains, places = [""] * len(groups), np.zeros(len(groups), np.uint64)
        places[far] = hash_addresses(_networks(frame.addresses[frame.dst[groups[far]]]))
        for node in self._names:
            own = far[nodes[far] == node]
            if len(own):
                told = address_keys([ends[n][0] for n in destinations[own]])
                asked = combine(frame.hashes[frame.src[groups[own]]], told)
                for at, domain in zip(own.tolist(), self._names[node].find(int(ticks[own[0]]), asked), strict=True):
                    if domain:
                        domains[at], places[at] = domain, hash_text(domain)
        return _Contacts(
            names, sources, ends, nodes, ticks, source, destinations, frame.service[groups], domains, places
        )

    def judge(self, view: TickView, noted: _Contacts) -> list[Finding]:
        """Learn a round's contacts, and return findings about those that are news."""
        who = np.array([_caller(view, ip, tick) for ip, tick in noted.sources], np.uint64)[noted.source]
        judged = positions(who > 0)
        nodes, ticks = noted.nodes[judged], noted.ticks[judged]
        workloads, new = self._workloads.take(scoped(nodes, who[judged]), nodes, ticks)
        self._workloads.values[workloads[new[workloads[new] >= 0]], 0] = ticks[new[workloads[new] >= 0]]
        stranger = np.array([_is_stranger(view, ip, tick) for ip, tick in noted.destinations] + [False])
        met = positions(stranger[noted.destination[judged]])
        if not len(met):
            return []
        return self._meet(view, noted, judged[met], workloads[met], who[judged[met]])

    def _meet(self, view: TickView, noted: _Contacts, met: I64, workloads: I64, who: U64) -> list[Finding]:
        """Learn contacts with strangers.

        Args:
            view: of the ticks.
            noted: of the round.
            met: which of these.
            workloads: slot of each one's source.
            who: hash of each one's source.
        """
        config, nodes, ticks, places = self.config, noted.nodes[met], noted.ticks[met], noted.places[met]
        _, news = self._known.take(scoped(nodes, combine(who, places)), nodes, ticks)
        slots, _ = self._destinations.take(scoped(nodes, places), nodes, ticks)
        others = other_callers(self._destinations.values, slots, who.view(np.int64))[news]
        before, since = self._habits(workloads[news], ticks[news])
        span = ticks[news] - np.maximum(since, self._begun(nodes[news], ticks[news]))
        told = (span > config.learning) & (before <= config.destinations) & (others < config.callers)
        found = []
        for at in positions(told).tolist():
            one = int(met[news[at]])
            ip, tick = noted.sources[int(noted.source[one])]
            service = int(noted.service[one])
            contact = _Contact(noted.destinations[int(noted.destination[one])][0], service & 0xFFFF, service >> 16,
                               noted.domains[one])  # fmt: skip
            node = int(noted.nodes[one])
            place = contact.domain or _network(contact.destination)
            numbers = (place, int(before[at]), int(span[at]), int(others[at]))
            found.append(
                self._finding(view, (noted.names[node], node, tick), view.endpoint(ip, tick), contact, numbers)
            )
        return found

    def _begun(self, nodes: I64, ticks: I64) -> I64:
        """Return since when nodes are watched."""
        begun = dict(zip(nodes.tolist(), ticks.tolist(), strict=True))
        for node, tick in begun.items():
            entry = self._watched.get(node, (0,), tick)
            begun[node] = entry.since if entry is not None else tick
        return np.array([begun[node] for node in nodes.tolist()], np.int64)

    def _habits(self, slots: I64, ticks: I64) -> tuple[I64, I64]:
        """Return how many destinations workloads had before each new one, and since when they are known."""
        before, since = np.zeros(len(slots), np.int64), ticks.copy()
        good = positions(slots >= 0)
        kept, values = slots[good], self._workloads.values
        before[good] = values[kept, 1] + rank_by(kept, int(kept.max(initial=0)) + 1)
        since[good] = values[kept, 0]
        np.add.at(values[:, 1], kept, 1)
        return before, since

    def _finding(self, view: TickView, at: tuple[str, int, int], by: Endpoint, contact: _Contact,
                 told: tuple[str, int, int, int]) -> Finding:  # fmt: skip
        (name, _, tick), (place, before, since, others) = at, told
        item = view.identities.find(by.ip, tick)
        settled = item is not None and bool(by.workload) and tick - item.valid_from > self.config.settle
        # Only who never spoke to anybody outside, and did not just start as a new version, is grave.
        severity: Severity = self.meta.severity if before == 0 and settled else "low"
        protocol = PROTOCOLS[contact.proto]
        to = view.endpoint(contact.destination, tick, port=contact.port, protocol=protocol)
        habit = f"spoke to {count(before)} destinations" if before else "spoke to nobody outside"
        service = f"{to.ip}:{contact.port}"
        shown = f"{place} ({service})" if contact.domain else f"{service} without asking for its name"
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=_CONFIDENCE[severity], tick=tick, started=tick, node=name,
            subject=f"{_name(by)}/{place}@{name}", attackers=(by,), victims=(to,), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="new_destinations", value=1, limit=0, unit="destinations"),
                Evidence(name="watched", value=since, limit=self.config.learning, unit="s without it"),
                Evidence(name="known_destinations", value=before, unit="destinations"),
                Evidence(name="other_callers", value=others, unit="workloads of the node"),
            ),
            summary=f"{_name(by)} begins to speak to {shown}; in {since} s before it {habit}",
            # Payload went both ways.
            spoofable=False, data_quality=view.quality[name],
            response=self.meta.response if severity != "low" else None, quiet=600,
        )  # fmt: skip

    def refused(self) -> dict[int, int]:
        """Return how many contacts and names were too many so far, by node; only nodes with any."""
        total = dict(super().refused())
        for node, names in self._names.items():
            if names.shed:
                total[node] = total.get(node, 0) + names.shed
        return total

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return the ledgers, who was looked at, and the names of each node."""
        nodes = sorted(self._names.items())
        parts = [names.snapshot() for _, names in nodes]
        index = [[node, len(part), names.shed] for (node, names), part in zip(nodes, parts, strict=True)]
        own = {
            "nodes": np.array(index, np.int64).reshape(-1, 3),
            "names": np.concatenate([np.zeros(0, np.uint8), *parts]),
        }
        return super().snapshot() | self._lately.snapshot() | own

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave.

        Raises:
            ValueError: it is damaged.
        """
        super().restore(state)
        self._lately.restore(state)
        self._names = {}
        at = 0
        for node, size, shed in state["nodes"].tolist():
            names = self._of(node)
            names.restore(state["names"][at : at + size])
            names.shed = shed
            at += size


def _name(who: Endpoint) -> str:
    return f"{who.namespace}/{who.workload}" if who.workload and who.namespace else who.ip


def _caller(view: TickView, ip: str, tick: int) -> int:
    """Return a hash of what stands for a source; 0 where it is one that speaks to many."""
    by = view.endpoint(ip, tick)
    return 0 if _MANY.intersection(by.roles) else hash_text(_name(by))


def _is_stranger(view: TickView, ip: str, tick: int) -> bool:
    return view.identities.role(ip, tick) not in ("internal", "shared")


def _texts(addresses: npt.NDArray[np.uint8], numbers: I64, ticks: I64) -> tuple[list[tuple[str, int]], I64]:
    """Return the different (address, tick), and the number of each one's."""
    equal = Grouping(np.arange(len(numbers)), [numbers.astype(np.int64), ticks])
    packed = addresses[numbers[equal.first]]
    texts = [unpack(bytes(address)) for address in packed]
    return list(zip(texts, ticks[equal.first].tolist(), strict=True)), equal.number.astype(np.int64)


def _networks(addresses: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return what stands for addresses without a name, as `_network` does; a copy."""
    networks = addresses.copy()
    mapped = is_mapped(networks)
    networks[mapped, 15] = 0
    networks[~mapped, 6:] = 0
    return networks


def _network(ip: str) -> str:
    """Return the network that stands for an address without a name: an IPv4 /24 or an IPv6 /48."""
    if ":" not in ip:
        return ip.rpartition(".")[0] + ".0/24"
    return str(ipaddress.ip_network((ip, 48), strict=False))
