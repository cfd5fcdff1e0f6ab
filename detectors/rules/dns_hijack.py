"""DNS hijack: cluster names answered otherwise than the cluster would, another resolver, names that must not exist."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from detectors.answer_frame import AnswerFrame
from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector, address_of
from detectors.cluster_dns import ClusterDns, Kind
from detectors.frame import scoped
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.ledger import Entry
from detectors.mixing import hash_text
from detectors.round_frames import RoundFrames
from schemas.addresses import pack, unpack
from schemas.events import Capability
from schemas.finding import Endpoint, Evidence, Finding, Severity

_A, _AAAA, _CNAME = 1, 28, 5
_NAMES = 16  # names answered with one address, remembered
_MANY = 1 << 30  # questions; more are not counted
# What is kept of a client: questions to the cluster's resolvers; to one other since the last of them; its address.
_USUAL, _ASKED, _OTHER, _WIDTH = 0, 1, slice(2, 4), 4
_NEVER_EXISTS = ".invalid"  # RFC 6761
Name = Annotated[str, Field(min_length=1, max_length=120)]


class _Answer(NamedTuple):
    """One address given for one name."""

    client: str
    server: str
    qname: str
    data: str


class _Switched(NamedTuple):
    """A client that asked one other server only, since it last asked the cluster's resolvers."""

    client: str
    server: str
    asked: int


@dataclass
class _Rewritten(Entry):
    """An address outside: which names that hardly exist one resolver answered with it, as hashes."""

    names: list[int] = field(default_factory=list)


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
    state_version = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._rewritten = self.ledger("rewritten", _Rewritten, 1024, self.config.window)
        self._clients = self.remembered("clients", 4096, self.config.window, _WIDTH)
        self._cluster = ClusterDns(self.config.domain, self.config.resolvers)

    def observe(self, frames: RoundFrames) -> None:
        """Take in addresses given for the cluster's names, and who asked whom."""
        dns = frames.dns
        if dns is None:
            return
        self._observe_answers(frames, dns)
        self._observe_questions(frames, dns)

    def _observe_answers(self, frames: RoundFrames, dns: AnswerFrame) -> None:
        kind = dns.record_type
        ours = dns.asked_below(self._cluster.suffix, _NEVER_EXISTS)
        given = ours & ((kind == _A) | (kind == _AAAA)) & (dns.rcode == 0)
        if not given.any():
            return
        name = dns.place.astype(np.int64) << 32 | dns.name
        given &= ~np.isin(name, name[ours & (kind == _CNAME)])  # a Service of type ExternalName
        first = Grouping(positions(given), [dns.place, dns.server, dns.name, dns.record]).first
        first = self.heads(dns.node[first], first)
        said = Grouping(first, [dns.tick, dns.name, dns.record])
        names, data = dns.names(dns.name[said.first]), dns.records(dns.record[said.first])
        told = zip(names, data, dns.tick[said.first].tolist(), strict=True)
        wrong = np.array([not self._cluster.fits(frames.identities, *each) for each in told], np.bool_)
        for row in first[wrong[said.number]].tolist():
            number = int(said.number[np.searchsorted(first, row)])
            client, server = dns.address(int(dns.client[row])), dns.address(int(dns.server[row]))
            node = int(dns.node[row])
            answer = _Answer(client, server, names[number], data[number])
            self._noted.append((frames.names[node], node, int(dns.tick[row]), answer))

    def _observe_questions(self, frames: RoundFrames, dns: AnswerFrame) -> None:
        asked = Grouping(positions(dns.asks), [dns.place, dns.client, dns.server])
        kept = self.heads(dns.node[asked.first], np.arange(len(asked)))
        first, counts = asked.first[kept], asked.sizes()[kept]
        servers = Grouping(first, [dns.tick, dns.server])
        kinds = self._kinds(frames, dns, dns.server, servers.first)[servers.number]
        usual, strange = np.zeros((2, len(dns)), np.int64)
        usual[first] = np.where(kinds == Kind.RESOLVER, counts, 0)
        strange[first] = np.where((kinds == Kind.RESOLVER) | (kinds == Kind.GROUP), 0, counts)
        clients = Grouping(first, [dns.place, dns.client])
        loyal = clients.total(usual)
        slots = self._known_clients(frames, dns, clients.first, loyal)
        # Who asks others as well keeps to what it is used to; who does so only may have been led away.
        away = (slots >= 0) & (loyal == 0) & (clients.total(strange) > 0)
        away[away] = self._clients.values[slots[away], _USUAL] >= self.config.usual
        for number in positions(away).tolist():
            rows = first[clients.number == number]
            self._led_away(frames, dns, int(slots[number]), rows[strange[rows] > 0], strange)

    def _known_clients(self, frames: RoundFrames, dns: AnswerFrame, rows: I64, loyal: I64) -> I64:
        """Note the clients of some rows and their questions to the cluster's resolvers; -1: not remembered."""
        nodes, ticks, known = dns.node[rows], dns.tick[rows], self._clients
        keys = scoped(nodes, dns.address_hashes[dns.client[rows]])
        slots = known.find(keys, ticks)
        there = positions(slots >= 0)
        known.touch(slots[there], ticks[there])
        # Pods alone have a resolver that the cluster chose, and only those that ask it can be led away from it.
        new = positions((slots < 0) & (loyal > 0))
        new = new[self._kinds(frames, dns, dns.client, rows[new]) == Kind.POD]
        slots[new] = known.admit(keys[new], nodes[new], ticks[new])
        true = positions((slots >= 0) & (loyal > 0))
        values = known.values
        values[slots[true], _USUAL] = np.minimum(values[slots[true], _USUAL] + loyal[true], _MANY)
        values[slots[true], _ASKED:] = 0
        return slots

    def _kinds(self, frames: RoundFrames, dns: AnswerFrame, ends: npt.NDArray[Any], rows: I64) -> I64:
        """Return what the addresses of some rows are."""
        told = zip(ends[rows].tolist(), dns.tick[rows].tolist(), strict=True)
        return np.array([self._cluster.kind(frames.identities, dns.address(n), tick) for n, tick in told], np.int64)

    def _led_away(self, frames: RoundFrames, dns: AnswerFrame, slot: int, rows: I64, strange: I64) -> None:
        """Count the questions of a client that asks no resolver of the cluster any more."""
        node, tick, client = int(dns.node[rows[0]]), int(dns.tick[rows[0]]), dns.address(int(dns.client[rows[0]]))
        if self._cluster.kind(frames.identities, client, tick) != Kind.POD:
            return
        servers = [pack(dns.address(number)) for number in dns.server[rows].tolist()]
        count, server = max(zip(strange[rows].tolist(), servers, strict=True))
        entry, other = self._clients.values[slot], np.frombuffer(server, np.int64)
        entry[_ASKED] = min(_MANY, count + (int(entry[_ASKED]) if (entry[_OTHER] == other).all() else 0))
        entry[_OTHER] = other
        if entry[_ASKED] > self.config.switched:
            self._noted.append((frames.names[node], node, tick, _Switched(client, unpack(server), int(entry[_ASKED]))))

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one answer or one client's questions, if any."""
        name, node, tick, each = noted
        if isinstance(each, _Switched):
            return [self._judge_questions(view, name, tick, each)]
        return self._judge_answer(view, name, node, tick, each)

    def _judge_answer(self, view: TickView, name: str, node: int, tick: int, each: _Answer) -> list[Finding]:
        server, ip = each.server, str(ipaddress.ip_address(each.data))
        service = self._cluster.service(view.identities, each.qname, tick)
        if service is not None:
            own = ", ".join(service.ips) or "its pods"
            return [self._finding(
                view, name, tick, tick, "high", 0.9, f"{server}@{name}/{each.qname}", (ip, server),
                (view.endpoint(each.client, tick),),
                Evidence(name="foreign_answers", value=1, limit=0, unit="addresses that are not the service's"),
                f"{server} answered {each.qname} with {ip}, which is none of the Service's addresses ({own}) and none "
                f"of its pods",
            )]  # fmt: skip
        if view.identities.role(ip, tick) in ("internal", "shared"):
            return []
        key = (*address_of(pack(server)), *address_of(pack(ip)))
        entry = self._rewritten.touch(node, key, tick)
        number = hash_text(each.qname)
        entry.names = [*(n for n in entry.names if n != number), number][-_NAMES:]
        if len(entry.names) <= self.config.names:
            return []
        count = len(entry.names)
        return [self._finding(
            view, name, tick, entry.since, "medium", confidence(count, self.config.names), f"{server}@{name}/rewritten",
            (ip, server), (view.endpoint(each.client, tick),),
            Evidence(name="rewritten_names", value=count, limit=self.config.names, unit="names",
                     window=self.config.window),
            f"{server} answered {count} names that must not exist, limit {self.config.names}, with {ip} outside; the "
            f"last one is {each.qname}",
        )]  # fmt: skip

    def _judge_questions(self, view: TickView, name: str, tick: int, each: _Switched) -> Finding:
        switched = self.config.switched
        return self._finding(
            view, name, tick, tick, "medium", confidence(each.asked, switched), f"{each.client}@{name}/resolver",
            (each.server,), (view.endpoint(each.client, tick),),
            Evidence(name="questions_elsewhere", value=each.asked, limit=switched, unit="questions"),
            f"{each.client} used to ask the cluster's resolvers and now asked {each.server} {each.asked} questions, "
            f"limit {switched}, and none of them any more",
        )  # fmt: skip

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
