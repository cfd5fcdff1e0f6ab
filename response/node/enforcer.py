"""The mind of a node's agent: from signed commands to tables, and back to what they dropped. Time is an argument."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from response.guard import Refusal
from response.node.bounds import Bounds
from response.node.changes import changes
from response.node.claims import Claims
from response.node.entries import Key, Rates, Wanted, key_of, network_of
from response.node.kernel_tools import ToolError
from response.node.nft import Look, NodeTables
from response.node.ruleset import Family
from response.node.tally import Tally
from response.signing import Verifier
from schemas.node_command import NodeCommand
from schemas.node_report import NodeRefusal, NodeReport
from schemas.word import WordError, from_iso, iso_time

# Of commands, in each report: as many as come between two of them, and a few more.
_REPORTED = 256


@dataclass(frozen=True, slots=True)
class Judged:
    """A record of the topic after it was read: the command as far as it could be, and why it is not obeyed."""

    command: NodeCommand | None
    refusal: Refusal | None
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Settled:
    """Why the tables are not as they are wanted (none: they are), and how many entries of which response expired."""

    problem: Refusal | None
    expired: Mapping[str, int]


class NodeEnforcer:
    """Keeps the tables of one node as signed commands want them. Not for use by several threads at once."""

    def __init__(self, tables: NodeTables, verifier: Verifier, bounds: Bounds, cluster: str, node: str) -> None:
        self.bounds = bounds
        self.tally = Tally()
        self.problem: Refusal | None = None
        # Why packets would not meet the tables at all; nothing is obeyed then.
        self.bypass: Refusal | None = None
        self.ignored = 0  # commands for other nodes
        self._tables = tables
        self._verifier = verifier
        self._claims = Claims()
        self._cluster = cluster
        self._node = node
        self._obeyed: deque[str] = deque(maxlen=_REPORTED)
        self._refused: deque[NodeRefusal] = deque(maxlen=_REPORTED)

    def read(self, value: bytes, now: float, *, known: bool = False) -> Judged:
        """Take in one record of nodecommands.v1; the tables change with the next `settle`.

        `known`: an earlier process read it already, so that its refusal is no news.
        """
        try:
            command = NodeCommand.decode(value)
        except WordError as error:
            return self._refuse(None, Refusal("unreadable", str(error)), known)
        if (command.cluster, command.node) != (self._cluster, self._node):
            self.ignored += 1
            return Judged(command, None, ours=False)
        said = self._verifier.verify(command, now)
        refusal = said if isinstance(said, Refusal) else self._obey(command, now)
        if refusal is not None:
            return self._refuse(command, refusal, known)
        if not known:
            self._obeyed.append(command.id)
        return Judged(command, None)

    def settle(self, now: float) -> Settled:
        """Make the tables what commands want them to be; what was dropped so far is counted first.

        An absent or altered table is made anew, unless packets would bypass it.
        """
        expired = Counter(wanted.response_id for _, wanted in self._claims.expire(now))
        self.problem = self.bypass
        try:
            look = self._tables.look()
            if look is None and self.bypass is None:
                empty: dict[Family, Look] = {family: Look() for family in self._tables.families}
                self._tables.install(self._changes(empty, now))
            elif look is not None:
                self.tally.count(look.values(), now)
                commands = self._changes(look, now)
                if not commands:
                    return Settled(self.problem, dict(sorted(expired.items())))
                self._tables.change(commands)
            self.tally.count((self._tables.look() or {}).values(), now)
        except ToolError as error:
            self.problem = Refusal(error.reason, str(error))
        return Settled(self.problem, dict(sorted(expired.items())))

    def remove(self) -> None:
        """Leave nothing in the kernel. Raises ToolError."""
        self._tables.remove()

    def report(self, now: float) -> NodeReport:
        """What is in the tables as of the last `settle`."""
        state = "enforcing" if self.problem is None else "refusing" if self.problem == self.bypass else "failing"
        return NodeReport(
            cluster=self._cluster,
            node=self._node,
            at=iso_time(now),
            state=state,
            reason=self.problem.reason if self.problem else "",
            message=self.problem.message if self.problem else "",
            entries=self.tally.entries(),
            obeyed=tuple(reversed(self._obeyed)),
            refused=tuple(reversed(self._refused)),
        )

    def _changes(self, look: dict[Family, Look], now: float) -> list[dict[str, object]]:
        sources = self.bounds.settings.sources_per_limit
        return changes(self._claims.wanted(), look, self._claims.known, now, sources)

    def _refuse(self, command: NodeCommand | None, refusal: Refusal, known: bool) -> Judged:
        if not known:
            self._refused.append(NodeRefusal(command_id=command.id if command else "", reason=refusal.reason))
        return Judged(command, refusal)

    def _obey(self, command: NodeCommand, now: float) -> Refusal | None:
        issued = from_iso(command.issued_at)
        if command.verb == "lift":
            self._claims.lift(command.response_id, issued)
            return None
        if self.bypass is not None:
            return self.bypass
        if self._claims.lifted_since(command.response_id, issued):
            return Refusal("lifted", "a later command took this response back")
        entries = _entries(command, now)
        if isinstance(entries, Refusal):
            return entries
        refusal = next(filter(None, map(self.bounds.refuse_capture, command.captures)), None)
        refusal = refusal or self._refuse_entries(entries, now)
        if refusal is None:
            for key, wanted in entries:
                self._claims.add(key, wanted)
        return refusal

    def _refuse_entries(self, entries: Iterable[tuple[Key, Wanted]], now: float) -> Refusal | None:
        """The first reason against any of the entries; all of a command is done, or nothing."""
        keys = dict.fromkeys(self._claims.keys())
        for key, wanted in entries:
            refusal = self.bounds.refuse(key, wanted.rates, wanted.expires_at - now)
            refusal = refusal or self.bounds.refuse_overlap(key, keys)
            if refusal is not None:
                return refusal
            keys[key] = None
        most = self.bounds.settings.max_entries
        if len(keys) > most:
            return Refusal("full", f"{len(keys)} entries; at most {most} are allowed on this node")
        return None


def _entries(command: NodeCommand, now: float) -> list[tuple[Key, Wanted]] | Refusal:
    """What a command wants in the tables, or why it cannot be read."""
    try:
        expires_at = from_iso(command.expires_at)
        cuts: list[tuple[Key, Rates | None]] = [(key_of(cut), None) for cut in command.cuts]
        limits = [(key_of(limit), Rates(limit.per_source, limit.in_all)) for limit in command.limits]
        for capture in command.captures:
            if network_of(capture.address).num_addresses != 1:
                return Refusal("bad_entry", f"{capture.address} is more than one address")
    except ValueError as error:
        return Refusal("bad_entry", str(error))
    if not cuts and not limits and not command.captures:
        return Refusal("bad_entry", "the command names nothing to cut, limit or capture")
    if expires_at <= now:
        return Refusal("expired", f"it was to last until {command.expires_at}")
    return [(key, Wanted(command.response_id, expires_at, rates)) for key, rates in (*cuts, *limits)]
