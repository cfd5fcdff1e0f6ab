"""DHCP starvation: clients that do not exist take the pool's addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView, confidence
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.ledger import Entry, Key
from detectors.link_frame import LinkFrame
from detectors.round_frames import RoundFrames
from detectors.statement import count, mac_text, machine
from schemas.events import Capability, LinkClaim
from schemas.finding import Evidence, Finding

_CLIENT = (
    LinkClaim.DHCP_DISCOVER, LinkClaim.DHCP_REQUEST, LinkClaim.DHCP_INFORM, LinkClaim.DHCP_DECLINE,
    LinkClaim.DHCP_RELEASE,
)  # fmt: skip
_SERVER = (LinkClaim.DHCP_OFFER, LinkClaim.DHCP_ACK, LinkClaim.DHCP_NAK)
_KNOWN = 86_400  # s that a client is remembered: leases of a day are common
_SERVERS = 3_600
_ANYBODY = "255.255.255.255"
_Piece = tuple[int, Address, bool, str]  # client, address, whether it only informs itself, interface


@dataclass
class _Sender(Entry):
    """Whom one machine, or a whole segment, spoke for lately."""

    clients: list[list[int]] = field(default_factory=list)  # [hardware address, tick]
    addresses: list[list[int]] = field(default_factory=list)  # [high, low, tick]
    inform_only: int = 1
    interfaces: list[str] = field(default_factory=list)


@dataclass
class _Server(Entry):
    """The address of who gave leases on a segment, or of any machine that spoke ARP."""

    address: list[int] = field(default_factory=list)


class DhcpStarvationConfig(DetectorConfig):
    """Limits of ``dhcp_starvation``."""

    identities: Annotated[int, Field(ge=1)] = Field(
        8,
        description="clients, or addresses, that one machine may speak for within the window; bridges have few (count)",
    )
    newcomers: Annotated[int, Field(ge=1)] = Field(
        50, description="clients never seen before on one segment within the window, whoever sends for them (count)"
    )
    window: Annotated[int, Field(ge=1)] = Field(60, description="s")


class DhcpStarvation(ClaimDetector):
    """Fires per machine that speaks for many clients, and per segment with too many new clients at once.

    What a relay passes on is not the relay's: it is counted for the segment alone.
    """

    meta = Meta(
        id="dhcp_starvation",
        title="DHCP starvation",
        stage=1,
        severity="high",
        techniques=("T1499.002", "T1557.003"),
        needs=Capability.DHCP,
        blind="DHCP starvation is not seen: the source does not report DHCP",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = DhcpStarvationConfig
    config: DhcpStarvationConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        lifetime = 2 * self.config.window
        self._machines = self.ledger("machines", _Sender, 512, lifetime)
        self._segments = self.ledger("segments", _Sender, 64, lifetime)
        self._known = self.ledger("known", Entry, 4096, _KNOWN)
        self._servers = self.ledger("servers", _Server, 64, _SERVERS)
        self._owners = self.ledger("owners", _Server, 1024, _SERVERS)

    def observe(self, frames: RoundFrames) -> None:
        """Take in what clients ask for, and who serves them."""
        link = frames.link
        if link is None:
            return
        self._learn(link)
        leases = link.of(*_CLIENT, *_SERVER)
        if not leases.any():
            return
        interface, names = link.interface
        columns = (link.claim, link.mac, link.claimed_mac, *link.claimed, *link.speaker, *link.target, link.vlan,
                   interface)  # fmt: skip
        for node, tick, said in self.things(link, leases, columns):
            machines, segments = self._tick(node, tick, said, names)
            name = frames.names[node]
            self._noted += [(name, node, tick, "machine", key) for key in machines]
            self._noted += [(name, node, tick, "segment", key) for key in segments]

    def _learn(self, link: LinkFrame) -> None:
        """Note under which address machines are known, to name them by it."""
        columns = (link.vlan, link.mac, *link.claimed)
        honest = link.of(LinkClaim.ARP_REQUEST, LinkClaim.ARP_REPLY) & (link.mac == link.claimed_mac)
        for node, tick, said in self.things(link, honest & (link.claimed[1] != 0), columns):
            for vlan, mac, high, low in said:
                self._owners.touch(node, (vlan, mac), tick).address = [high, low]

    def _tick(
        self, node: int, tick: int, said: Sequence[tuple[int, ...]], names: Sequence[str]
    ) -> tuple[dict[Key, Any], dict[Key, Any]]:
        machines: dict[Key, list[_Piece]] = {}
        segments: dict[Key, list[_Piece]] = {}
        for claim, mac, client, high, low, by_high, by_low, at_high, at_low, vlan, where in said:
            if claim in _SERVER:
                self._servers.touch(node, (vlan, mac), tick).address = [by_high, by_low]
                continue
            inform = claim == LinkClaim.DHCP_INFORM
            piece = (client, (high, low), inform, names[where])
            # A client speaks from no address or from its own; who speaks from another's is a relay.
            if not by_low or (by_high, by_low) in ((at_high, at_low), (high, low)):
                machines.setdefault((vlan, mac), []).append(piece)
            elif inform:
                # A relay has one address; who speaks from many is none.
                machines.setdefault((vlan, mac), []).append((0, (by_high, by_low), inform, names[where]))
            if client and self._known.get(node, (vlan, client), tick) is None:
                segments.setdefault((vlan,), []).append(piece)
            if client:
                self._known.touch(node, (vlan, client), tick)
        for ledger, senders in ((self._machines, machines), (self._segments, segments)):
            for key, pieces in senders.items():
                self._count(ledger.touch(node, key, tick), tick, pieces)
        return machines, segments

    def _count(self, sender: _Sender, tick: int, pieces: list[_Piece]) -> None:
        room, begin = 4 * max(self.config.identities, self.config.newcomers), tick - self.config.window
        if not sender.clients or sender.clients[-1][1] <= begin:
            sender.inform_only = 1
        clients = {c[0]: c for c in sender.clients if c[1] > begin}
        addresses = {(a[0], a[1]): a for a in sender.addresses if a[2] > begin}
        for client, address, inform, interface in pieces:
            if client:
                clients.pop(client, None)
                clients[client] = [client, tick]
            if address[1]:
                addresses.pop(address, None)
                addresses[address] = [*address, tick]
            sender.inform_only &= inform
            if interface and interface not in sender.interfaces and len(sender.interfaces) < 2:
                sender.interfaces.append(interface)
        sender.clients = list(clients.values())[-room:]
        sender.addresses = list(addresses.values())[-room:]

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one machine or segment, where it passed its limit."""
        name, node, tick, what, key = noted
        ledger = self._machines if what == "machine" else self._segments
        sender = ledger.get(node, key, tick)
        if sender is None:
            return []
        begin = tick - self.config.window
        clients = sum(c[1] > begin for c in sender.clients)
        addresses = sum(a[2] > begin for a in sender.addresses)
        limit = self.config.identities if what == "machine" else self.config.newcomers
        value = max(clients, addresses) if what == "machine" else clients
        if value <= limit or (what == "segment" and self._by_machines(node, tick)):
            return []
        return [self._finding(view, name, node, tick, key, sender, (clients, addresses, value, limit))]

    def _by_machines(self, node: int, tick: int) -> bool:
        """Tell whether single machines are named already, so that the segment says nothing new."""
        begin, limit = tick - self.config.window, self.config.identities
        found = (sum(c[1] > begin for c in m.clients) > limit for _, m in self._machines.entries(node, tick))
        return any(found)

    def _finding(self, view: TickView, node: str, number: int, tick: int, key: tuple[int, ...], sender: _Sender,
                 numbers: tuple[int, int, int, int]) -> Finding:  # fmt: skip
        clients, addresses, value, limit = numbers
        config, mac = self.config, mac_text(key[1]) if len(key) > 1 else None
        interface = sender.interfaces[0] if len(sender.interfaces) == 1 else None
        owner = self._owners.get(number, key, tick) if mac else None
        ip = address_text(owner.address) if owner is not None else ""
        sender_end, _ = machine(view, node, tick, ip, mac=mac, interface=interface or "")
        who = f"{ip or 'one machine'} ({mac})" if mac else "a segment's machines"
        told = [address_text(s.address) for k, s in self._servers.entries(number, tick) if k[0] == key[0]]
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title,
            # INFORM takes no lease: a flood of it is work for the server and no more.
            severity="medium" if sender.inform_only else self.meta.severity,
            confidence=confidence(value, limit), tick=tick, started=max(sender.since, tick - config.window), node=node,
            subject=f"{mac or f'vlan {key[0]}'}@{node}", attackers=(sender_end,),
            victims=tuple(view.endpoint(ip, tick, port=67, protocol="UDP") for ip in sorted(told)[:4] or [_ANYBODY]),
            techniques=self.meta.techniques,
            evidence=(
                Evidence(name="dhcp_identities", value=value, limit=limit, unit="clients", window=config.window),
                Evidence(name="hardware_addresses", value=clients, unit="clients", window=config.window),
                Evidence(name="addresses", value=addresses, unit="addresses", window=config.window),
            ),
            summary=f"{who} asked by DHCP for {count(clients)} clients and {count(addresses)} addresses within "
                    f"{config.window} s, limit {limit}",
            spoofable=interface is None, data_quality=view.quality[node], response=self.meta.response, quiet=120,
        )  # fmt: skip
