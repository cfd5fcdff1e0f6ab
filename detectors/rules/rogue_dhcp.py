"""Rogue DHCP server: somebody else gives leases, and with them routes and resolvers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field, IPvAnyAddress

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import ClaimDetector, address_text
from detectors.ledger import Entry, Key
from detectors.round_frames import RoundFrames
from detectors.statement import mac_text, machine
from schemas.events import Capability, LinkClaim
from schemas.finding import Evidence, Finding, Severity

_ANSWERS = (LinkClaim.DHCP_OFFER, LinkClaim.DHCP_ACK, LinkClaim.DHCP_NAK)
_TRANSACTION = 10  # s within which servers answer one client's question
_CONFIDENCE: dict[Severity, float] = {"high": 0.9, "medium": 0.6, "low": 0.3}


@dataclass
class _Server(Entry):
    """One server of a segment."""

    answers: int = 0
    clients: list[int] = field(default_factory=list)  # hardware addresses, the last ones
    interface: str = ""


@dataclass
class _Transaction(Entry):
    """Who answered one client's question: [high, low, hardware address] each."""

    servers: list[list[int]] = field(default_factory=list)


class RogueDhcpConfig(DetectorConfig):
    """Limits of ``rogue_dhcp``."""

    servers: tuple[IPvAnyAddress, ...] = Field((), description="addresses of servers that may give leases")
    peers: Annotated[int, Field(ge=0)] = Field(
        5, description="s: servers first heard so close to each other are partners; failover pairs answer together"
    )
    active: Annotated[int, Field(ge=1)] = Field(
        300, description="s since the earlier server's last answer within which a second one does not replace it"
    )
    memory: Annotated[int, Field(ge=60)] = Field(
        86_400, description="s that a server is remembered; a lease's usual day"
    )


class RogueDhcp(ClaimDetector):
    """Fires per server that appeared after another one. Gravest is an answer to a question that both answered."""

    meta = Meta(
        id="rogue_dhcp",
        title="Rogue DHCP server",
        stage=1,
        severity="high",
        techniques=("T1557.003",),
        needs=Capability.DHCP,
        blind="rogue DHCP servers are not seen: the source does not report DHCP",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = RogueDhcpConfig
    config: RogueDhcpConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._servers = self.ledger("servers", _Server, 64, self.config.memory)
        self._transactions = self.ledger("transactions", _Transaction, 512, _TRANSACTION)
        self._declared = frozenset(str(ip) for ip in self.config.servers)

    def observe(self, frames: RoundFrames) -> None:
        """Take in servers' answers."""
        link = frames.link
        if link is None:
            return
        answers = link.of(*_ANSWERS)
        if not answers.any():
            return
        interface, names = link.interface
        columns = (link.vlan, *link.speaker, link.mac, link.claimed_mac, link.number, interface)
        for node, tick, said in self.things(link, answers, columns):
            answered: dict[Key, bool] = {}
            for vlan, high, low, mac, client, transaction, where in said:
                key = (vlan, high, low, mac)
                server = self._servers.touch(node, key, tick)
                server.answers += 1
                server.interface = names[where] or server.interface
                server.clients = [*(c for c in server.clients if c != client), client][-4:]
                asked = self._transactions.touch(node, (vlan, client, transaction), tick)
                if [high, low, mac] not in asked.servers and len(asked.servers) < 8:
                    asked.servers.append([high, low, mac])
                for other in asked.servers if len(asked.servers) > 1 else ():
                    answered[vlan, *other] = True
                answered.setdefault(key, False)
            self._noted += [(frames.names[node], node, tick, key, both) for key, both in answered.items()]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one server that answered, where it is not the first one."""
        name, node, tick, key, both = noted
        server = self._servers.get(node, key, tick)
        if server is None or address_text(key[1:3]) in self._declared:
            return []
        first = self._first(node, tick, key[0])
        if first is None or first[0] == key:
            return []
        earlier = server.since - first[1].since
        if earlier <= self.config.peers:
            # Which of two that began together is the false one cannot be told.
            return [self._finding(view, name, tick, key, server, first, both, "low")] if both else []
        # A server that restarts behind another interface keeps its address; an impostor of it is seen in ARP.
        replaced = tick - first[1].touched > self.config.active or key[:3] == first[0][:3]
        severity: Severity = "high" if both else "low" if replaced else "medium"
        return [self._finding(view, name, tick, key, server, first, both, severity)]

    def _first(self, node: int, tick: int, vlan: int) -> tuple[Key, _Server] | None:
        """Return the server that has the best claim to be the right one: declared, else the earliest."""
        found = [(k, s) for k, s in self._servers.entries(node, tick) if k[0] == vlan]
        return min(found, key=lambda p: (address_text(p[0][1:3]) not in self._declared, p[1].since, p[0]), default=None)

    def _finding(self, view: TickView, node: str, tick: int, key: Key, server: _Server, first: tuple[Key, _Server],
                 both: bool, severity: Severity) -> Finding:  # fmt: skip
        ip, mac = address_text(key[1:3]), mac_text(key[3])
        right, right_mac = address_text(first[0][1:3]), mac_text(first[0][3])
        clients = [c for c in server.clients if c]
        told = "to the same client's question as" if both else "after"
        who, _ = machine(view, node, tick, ip, port=67, protocol="UDP", mac=mac, interface=server.interface)
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=_CONFIDENCE[severity], tick=tick, started=server.since, node=node, subject=f"{ip}/{mac}@{node}",
            attackers=(who,),
            victims=(view.endpoint(right, tick, port=67, protocol="UDP", mac=right_mac),),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="first_heard_after", value=server.since - first[1].since, limit=self.config.peers,
                         unit="s after the earlier server"),
                Evidence(name="answers_beside_another", value=int(both), limit=0, unit="in this second"),
                Evidence(name="answers", value=server.answers, unit="answers"),
                Evidence(name="clients", value=len(clients), unit="of the last 4 clients"),
            ),
            summary=f"{ip} ({mac}) answers DHCP {told} {right} ({right_mac}), which was heard "
                    f"{server.since - first[1].since} s earlier, limit {self.config.peers}",
            spoofable=not server.interface, data_quality=view.quality[node], response=self.meta.response, quiet=300,
        )  # fmt: skip
