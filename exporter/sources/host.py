"""What goes on inside the node: promiscuous interfaces, packet sockets, new listeners, interfaces that come and go.

Interfaces are asked of the kernel, those of pods too (by the number of their namespace), sockets are read from /proc.
Both are looked at once a second, listeners in turn: what lives shorter may be missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import ClassVar

import numpy as np

from exporter.link_block import MAPPED, LinkBlock
from exporter.live_source import SourceError, SourceState
from exporter.privileges import Privilege
from exporter.second import Second
from exporter.settings import ExporterSettings
from exporter.sources.interfaces import POD_KINDS, watched
from exporter.sources.pod_sockets import MOST_SOCKETS, PodSockets, SocketEntry, Space
from exporter.sources.rtnetlink import AddressMessage, LinkMessage, everything, space_of
from schemas.events import Capability, LinkClaim

_SECOND = 1_000_000_000
_ETHERNET = 1  # ARPHRD_ETHER
_HALF = (1 << 64) - 1
_TRIES = 3  # looks at a socket without a known owner: its program may be between two steps of its start


@dataclass(frozen=True)
class Claim:
    """One row: about a pod's interface or socket where ``address`` is given, else about the node's."""

    kind: int
    interface: str = ""
    address: str = ""
    text: str = ""
    number: int = 0
    mac: int = 0


@dataclass
class _Pod:
    """A pod as its namespace tells of it."""

    address: str
    links: list[LinkMessage] = field(default_factory=list)


class HostSource:
    """The node's and its pods' interfaces and sockets, looked at once a second.

    A state is told when it begins and again after ``host.repeat_seconds``; listeners and interfaces once, and only
    those that appear after the start.

    Args:
        settings: of the exporter.
        node_hash: not needed; rows are about no flow.
        began: when the exporter starts, ns since epoch.
    """

    name: ClassVar[str] = "host"
    capabilities: Capability = Capability.HOST | Capability.INTERFACES
    notes: tuple[str, ...] = ()
    needs: ClassVar[frozenset[Privilege]] = frozenset({Privilege.CAP_NET_ADMIN, Privilege.CAP_SYS_PTRACE})
    keeps: ClassVar[frozenset[Privilege]] = needs

    def __init__(self, settings: ExporterSettings, node_hash: int, began: int) -> None:
        self._settings = settings
        self._sockets = PodSockets()
        self._due: dict[Claim, int] = {}  # states, and the cut from which each is told again
        # By namespace and socket: the name, and how often it is still looked for where it was not found.
        self._owners: dict[tuple[int, int], tuple[str, int]] = {}
        self._kept: set[tuple[int, int]] = set()
        self._shed = 0
        self._listeners: dict[int, set[int]] = {}  # sockets by namespace
        self._numbers: dict[int, int] = {}  # the kernel's numbers of namespaces, by inode
        self._listened = 0  # the namespace whose listeners were looked at last
        self._links: dict[int, LinkMessage] = {}
        self._names: list[str] = [""]
        self._rows = 0
        self._problems: list[str] = []
        self._opened = False

    @property
    def interfaces(self) -> Sequence[str]:
        """Names of the numbers in the last second's interface column."""
        return self._names

    @property
    def next_due(self) -> int | None:
        """It looks at the seconds that there are."""
        return None

    @property
    def busy(self) -> bool:
        """Nothing waits here."""
        return False

    def open(self) -> None:
        """Take down what there is already.

        Raises:
            SourceError: the kernel does not tell.
        """
        try:
            self._links = {m.number: m for m in everything() if isinstance(m, LinkMessage) and m.family == 0}
        except OSError as error:
            problem = f"host: cannot hear of interfaces: {error.strerror}"
            raise SourceError(problem) from None
        for space in self._sockets.spaces():
            self._listeners[space.inode] = {entry.inode for entry in self._sockets.listeners(space)}
        self._opened = True

    def collect(self, cut: int, now: int) -> None:
        """Everything is looked at when a second ends."""

    def close(self, cut: int, final: bool = False) -> Second:
        """Look at everything, and tell what is new."""
        if not self._opened:
            return Second()
        try:
            claims = self._look(cut)
        except OSError as error:
            self._note(f"cannot look at the node: {error.strerror}")
            claims = []
        self._rows += len(claims)
        shed, self._shed = self._shed, 0
        return Second(links=[self._block(claims, cut)] if claims else [], lost_rows=shed)

    def _note(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)

    def _look(self, cut: int) -> list[Claim]:
        links = {m.number: m for m in everything() if isinstance(m, LinkMessage) and m.family == 0}
        pods = self._pods(links.values())
        states = self._promiscuous(links.values(), pods.values()) + self._behind(links.values(), pods)
        claims = self._changes(links)
        self._kept = set()
        mine, spaces = self._sockets.own(), self._sockets.spaces()
        turn = self._turn(spaces)
        for space in spaces:
            raw = self._bounded(self._sockets.packet_sockets(space))
            fresh = self._new_listeners(space) if space.inode in turn else []
            self._kept |= {(space.inode, entry.inode) for entry in (*raw, *fresh)}
            if not raw and not fresh:
                continue
            address = "" if space.inode == mine else self._address(space, pods)
            if address is None:
                continue
            owners = self._named(space, [*raw, *fresh])
            for entry in raw:
                where = self._sockets.interface(space, entry.number)
                states.append(Claim(LinkClaim.PACKET_SOCKET, where, address, owners[entry.inode]))
            claims += [Claim(LinkClaim.LISTENER, "", address, owners[e.inode], e.number) for e in fresh]
        self._owners = {key: owner for key, owner in self._owners.items() if key in self._kept}
        return claims + self._fresh(states, cut)

    def _turn(self, spaces: Sequence[Space]) -> set[int]:
        """Return the namespaces whose listeners are looked at this time: a few, so that all have their turn."""
        inodes = [space.inode for space in spaces]
        there = set(inodes)
        self._listeners = {inode: known for inode, known in self._listeners.items() if inode in there}
        self._numbers = {inode: number for inode, number in self._numbers.items() if inode in there}
        count = -(-len(inodes) // self._settings.host.listener_seconds)
        after = [inode for inode in inodes if inode > self._listened]
        chosen = (after + inodes)[: min(count, len(inodes))]
        self._listened = chosen[-1] if chosen else 0
        return set(chosen)

    def _new_listeners(self, space: Space) -> list[SocketEntry]:
        found = self._bounded(self._sockets.listeners(space))
        known = self._listeners.get(space.inode, set())
        self._listeners[space.inode] = {entry.inode for entry in found}
        return [entry for entry in found if entry.inode not in known]

    def _bounded(self, found: list[SocketEntry]) -> list[SocketEntry]:
        """Return as many sockets as are looked at; that there are more is counted."""
        self._shed += len(found) > MOST_SOCKETS
        return found[:MOST_SOCKETS]

    def _named(self, space: Space, entries: Sequence[SocketEntry]) -> dict[int, str]:
        """Return the owner of each socket, empty where it is not known; one that is not found is looked for again."""
        known = {e.inode: self._owners.get((space.inode, e.inode), ("", _TRIES)) for e in entries}
        wanted = [inode for inode, (name, tries) in known.items() if not name and tries]
        found = self._sockets.owners(space, wanted)
        known |= {inode: (found.get(inode, ""), known[inode][1] - 1) for inode in wanted}
        self._owners |= {(space.inode, inode): value for inode, value in known.items()}
        return {inode: name for inode, (name, _) in known.items()}

    def _pods(self, links: Iterable[LinkMessage]) -> dict[int, _Pod]:
        """Ask for the interfaces and addresses of every pod whose interface leads to this node, by namespace."""
        found = {}
        for link in links:
            seen = watched(link, self._settings.packets)
            if seen is None or seen.uplink or link.space < 0:
                continue
            try:
                inside = list(everything(link.space))
            except OSError as error:
                # It has gone meanwhile, or belongs to another user namespace.
                self._note(f"cannot ask for the interfaces of pods: {error.strerror}")
                continue
            addresses = [m.address for m in inside if isinstance(m, AddressMessage) and _is_global(m.address)]
            if addresses:
                # IPv4 first: it is the one that names a pod in most clusters.
                found[link.space] = _Pod(min(addresses, key=_order), [m for m in inside if isinstance(m, LinkMessage)])
        return found

    def _address(self, space: Space, pods: Mapping[int, _Pod]) -> str | None:
        """Return the address of the pod that a namespace is; None where it is no pod of this node."""
        number = self._numbers.get(space.inode, -1)
        if number not in pods:
            # It may have had no number yet, or is another namespace by now.
            with suppress(OSError):
                number = self._numbers[space.inode] = space_of(space.pids[0])
        return pods[number].address if number in pods else None

    @staticmethod
    def _promiscuous(links: Iterable[LinkMessage], pods: Iterable[_Pod]) -> list[Claim]:
        found = [("", link) for link in links]
        found += [(pod.address, link) for pod in pods for link in pod.links]
        return [
            Claim(LinkClaim.PROMISCUOUS, link.name, address, mac=link.mac)
            for address, link in found if link.listeners and link.hardware == _ETHERNET
        ]  # fmt: skip

    @staticmethod
    def _behind(links: Iterable[LinkMessage], pods: Mapping[int, _Pod]) -> list[Claim]:
        """Tell whose interfaces those on the node are: a packet that enters by one was sent by that pod."""
        return [
            Claim(LinkClaim.POD_INTERFACE, link.name, pods[link.space].address, number=link.number, mac=link.mac)
            for link in links if link.space in pods and link.kind in POD_KINDS
        ]  # fmt: skip

    def _changes(self, links: dict[int, LinkMessage]) -> list[Claim]:
        before, self._links = self._links, links
        names = {number: link.name for number, link in (before | links).items()}
        claims = []
        for number in sorted(before.keys() | links.keys()):
            old, new = before.get(number), links.get(number)
            about = new or old
            if about is None or (old and new and old.master == new.master):
                continue
            kind = LinkClaim.INTERFACE_MOVED if old and new else LinkClaim.INTERFACE_ADDED
            kind = kind if new else LinkClaim.INTERFACE_REMOVED
            text = " ".join(filter(None, (about.kind, names.get(about.master, ""))))
            claims.append(Claim(kind, about.name, "", text, number, about.mac))
        return claims

    def _fresh(self, states: Iterable[Claim], cut: int) -> list[Claim]:
        """Return the states that began, or that were told long ago."""
        now = dict.fromkeys(states)
        self._due = {claim: due for claim, due in self._due.items() if claim in now}
        fresh = [claim for claim in now if self._due.get(claim, 0) <= cut]
        self._due |= dict.fromkeys(fresh, cut + self._settings.host.repeat_seconds)
        return fresh

    def _block(self, claims: Sequence[Claim], cut: int) -> LinkBlock:
        self._names = ["", *sorted({claim.interface for claim in claims} - {""})]
        places = {name: place for place, name in enumerate(self._names)}
        halves = [_halves(claim.address) for claim in claims]
        zero = np.zeros(len(claims), np.uint64)
        return {
            "position": np.arange(len(claims)), "time": np.full(len(claims), cut * _SECOND - 1),
            "claim": np.array([claim.kind for claim in claims], np.uint8),
            "mac": np.array([claim.mac for claim in claims], np.uint64), "destination_mac": zero, "claimed_mac": zero,
            "claimed_high": np.array([high for high, _ in halves], np.uint64),
            "claimed_low": np.array([low for _, low in halves], np.uint64),
            "target_high": zero, "target_low": zero, "speaker_high": zero, "speaker_low": zero,
            "number": np.array([claim.number for claim in claims], np.uint32),
            "text": np.array([claim.text for claim in claims], object),
            "interface": np.array([places[claim.interface] for claim in claims], np.int64),
            "vlan": np.zeros(len(claims), np.uint16),
        }  # fmt: skip

    def state(self) -> SourceState:
        """Return how it stands; its packets are the rows that it told."""
        return SourceState(self._rows, 0, (), list(self._problems))

    def shut(self) -> None:
        """Nothing is held open between two looks."""
        self._opened = False


def _is_global(text: str) -> bool:
    """Tell whether an address is of use beyond its interface."""
    address = ip_address(text)
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)


def _order(text: str) -> tuple[int, int]:
    address = ip_address(text)
    return address.version, int(address)


def _halves(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    address = ip_address(text)
    number = int(address)
    return (0, number | int(MAPPED)) if address.version == 4 else (number >> 64, number & _HALF)
