"""Abuse of the cluster's own interfaces: pods that begin to speak to the API server, kubelets, etcd, cloud metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.arrivals import arrived
from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.columns import halves_of
from detectors.frame import TCP
from detectors.index import positions
from detectors.ledger import Entry
from detectors.mixing import U64, hash_text
from detectors.round_frames import RoundFrames
from schemas.addresses import pack
from schemas.events import Capability, FlowMark
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.identity import API_SERVICE
from schemas.roles import SHARED

API, KUBELET, ETCD, METADATA = "api_server", "kubelet", "etcd", "metadata"
_WORDS = {API: "the API server", KUBELET: "a kubelet", ETCD: "etcd", METADATA: "the cloud's metadata service"}
_API_PORT, _KUBELET_PORTS, _ETCD_PORTS = 6443, (10250, 10255), (2379, 2380)
_FOLLOWED = np.zeros(1 << 16, np.bool_)
_FOLLOWED[[_API_PORT, *_KUBELET_PORTS, *_ETCD_PORTS]] = True
# Instance metadata of Amazon, Google, Azure and others, and Amazon's by IPv6.
_METADATA = ("169.254.169.254", "fd00:ec2::254")
_PACKED = tuple(pack(ip) for ip in _METADATA)
_TECHNIQUES = {API: "T1613", KUBELET: "T1609", ETCD: "T1552", METADATA: "T1552.005"}
_SEVERITY: dict[str, Severity] = {API: "medium", KUBELET: "high", ETCD: "high", METADATA: "medium"}
_CONFIDENCE: dict[Severity, float] = {"high": 0.8, "medium": 0.6, "low": 0.3}


class _Contact(NamedTuple):
    """One pair of addresses with traffic on a port of interest in a tick."""

    node: int
    name: str  # of the node
    tick: int
    src: Address
    dst: Address
    port: int
    proven: bool  # a handshake or an answer with payload ties it to its sender


@dataclass
class _Habit(Entry):
    """A workload that speaks to one of these interfaces; ``grave`` while its alert is going on."""

    grave: int = 0


class KubeApiAbuseConfig(DetectorConfig):
    """Limits of ``kube_api_abuse``."""

    learning: Annotated[int, Field(ge=1)] = Field(
        3600, description="s that a node is watched before a first contact says something; watches renew within minutes"
    )
    settle: Annotated[int, Field(ge=0)] = Field(
        600, description="s of a pod's life in which a first contact is how its program starts"
    )
    memory: Annotated[int, Field(ge=60)] = Field(
        1_209_600, description="s that a workload's habit is remembered after it was last seen; covers weekly jobs"
    )
    namespaces: tuple[str, ...] = Field(
        ("kube-system",), description="namespaces whose pods are the control plane, or serve it"
    )


class KubeApiAbuse(ClaimDetector):
    """Fires per workload and interface, at the first contact that the workload's habits do not explain.

    Only pods that the inventory names are judged. Nodes, pods on a node's network and the control plane may.
    """

    meta = Meta(
        id="kube_api_abuse",
        title="Abuse of the cluster's interfaces",
        stage=1,
        severity="high",
        techniques=("T1609", "T1613", "T1552", "T1552.005"),
        needs=Capability.PORTS,
        blind="abuse of the cluster's interfaces is not seen: the source does not report ports",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = KubeApiAbuseConfig
    config: KubeApiAbuseConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._watched = self.ledger("watched", Entry, 8, self.config.memory)
        self._habits = self.ledger("habits", _Habit, 4096, self.config.memory)

    def observe(self, frames: RoundFrames) -> None:
        """Take in traffic to ports of interest; also that of connections that were there before."""
        flows = frames.flow
        if flows is None:
            return
        for node, tick in flows.heard():
            self._watched.touch(node, (0,), tick)
        followed = _FOLLOWED[flows.dst_port] | flows.towards(_halves(frames.identities.api_addresses))
        rows = positions(followed)
        rows = rows[
            (flows.proto[rows] == TCP) & ~flows.numbers("copy")[rows] & (flows.numbers("src_packets")[rows] > 0)
        ]
        if not len(rows):
            return
        proven = (flows.marks[rows] & np.uint8(FlowMark.ESTABLISHED | FlowMark.EXCHANGED)) != 0
        columns = (*flows.ends(rows), flows.dst_port[rows], proven)
        nodes = flows.node_of(rows)
        first = self.first_of(columns, nodes)
        given = (nodes[first], flows.tick_of(rows[first]), *(column[first] for column in columns))
        for node, tick, a, b, c, d, port, answered in zip(*(x.tolist() for x in given), strict=True):
            self._noted.append(_Contact(node, frames.names[node], tick, (a, b), (c, d), port, answered))

    def judge(self, view: TickView, noted: _Contact) -> list[Finding]:
        """Learn one contact, and return the finding about it where it is no habit."""
        source = view.endpoint(address_text(noted.src), noted.tick)
        if source.pod is None or source.namespace in self.config.namespaces or SHARED.intersection(source.roles):
            return []
        target = view.endpoint(address_text(noted.dst), noted.tick, port=noted.port, protocol="TCP")
        what = self._interface(target, noted.port)
        if what is None or (what == KUBELET and "monitoring_scraper" in source.roles):
            return []
        who = hash_text(f"{source.namespace}/{source.workload or source.pod}")
        key = (who, list(_WORDS).index(what))
        habit = self._habits.get(noted.node, key, noted.tick)
        known = habit is not None and not habit.grave
        now = self._habits.touch(noted.node, key, noted.tick)
        if known or noted.tick - now.since > self.config.settle:
            now.grave = 0  # who still does it after its alert was told does it by habit
            return []
        severity = self._severity(view, noted, source, what)
        now.grave = int(severity is not None)
        return [] if severity is None else [self._finding(view, noted, source, target, (what, severity))]

    def _interface(self, target: Endpoint, port: int) -> str | None:
        """Return which of the cluster's interfaces an address and port are."""
        if target.ip in _METADATA:
            return METADATA
        control = "shared" in target.roles or target.namespace in self.config.namespaces
        if target.service == API_SERVICE or (port == _API_PORT and control):
            return API
        if port in _KUBELET_PORTS and "shared" in target.roles:
            return KUBELET
        return ETCD if port in _ETCD_PORTS and control else None

    def _age(self, view: TickView, contact: _Contact) -> int:
        item = view.identities.find(address_text(contact.src), contact.tick)
        return contact.tick - item.valid_from if item is not None else 0

    def _since(self, contact: _Contact) -> int:
        watched = self._watched.get(contact.node, (0,), contact.tick)
        return contact.tick - (watched.since if watched is not None else contact.tick)

    def _severity(self, view: TickView, contact: _Contact, source: Endpoint, what: str) -> Severity | None:
        """Return how grave a first contact is; none where it is how a program starts, or nobody knows yet."""
        if self._since(contact) > self.config.learning and self._age(view, contact) > self.config.settle:
            return _SEVERITY[what]
        # A new replica of a workload that is older elsewhere does at its start what the others did at theirs.
        return None if what == API or arrived(view, source, self.config.learning) is not None else "low"

    def _finding(self, view: TickView, contact: _Contact, source: Endpoint, target: Endpoint,
                 said: tuple[str, Severity]) -> Finding:  # fmt: skip
        what, severity = said
        since, age = self._since(contact), self._age(view, contact)
        who = source.workload or source.pod
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=_CONFIDENCE[severity], tick=contact.tick, started=contact.tick, node=contact.name,
            subject=f"{source.namespace}/{who}/{what}@{contact.name}", attackers=(source,), victims=(target,),
            techniques=(_TECHNIQUES[what],),
            evidence=(
                Evidence(name="first_contact", value=1, limit=0, unit=f"with {_WORDS[what]}"),
                Evidence(name="watched", value=since, limit=self.config.learning, unit="s without it"),
                Evidence(name="pod_age", value=age, limit=self.config.settle, unit="s"),
            ),
            summary=f"{source.namespace}/{who} ({source.ip}) begins to speak to {_WORDS[what]} at {target.ip} port "
                    f"{contact.port}, which it did not in {since} s of watching; the pod is {age} s old",
            spoofable=not contact.proven, data_quality=view.quality[contact.name],
            response=self.meta.response if severity != "low" else None, quiet=600,
        )  # fmt: skip


def _halves(api: set[bytes]) -> U64:
    """Return metadata's and the API server's addresses as their halves; at most 16 of the latter, in order."""
    packed = b"".join([*_PACKED, *sorted(api)[:16]])
    return halves_of(np.frombuffer(packed, np.uint8).reshape(-1, 16))
