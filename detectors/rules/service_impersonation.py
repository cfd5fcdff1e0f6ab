"""Service impersonation: a Service's address or name is served by something that is not behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.cluster_names import service_name
from detectors.flow_rows import FlowRows
from detectors.hashing import combine
from detectors.http_frame import HttpFrame
from detectors.index import I64
from detectors.ledger import Entry
from detectors.link_frame import LinkFrame
from detectors.mixing import hash_text
from detectors.outside import is_outside_text
from detectors.round_frames import RoundFrames
from detectors.statement import mac_text
from detectors.tls_frame import TlsFrame
from schemas.endpoints import serves, services_of_pod
from schemas.events import Capability, FlowMark, LinkClaim
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.inventory import InventoryObject
from schemas.roles import SHARED

_NONE: Address = (0, 0)
_UNAUTHORISED, _FAILED = 401, 400  # an impostor may ask for a password; other errors say "you are wrong here"
# With which Calico and others answer for every address, on the host's side of a pod's interface.
_PROXY_MAC = 0xEEEEEEEEEEEE
_CONFIDENCE: dict[Severity, float] = {"high": 0.8, "medium": 0.6, "low": 0.3}


class _Served(NamedTuple):
    """One client that was answered in a tick: under a host name, or at an address before translation."""

    client: Address
    server: Address
    port: int
    host: str
    virtual: bool = False  # ``host`` is an address that was translated


class _Claim(NamedTuple):
    """One hardware address that claims a Service's address."""

    mac: int
    address: Address
    told: Address  # whom
    interface: str


@dataclass
class _Server(Entry):
    """Service and server: when it was last told; ``habit``: it was so before anybody could call it new."""

    told: int = 0
    habit: int = 0


@dataclass
class _Speaker(Entry):
    """A hardware address: the address that it last claimed and that is no Service's."""

    high: int = 0
    low: int = 0


class ServiceImpersonationConfig(DetectorConfig):
    """Limits of ``service_impersonation``."""

    learning: Annotated[int, Field(ge=1)] = Field(
        3600, description="s that a node is watched in which pods behind other Services are learned as proxies"
    )
    settle: Annotated[int, Field(ge=0)] = Field(
        60, description="s that the inventory gets to name an address; it may be told of later than it is used"
    )
    again: Annotated[int, Field(ge=60)] = Field(3600, description="s after which one Service and server are told again")


class ServiceImpersonation(ClaimDetector):
    """Fires per Service and server, where HTTP or TLS names a Service at an address that is not of its endpoints.

    Where a source tells addresses before translation, also where a cluster address leads to such a one.
    Also per hardware address that claims a Service's address on a segment: cluster addresses are on no machine.
    """

    meta = Meta(
        id="service_impersonation",
        title="Service impersonation",
        stage=1,
        severity="high",
        techniques=("T1557", "T1036.005"),
        needs=Capability.PORTS,
        blind="service impersonation is not seen: the source does not report ports",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = ServiceImpersonationConfig
    config: ServiceImpersonationConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._watched = self.ledger("watched", Entry, 8, 14 * 86_400)
        self._servers = self.ledger("servers", _Server, 2048, 14 * 86_400)
        self._speakers = self.ledger("speakers", _Speaker, 2048, 86_400)

    def observe(self, frames: RoundFrames) -> None:
        """Keep who was answered under a Service's name, and who claims a Service's address."""
        if not frames.identities.cluster.services:
            return
        for name, rows in (("host", frames.http), ("sni", frames.tls)):
            if rows is not None:
                self._take_names(frames, name, rows)
        if frames.flow is not None:
            self._take_translated(frames, frames.flow)
        if frames.link is not None:
            self._take_claims(frames, frames.link)

    def _take_names(self, frames: RoundFrames, column: str, rows: HttpFrame | TlsFrame) -> None:
        number, words = rows.texts(column)
        named = np.array([service_name(word) is not None for word in words], np.bool_)
        if not named.any():
            return
        if isinstance(rows, HttpFrame):
            served = ((rows.status > 0) & (rows.status < _FAILED)) | (rows.status == _UNAUTHORISED)
        else:
            served = rows.numbers("server_version") > 0
        columns = (*rows.src, *rows.dst, rows.dst_port, number)
        for node, tick, at in rows.ticks(named[number] & served):
            self._watched.touch(node, (0,), tick)
            first = self.pieces(columns, node, at)
            for a, b, c, d, port, n in zip(*(x[first].tolist() for x in columns), strict=True):
                self._noted.append((frames.names[node], node, tick, _Served((a, b), (c, d), port, words[n])))

    def _take_translated(self, frames: RoundFrames, flows: FlowRows) -> None:
        chosen = flows.translated()
        if not chosen.any():
            return
        for node, tick, at in flows.ticks(chosen & flows.own & flows.marked(FlowMark.EXCHANGED)):
            columns = (*flows.ends(at), flows.dst_port[at], *flows.before_translation(at))
            first = self.pieces(columns, node, np.arange(len(at)))
            for a, b, c, d, port, e, f in zip(*(x[first].tolist() for x in columns), strict=True):
                served = _Served((a, b), (c, d), port, address_text((e, f)), True)
                self._noted.append((frames.names[node], node, tick, served))

    def _take_claims(self, frames: RoundFrames, link: LinkFrame) -> None:
        arp = link.of(LinkClaim.ARP_REQUEST, LinkClaim.ARP_REPLY, LinkClaim.NEIGHBOUR_ADVERTISEMENT)
        arp &= (link.claimed_mac != 0) & (link.mac != np.uint64(_PROXY_MAC))
        arp &= (link.claimed[0] != 0) | (link.claimed[1] != 0)
        addresses = frames.identities.cluster.service_addresses
        known = np.frombuffer(b"".join(sorted(addresses)), ">u8").reshape(-1, 2).astype(np.uint64)
        service = np.isin(combine(*link.claimed), combine(known[:, 0], known[:, 1]))
        number, interfaces = link.interface
        columns = (link.mac, *link.claimed, *link.target, number, service)
        for node, tick, at in link.ticks(arp):
            first: I64 = self.pieces(columns, node, at)
            for mac, a, b, c, d, n, virtual in zip(*(x[first].tolist() for x in columns), strict=True):
                if virtual:
                    claim = _Claim(mac, (a, b), (c, d), interfaces[n])
                    self._noted.append((frames.names[node], node, tick, claim))
                else:
                    speaker = self._speakers.touch(node, (mac,), tick)
                    speaker.high, speaker.low = a, b

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one server or claim, if any."""
        name, node, tick, what = noted
        found = self._judge_claim(view, node, tick, what) if isinstance(what, _Claim) else (
            self._judge_served(view, node, tick, what))  # fmt: skip
        return [] if found is None else [found.model_copy(update={"node": name, "data_quality": view.quality[name]})]

    def _judge_served(self, view: TickView, node: int, tick: int, what: _Served) -> Finding | None:
        service = self._service(view, tick, what)
        ip = address_text(what.server)
        if service is None or what.client == what.server or service.service_type == "ExternalName":
            return None
        told = serves(view.identities, service, ip, tick)
        key = (hash_text(f"{service.namespace}/{service.name}"), *what.server)
        if told or (told is None and not service.selector):
            return None
        entry = self._servers.touch(node, key, tick)
        severity = self._severity(view, node, tick, entry, ip, what.virtual)
        if severity is None or (entry.told and tick - entry.told < self.config.again):
            return None
        entry.told = tick
        target = f"{service.namespace}/{service.name}"
        return self._finding(
            tick, entry.since, severity, f"{target}/{ip}", view.endpoint(ip, tick, port=what.port, protocol="TCP"),
            (view.endpoint(address_text(what.client), tick), _as_endpoint(service)),
            f"{ip} port {what.port} answers {address_text(what.client)} as {what.host}, but is neither an address nor "
            f"an endpoint of Service {target}",
            False,
        )  # fmt: skip

    def _service(self, view: TickView, tick: int, what: _Served) -> InventoryObject | None:
        if what.virtual:
            item = view.identities.find(what.host, tick)
            return item if item is not None and item.kind == "Service" else None
        name = service_name(what.host)
        if name is None or (not name.sure and is_outside_text(address_text(what.server))):
            return None
        namespace = name.namespace
        if not namespace:
            client = view.identities.find(address_text(what.client), tick)
            namespace = client.namespace if client is not None and client.kind == "Pod" else ""
        return view.identities.service(namespace, name.name, tick)

    def _severity(self, view: TickView, node: int, tick: int, entry: _Server, ip: str, virtual: bool
                  ) -> Severity | None:  # fmt: skip
        """Return how grave it is that an address serves what is not its; none where it may be a proxy."""
        item = view.identities.find(ip, tick)
        if SHARED.intersection(view.roles(ip, tick)) or (item is not None and item.kind != "Pod"):
            return None
        if item is None:
            return "medium" if is_outside_text(ip) or tick - entry.since >= self.config.settle else None
        if virtual or not services_of_pod(view.identities, item, ip, tick):
            return "high"
        watched = self._watched.get(node, (0,), tick)
        if watched is None or entry.since - watched.since <= self.config.learning:
            entry.habit = 1
        return None if entry.habit else "medium"

    def _judge_claim(self, view: TickView, node: int, tick: int, what: _Claim) -> Finding | None:
        own = self._speakers.get(node, (what.mac,), tick)
        speaker = address_text((own.high, own.low)) if own is not None else ""
        if not speaker or SHARED.intersection(view.roles(speaker, tick)):
            return None
        ip = address_text(what.address)
        service = view.identities.find(ip, tick)
        entry = self._servers.touch(node, (what.mac, *what.address), tick)
        if service is None or service.kind != "Service" or (entry.told and tick - entry.told < self.config.again):
            return None
        entry.told = tick
        target, mac = f"{service.namespace}/{service.name}", mac_text(what.mac)
        # Nodes of some clusters bear Services' addresses themselves; who is a pod is surely none.
        severity: Severity = "high" if view.endpoint(speaker, tick).pod else "low"
        told = () if what.told in (what.address, _NONE) else (view.endpoint(address_text(what.told), tick),)
        return self._finding(
            tick, entry.since, severity, f"{target}/{mac}",
            view.endpoint(speaker, tick, mac=mac, interface=what.interface or None),
            (view.endpoint(ip, tick), *told),
            f"{mac} (else {speaker}) claims {ip}, which is the cluster address of Service {target} and on no machine",
            True,
        )  # fmt: skip

    def _finding(self, tick: int, started: int, severity: Severity, subject: str, impostor: Endpoint,
                 victims: tuple[Endpoint, ...], summary: str, spoofable: bool) -> Finding:  # fmt: skip
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=_CONFIDENCE[severity], tick=tick, started=started, node="", subject=subject,
            attackers=(impostor,), victims=victims, techniques=self.meta.techniques,
            evidence=(Evidence(name="false_servers", value=1, limit=0, unit="not among the Service's endpoints"),),
            summary=summary, spoofable=spoofable, response=self.meta.response, quiet=600,
        )  # fmt: skip


def _as_endpoint(service: InventoryObject) -> Endpoint:
    name = f"{service.namespace}/{service.name}"
    return Endpoint(ip=next(iter(service.ips), ""), namespace=service.namespace, service=name, identity="known")
