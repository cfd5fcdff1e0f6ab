"""New external destination: a workload that speaks to few outside, or to nobody, begins to speak to somebody new."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.address_names import AddressNames, asked_keys, told_addresses
from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import ClaimDetector
from detectors.frame import FlowFrame, scoped
from detectors.hashing import combine, hash_text
from detectors.index import I64, positions
from detectors.lately import Lately
from detectors.ledger import Entry
from detectors.minute import is_private
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


class _Contact(NamedTuple):
    """A source that was active, and with ``destination`` one that it exchanged payload with outside."""

    source: str
    destination: str
    port: int
    proto: int
    domain: str


@dataclass
class _Workload(Entry):
    """A workload that is active; ``destinations``: how many it had outside so far."""

    destinations: int = 0


@dataclass
class _Destination(Entry):
    """Who speaks to a destination: hashes of workloads or addresses."""

    callers: list[int] = field(default_factory=list)


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

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        memory = self.config.memory
        self._watched = self.ledger("watched", Entry, 8, memory)
        self._workloads = self.ledger("workloads", _Workload, 2048, memory)
        self._known = self.ledger("known", Entry, 16_384, memory)
        self._destinations = self.ledger("destinations", _Destination, 8192, memory)
        self._lately = Lately(_PAIRS, _HOUR)
        self._names: dict[int, AddressNames] = {}

    def observe(self, frames: RoundFrames) -> None:
        """Take in what domains addresses have, who is active, and whom they speak to outside."""
        dns = frames.questions
        if dns is not None:
            rows, keys, zones = told_addresses(dns)
            nodes = dns.node[rows]
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
        talked = (frame.exchanged > 0) & (frame.capabilities & needs == needs)
        active = positions(talked & ~frame.copy & is_private(frame.addresses)[frame.src])
        far = frames.outwards[talked[frames.outwards]]
        rows = np.concatenate([active, far])
        pairs = combine(frame.hashes[frame.src[far]], frame.hashes[frame.dst[far]])
        keys = scoped(frame.node[rows], np.concatenate([frame.hashes[frame.src[active]], pairs]))
        fresh = positions(self._lately.fresh(keys, frame.tick[rows]))
        nodes = frame.node[rows[fresh]]
        for node in np.unique(nodes).tolist():
            own = self.head(node, fresh[nodes == node])
            tick = int(frame.tick[rows[own[0]]])
            contacts = self._contacts(frame, node, tick, rows[own], own >= len(active))
            self._noted.append((frames.names[node], node, tick, contacts))

    def _contacts(
        self, frame: FlowFrame, node: int, tick: int, groups: I64, outside: npt.NDArray[np.bool_]
    ) -> list[_Contact]:
        sources = [unpack(bytes(address)) for address in frame.addresses[frame.src[groups]]]
        destinations = [unpack(bytes(address)) for address in frame.addresses[frame.dst[groups]]]
        domains = self._of(node).find(tick, asked_keys(frame.hashes[frame.src[groups]], destinations))
        return [
            _Contact(source, destination if far else "", service & 0xFFFF, service >> 16, domain)
            for source, destination, service, domain, far in zip(
                sources, destinations, frame.service[groups].tolist(), domains, outside.tolist(), strict=True
            )
        ]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Learn one node's contacts of a tick, and return findings about those that are news."""
        name, node, tick, contacts = noted
        found = []
        for contact in contacts:
            by = view.endpoint(contact.source, tick)
            if _MANY.intersection(by.roles):
                continue
            who = _name(by)
            workload = self._workloads.touch(node, (hash_text(who),), tick)
            if contact.destination and view.identities.role(contact.destination, tick) not in ("internal", "shared"):
                finding = self._meet(view, (name, node, tick), by, contact, workload)
                found += [finding] if finding is not None else []
        return found

    def _meet(self, view: TickView, at: tuple[str, int, int], by: Endpoint, contact: _Contact,
              workload: _Workload) -> Finding | None:  # fmt: skip
        _, node, tick = at
        config, who = self.config, hash_text(_name(by))
        place = contact.domain or _network(contact.destination)
        known = self._known.get(node, (who, hash_text(place)), tick) is not None
        self._known.touch(node, (who, hash_text(place)), tick)
        destination = self._destinations.touch(node, (hash_text(place),), tick)
        others = [caller for caller in destination.callers if caller != who]
        if who not in destination.callers and len(destination.callers) < _CALLERS:
            destination.callers.append(who)
        if known:
            return None
        before, workload.destinations = workload.destinations, workload.destinations + 1
        watched = self._watched.get(node, (0,), tick)
        since = max(workload.since, watched.since if watched is not None else tick)
        cold = tick - since <= config.learning
        if cold or before > config.destinations or len(others) >= config.callers:
            return None
        return self._finding(view, at, by, contact, (place, before, tick - since, len(others)))

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


def _network(ip: str) -> str:
    """Return the network that stands for an address without a name: an IPv4 /24 or an IPv6 /48."""
    if ":" not in ip:
        return ip.rpartition(".")[0] + ".0/24"
    return str(ipaddress.ip_network((ip, 48), strict=False))
