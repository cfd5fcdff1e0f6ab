"""Who claims which address on a segment, and who of several claimants is the impostor.

ARP and neighbour discovery are the same conversation: a question names its asker, an answer names an owner.
The book keeps for each (VLAN, address) the hardware addresses that claimed it, and for each claimant what
only an impostor does. Nothing is judged by one sign alone: addresses move, and machines have several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from detectors.claim_detector import Address, ClaimDetector
from detectors.ledger import Entry, Key
from detectors.link_frame import LinkFrame
from detectors.row_frame import RowFrame

_MEMORY = 3600  # s that a claim is remembered
_ANSWER = 5  # s within which an answer belongs to a question
_CONTESTED = 120  # s after the last claim that traffic of a contested address is looked at
_STILL_USED = 3  # s after an address was claimed by another that its owner's packets prove that it did not move
_FORGIVEN = 300  # s of silence after which a claimant's signs are forgotten
_ECHOES = 2  # questions asked alike that are no coincidence
_CLAIMANTS, _TOLD, _SPOKEN_FOR = 8, 4, 8
# Virtual router addresses of RFC 5798 (VRRP): they move between machines by design.
_VIRTUAL = (0x00005E0001, 0x00005E0002)
_GROUP_BIT = 1 << 40


@dataclass
class Held(Entry):
    """An address: who claimed it, the oldest claimant first, and how often the claim went back and forth."""

    macs: list[int] = field(default_factory=list)
    last_mac: int = 0
    last_tick: int = 0
    turns: int = 0
    turned: int = 0


@dataclass
class Claimant(Entry):
    """One hardware address that claimed an address, and the signs against it."""

    pushes: int = 0  # ticks with answers that nobody had asked for, sent to one host alone
    asks: int = 0  # ticks in which it asked for the address that it claims itself
    echoes: int = 0  # ticks in which it and a rival asked the same question in the name of the address
    forged: int = 0  # ticks in which its frames named a rival's hardware address
    used: int = 0  # last second in which packets with this source address came from it, s since epoch
    told: list[list[int]] = field(default_factory=list)  # whom it told without a question that was seen
    interface: str = ""


@dataclass
class Speaker(Entry):
    """One hardware address and the first addresses that it claimed."""

    addresses: list[list[int]] = field(default_factory=list)
    interface: str = ""


@dataclass(frozen=True)
class Suspicion:
    """What speaks against one claimant of an address; ``score`` adds up the signs."""

    mac: int
    address: Address
    rivals: tuple[int, ...]
    score: int
    alive: bool  # the address has not moved: its other owner is still there
    pushes: int
    asks: int
    turns: int
    since: int
    told: tuple[Address, ...]
    own: tuple[Address, ...]  # other addresses of the same claimant
    second: bool  # and that is a sign
    both_ways: bool
    interface: str
    last: int  # tick of its last claim
    acts: bool  # it did what only an impostor does, so that it is one though another claimant is a worse one


@dataclass(frozen=True)
class Signs:
    """When a sign counts; see the detectors' settings of the same names."""

    pushes: int
    turns: int
    window: int
    settle: int
    own_addresses: bool  # whether an ordinary machine has one address, so that a second one is a sign


class ClaimBook:
    """The claims of one protocol; its memory belongs to a detector."""

    def __init__(self, owner: ClaimDetector, question: int, answer: int, signs: Signs, proxies: frozenset[int]) -> None:
        self._question, self._answer = question, answer
        self._signs, self._proxies = signs, proxies
        self._things = owner.things
        self.held = owner.ledger("held", Held, 2048, _MEMORY)
        self.claimants = owner.ledger("claimants", Claimant, 3072, _MEMORY)
        self.speakers = owner.ledger("speakers", Speaker, 2048, _MEMORY)
        self._questions = owner.ledger("questions", Entry, 2048, _ANSWER)
        self._contested = owner.ledger("contested", Entry, 256, _CONTESTED)

    def take(self, link: LinkFrame) -> dict[tuple[int, int], list[Key]]:
        """Take in the claims of a round; return the addresses that were claimed, by (node, tick)."""
        names, interfaces = link.interface
        columns = (link.claim, link.mac, link.destination_mac, link.claimed_mac, *link.claimed, *link.target, link.vlan,
                   names)  # fmt: skip
        said = self._things(link, link.of(self._question, self._answer), columns)
        return {(node, tick): self._tick(node, tick, pieces, interfaces) for node, tick, pieces in said}

    def _tick(self, node: int, tick: int, pieces: Sequence[tuple[int, ...]], interfaces: Sequence[str]) -> list[Key]:
        touched: dict[Key, None] = {}
        for claim, _, _, mac, high, low, to_high, to_low, vlan, _ in pieces:
            own = (high, low) == (to_high, to_low)
            if (
                claim == self._question
                and not own
                and self._asked(node, tick, vlan, mac, (high, low), (to_high, to_low))
            ):
                touched[vlan, to_high, to_low] = None
        for claim, sender, told_mac, mac, high, low, to_high, to_low, vlan, where in pieces:
            if not low or not mac or mac & _GROUP_BIT or mac >> 8 in _VIRTUAL or mac in self._proxies:
                continue
            key = (vlan, high, low)
            claimant = self._claimed(node, tick, key, mac, sender, interfaces[where])
            if claimant is None:
                continue
            touched[key] = None
            told = (to_high, to_low)
            alone = not told_mac & _GROUP_BIT and told not in ((high, low), (0, 0))
            if claim == self._answer and alone:
                self._told(node, tick, vlan, claimant, (high, low), told, told_mac)
        self._echoed(node, tick, pieces)
        return list(touched)

    def _echoed(self, node: int, tick: int, pieces: Sequence[tuple[int, ...]]) -> None:
        """Count questions that several ask alike: a bridge that puts its own hardware address into all frames."""
        askers: dict[Key, set[int]] = {}
        for claim, _, _, mac, high, low, to_high, to_low, vlan, _ in pieces:
            if claim == self._question:
                askers.setdefault((vlan, high, low, to_high, to_low), set()).add(mac)
        for (vlan, high, low, *_), macs in askers.items():
            for mac in macs if len(macs) > 1 else ():
                claimant = self.claimants.get(node, (vlan, high, low, mac), tick)
                if claimant is not None:
                    claimant.echoes += 1

    def _asked(self, node: int, tick: int, vlan: int, mac: int, asker: Address, asked: Address) -> bool:
        """Note a question; tell whether the asker claims the address itself."""
        if asker[1]:
            self._questions.touch(node, (vlan, *asker, *asked), tick)
        held = self.held.get(node, (vlan, *asked), tick)
        # Who lost an address may ask for it; who claims it now has no reason to.
        if held is None or held.last_mac != mac or tick - held.last_tick > self._signs.window:
            return False
        claimant = self.claimants.get(node, (vlan, *asked, mac), tick)
        if claimant is None:
            return False
        claimant.asks += 1
        return True

    def _claimed(self, node: int, tick: int, key: Key, mac: int, sender: int, interface: str) -> Claimant | None:
        forger = self.claimants.get(node, (*key, sender), tick) if sender != mac else None
        if forger is not None:
            forger.forged += 1
            return None
        before = self.claimants.get(node, (*key, mac), tick)
        if before is not None and tick - before.touched > _FORGIVEN:
            before.pushes = before.asks = before.forged = 0
        claimant = self.claimants.touch(node, (*key, mac), tick)
        claimant.interface = interface or claimant.interface
        speaker = self.speakers.touch(node, (key[0], mac), tick)
        speaker.interface = interface or speaker.interface
        address = list(key[1:])
        if address not in speaker.addresses and len(speaker.addresses) < _SPOKEN_FOR:
            speaker.addresses.append(address)
        self._hold(node, tick, key, mac)
        return claimant

    def _hold(self, node: int, tick: int, key: Key, mac: int) -> None:
        held = self.held.touch(node, key, tick)
        if mac not in held.macs:
            held.macs = [m for m in held.macs if self.claimants.get(node, (*key, m), tick) is not None]
            if len(held.macs) >= _CLAIMANTS:
                # The oldest claimant may be the owner; of the others who has been silent for longest makes room.
                held.macs.remove(min(held.macs[1:], key=lambda m: self._heard(node, (*key, m), tick)))
            held.macs.append(mac)
        if held.last_mac not in (mac, 0) and tick - held.last_tick <= self._signs.settle:
            held.turns = (held.turns if tick - held.turned <= self._signs.window else 0) + 1
            held.turned = tick
        held.last_mac, held.last_tick = mac, tick
        if len(held.macs) > 1:
            self._contested.touch(node, key, tick)

    def _heard(self, node: int, key: Key, tick: int) -> int:
        """Return the tick of a claimant's last claim."""
        claimant = self.claimants.get(node, key, tick)
        return claimant.touched if claimant is not None else 0

    def _told(
        self, node: int, tick: int, vlan: int, claimant: Claimant, address: Address, told: Address, told_mac: int
    ) -> None:
        if self._questions.get(node, (vlan, *told, *address), tick) is not None:
            return
        if list(told) not in claimant.told:
            claimant.told = [*claimant.told[-_TOLD + 1 :], list(told)]
        # Only of a machine that is heard here is it known that it had not asked.
        if self.claimants.get(node, (vlan, *told, told_mac), tick) is not None:
            claimant.pushes += 1

    def look_at_traffic(self, flow: RowFrame) -> None:
        """Note which claimants of contested addresses still send packets from them."""
        macs: dict[int, set[int]] = {}
        for node, tick in flow.heard():
            for key, _ in self._contested.entries(node, tick):
                held = self.held.get(node, key, tick)
                macs.setdefault(node, set()).update(held.macs if held is not None else ())
        if not any(macs.values()):
            return
        sources = flow.numbers("src_mac")
        wanted = np.array(sorted(set().union(*macs.values())), np.uint64)
        chosen = np.isin(sources, wanted) & (flow.numbers("src_packets") > 0)
        if not chosen.any():
            return
        columns = (sources, *flow.addresses("src"), flow.numbers("vlan"), flow.numbers("end") // 1_000_000_000)
        for node, tick, sent in self._things(flow, chosen, columns):
            for mac, high, low, vlan, end in sent:
                claimant = self.claimants.get(node, (vlan, high, low, mac), tick)
                if claimant is not None:
                    claimant.used = max(claimant.used, int(end))

    def suspects(self, node: int, tick: int, key: Key) -> list[Suspicion]:
        """Return the claimants of an address that may be impostors.

        That is the one against whom most speaks, among equals the newer one, unless it has been silent for the window;
        and whoever claims the address in this very tick and acts as only an impostor does: there may be several.
        """
        held = self.held.get(node, key, tick)
        if held is None:
            return []
        rows = [(m, c) for m in held.macs if (c := self.claimants.get(node, (*key, m), tick)) is not None]
        found = [self._weigh(node, tick, key, held, mac, claimant, rows) for mac, claimant in rows]
        if not found or _bonded(found):
            return []
        worst = max(found, key=lambda s: (s.score, s.since, s.mac))
        others = [s for s in found if s is not worst and s.acts and s.last == tick]
        return [worst, *others] if tick - worst.last <= self._signs.window else others

    def _weigh(self, node: int, tick: int, key: Key, held: Held, mac: int, claimant: Claimant,
               rows: Iterable[tuple[int, Claimant]]) -> Suspicion:  # fmt: skip
        signs = self._signs
        rivals = [(m, c) for m, c in rows if m != mac]
        turning = held.turns >= signs.turns and tick - held.turned <= signs.window
        alive = bool(rivals) and (turning or any(c.used >= claimant.since + _STILL_USED for _, c in rivals))
        own = self._own(node, tick, key, mac)
        second = signs.own_addresses and bool(own)
        elsewhere = bool(claimant.interface) and any(c.interface not in ("", claimant.interface) for _, c in rivals)
        both = self._both_ways(node, tick, key, mac, claimant)
        score = 2 * alive + 3 * bool(claimant.asks) + 3 * both + bool(claimant.forged)
        score += 3 if claimant.pushes >= signs.pushes else bool(claimant.pushes)
        score += (2 if alive else 1) if second else alive and elsewhere
        score -= 3 if claimant.echoes >= _ECHOES else 0
        return Suspicion(
            mac, (key[1], key[2]), tuple(m for m, _ in rivals), score, alive, claimant.pushes, claimant.asks,
            held.turns if turning else 0, claimant.since, tuple((t[0], t[1]) for t in claimant.told), own, second, both,
            claimant.interface, claimant.touched, claimant.pushes >= signs.pushes or bool(claimant.asks) or both,
        )  # fmt: skip

    def _own(self, node: int, tick: int, key: Key, mac: int) -> tuple[Address, ...]:
        """Return the addresses that a claimant has beside this one, and has alone."""
        speaker = self.speakers.get(node, (key[0], mac), tick)
        out = []
        for high, low in speaker.addresses if speaker is not None else ():
            held = self.held.get(node, (key[0], high, low), tick)
            if (high, low) != key[1:] and held is not None and held.macs == [mac]:
                out.append((high, low))
        return tuple(out)

    def _both_ways(self, node: int, tick: int, key: Key, mac: int, claimant: Claimant) -> bool:
        """Tell whether it told one end that it is the other, and the other that it is the one."""
        for high, low in claimant.told:
            other = self.claimants.get(node, (key[0], high, low, mac), tick)
            if other is not None and list(key[1:]) in other.told:
                return True
        return False


def _bonded(found: Sequence[Suspicion]) -> bool:
    """Tell whether the claimants look like one machine that balances over its interfaces: all push alike."""
    pushes = [s.pushes for s in found]
    alike = len(found) > 1 and min(pushes) > 0 and 2 * min(pushes) >= max(pushes)
    return alike and len({s.interface for s in found}) == 1 and not any(s.second for s in found)
