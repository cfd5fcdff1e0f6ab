"""DNS hijack: cluster names answered otherwise than the cluster would, another resolver, names that must not exist."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.hashing import hash_text
from detectors.ledger import Entry
from detectors.outside import is_outside_text
from detectors.round_frames import RoundFrames
from schemas.addresses import pack
from schemas.endpoints import serves
from schemas.events import Capability
from schemas.finding import Endpoint, Evidence, Finding, Severity
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject

_A, _AAAA, _CNAME = 1, 28, 5
_NAMES = 16  # names answered with one address, remembered
_NEVER_EXISTS = ".invalid"  # RFC 6761
Name = Annotated[str, Field(min_length=1, max_length=120)]


class _Answer(NamedTuple):
    """One address given for one name."""

    client: Address
    server: Address
    qname: str
    data: str


class _Asked(NamedTuple):
    """Questions of one client to one server in one tick."""

    client: Address
    servers: list[tuple[Address, int]]


@dataclass
class _Rewritten(Entry):
    """An address outside: which names that hardly exist one resolver answered with it, as hashes."""

    names: list[int] = field(default_factory=list)


@dataclass
class _Client(Entry):
    """What a client asked: questions to the cluster's resolvers, and to one other since the last of them."""

    usual: int = 0
    other: list[int] = field(default_factory=list)  # upper and lower half
    asked: int = 0


class DnsHijackConfig(DetectorConfig):
    """Limits of ``dns_hijack``."""

    domain: Name = Field("cluster.local", description="domain of the cluster's own names")
    resolvers: dict[Name, Name] = Field(
        {"k8s-app": "kube-dns"}, description="labels of the cluster's resolvers; their Services select the same"
    )
    names: Annotated[int, Field(ge=1, lt=_NAMES)] = Field(
        3, description="names that must not exist, answered by one resolver with one address outside, within the window"
    )
    usual: Annotated[int, Field(ge=1)] = Field(
        5, description="questions to the cluster's resolvers after which a client is known to use them (count)"
    )
    switched: Annotated[int, Field(ge=1)] = Field(
        10, description="questions to one other resolver without any to the cluster's in between (count)"
    )
    window: Annotated[int, Field(ge=60)] = Field(3600, description="s for which names and clients are remembered")


class DnsHijack(ClaimDetector):
    """Fires per resolver and name, per rewriting resolver, and per client that changed its resolver."""

    meta = Meta(
        id="dns_hijack",
        title="DNS hijack",
        stage=1,
        severity="high",
        techniques=("T1557", "T1584.002", "T1565.002"),
        needs=Capability.DNS | Capability.DNS_ANSWERS,
        blind="hijacked DNS is not seen: the source does not report answers",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = DnsHijackConfig
    config: DnsHijackConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._rewritten = self.ledger("rewritten", _Rewritten, 1024, self.config.window)
        self._clients = self.ledger("clients", _Client, 4096, self.config.window)
        self._suffix = f".{self.config.domain.strip('.').lower()}"

    def observe(self, frames: RoundFrames) -> None:
        """Take in addresses given for the cluster's names, and who asked whom."""
        dns = frames.dns
        if dns is None:
            return
        number, names = dns.qname
        data, texts = dns.record_data
        kind = dns.record_type
        ours = np.array([n.endswith((self._suffix, _NEVER_EXISTS)) for n in names], np.bool_)[number]
        aliased = np.isin(number, number[ours & (kind == _CNAME)])  # a Service of type ExternalName
        given = ours & ~aliased & ((kind == _A) | (kind == _AAAA)) & (dns.rcode == 0)
        (a, b), (c, d) = dns.client, dns.server
        for node, tick, rows in dns.ticks(given):
            first = self.pieces((c, d, number, data), node, rows)
            for row in zip(*(x[first].tolist() for x in (a, b, c, d, number, data)), strict=True):
                answer = _Answer(row[:2], row[2:4], names[row[4]], texts[row[5]])
                self._noted.append((frames.names[node], node, tick, answer))
        for node, tick, rows in dns.ticks(dns.asks):
            self._note_questions(frames.names[node], node, tick, np.stack([x[rows] for x in (a, b, c, d)], axis=1))

    def _note_questions(self, name: str, node: int, tick: int, ends: Any) -> None:
        pairs, counts = np.unique(ends, axis=0, return_counts=True)
        self.skip(node, len(pairs) - 1024)
        asked: dict[Address, list[tuple[Address, int]]] = {}
        for (a, b, c, d), count in zip(pairs[:1024].tolist(), counts[:1024].tolist(), strict=True):
            asked.setdefault((a, b), []).append(((c, d), count))
        self._noted += [(name, node, tick, _Asked(client, servers)) for client, servers in asked.items()]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one answer or one client's questions, if any."""
        name, node, tick, each = noted
        if isinstance(each, _Asked):
            return self._judge_questions(view, name, node, tick, each)
        return self._judge_answer(view, name, node, tick, each)

    def _judge_answer(self, view: TickView, name: str, node: int, tick: int, each: _Answer) -> list[Finding]:
        try:
            address = ipaddress.ip_address(each.data)
        except ValueError:
            return []  # damaged, or cut
        server, ip = address_text(each.server), str(address)
        labels = each.qname.removesuffix(self._suffix).split(".")
        service = None
        if each.qname.endswith(self._suffix) and len(labels) == 3 and labels[2] == "svc":
            service = view.identities.service(labels[1], labels[0], tick)
        if service is not None:
            if _may_answer(view.identities, service, address, tick):
                return []
            own = ", ".join(service.ips) or "its pods"
            return [self._finding(
                view, name, tick, tick, "high", 0.9, f"{server}@{name}/{each.qname}", (ip, server),
                (view.endpoint(address_text(each.client), tick),),
                Evidence(name="foreign_answers", value=1, limit=0, unit="addresses that are not the service's"),
                f"{server} answered {each.qname} with {ip}, which is none of the Service's addresses ({own}) and none "
                f"of its pods",
            )]  # fmt: skip
        if not is_outside_text(ip):
            return []
        if view.identities.role(ip, tick) in ("internal", "shared"):
            return []
        packed = pack(ip)
        key = (*each.server, int.from_bytes(packed[:8]), int.from_bytes(packed[8:]))
        entry = self._rewritten.touch(node, key, tick)
        number = hash_text(each.qname)
        entry.names = [*(n for n in entry.names if n != number), number][-_NAMES:]
        if len(entry.names) <= self.config.names:
            return []
        count = len(entry.names)
        return [self._finding(
            view, name, tick, entry.since, "medium", confidence(count, self.config.names), f"{server}@{name}/rewritten",
            (ip, server), (view.endpoint(address_text(each.client), tick),),
            Evidence(name="rewritten_names", value=count, limit=self.config.names, unit="names",
                     window=self.config.window),
            f"{server} answered {count} names that must not exist, limit {self.config.names}, with {ip} outside; the "
            f"last one is {each.qname}",
        )]  # fmt: skip

    def _judge_questions(self, view: TickView, name: str, node: int, tick: int, each: _Asked) -> list[Finding]:
        config = self.config
        client = address_text(each.client)
        item = view.identities.find(client, tick)
        if item is None or item.kind != "Pod" or self._is_resolver(view, client, tick, item):
            return []
        entry = self._clients.touch(node, each.client, tick)
        strangers = []
        for server, count in each.servers:
            ip = address_text(server)
            if self._is_resolver(view, ip, tick, view.identities.find(ip, tick)):
                entry.usual, entry.other, entry.asked = min(entry.usual + count, 1 << 30), [], 0
                return []
            if not ipaddress.ip_address(ip).is_multicast:
                strangers.append((count, server))
        if entry.usual < config.usual or not strangers:
            return []
        count, server = max(strangers)
        entry.asked = count + (entry.asked if entry.other == [*server] else 0)
        entry.other = [*server]
        if entry.asked <= config.switched:
            return []
        ip = address_text(server)
        return [self._finding(
            view, name, tick, tick, "medium", confidence(entry.asked, config.switched), f"{client}@{name}/resolver",
            (ip,), (view.endpoint(client, tick),),
            Evidence(name="questions_elsewhere", value=entry.asked, limit=config.switched, unit="questions"),
            f"{client} used to ask the cluster's resolvers and now asked {ip} {entry.asked} questions, limit "
            f"{config.switched}, and none of them any more",
        )]  # fmt: skip

    def _is_resolver(self, view: TickView, ip: str, tick: int, item: InventoryObject | None) -> bool:
        """Tell whether an address is a resolver of the cluster: by role, by label, or a cache on the node."""
        if "resolver" in view.roles(ip, tick) or ipaddress.ip_address(ip).is_link_local:
            return True
        if item is None:
            return False
        told = item.selector if item.kind == "Service" else item.labels
        return item.kind == "Node" or any(told.get(k) == v for k, v in self.config.resolvers.items())

    def _finding(self, view: TickView, node: str, tick: int, started: int, severity: Severity, sure: float,
                 subject: str, attackers: tuple[str, ...], victims: tuple[Endpoint, ...], evidence: Evidence,
                 summary: str) -> Finding:  # fmt: skip
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity, confidence=sure,
            tick=tick, started=started, node=node, subject=subject,
            attackers=tuple(view.endpoint(ip, tick) for ip in dict.fromkeys(attackers)), victims=victims,
            techniques=self.meta.techniques, evidence=(evidence,), summary=summary,
            # Answers over UDP can be forged by who is on the way.
            spoofable=True, data_quality=view.quality[node], response=self.meta.response, quiet=600,
        )  # fmt: skip


def _may_answer(identities: IdentityTable, service: InventoryObject,
                address: ipaddress.IPv4Address | ipaddress.IPv6Address, tick: int) -> bool:  # fmt: skip
    """Tell whether an address is a Service's own or a pod's behind it, as far as the inventory knows."""
    told = serves(identities, service, str(address), tick)
    if told is None and service.selector:
        # A pod that just came or went; of a headless Service this is the rule in a rollout.
        return not service.ips and not is_outside_text(str(address))
    return told is not False
