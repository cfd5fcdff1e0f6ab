"""Whom stage 2 waits for: the event partitions, what each has said last, and which are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.rollups import RollupHeader

# Append time after the first tick of any sender, ms, for which all others may still begin. Exporters that are started
# together speak in the same second, and whoever reads them sends within the next.
JOIN_MS = 2000


@dataclass
class _Sender:
    """``tick``: the last one said in full; ``reach``: up to where nothing is to be waited for while it is left out.

    ``absent``: it had read nothing when the others had begun for long enough.
    ``begun``, ``parts``: a tick that is being said, and how many of its parts were.
    """

    tick: int = 0
    reach: int = 0
    waited: bool = False
    silent: RollupHeader | None = None
    absent: bool = False
    begun: int = 0
    parts: int = 0


class Senders:
    """The senders of one rollup partition.

    A sender is left out by its own words only, all of them records of the log: it has read nothing yet (``empty``),
    all its nodes have ended (``idle`` on a tick), or it has had nothing to read for the silence time (kind ``idle``).
    It is waited for again when it says a tick that is not done, or has caught up.

    Nothing is done before every sender has said a tick, or that it has read nothing ``JOIN_MS`` after the first tick of
    another: who of two that begin together is read first must not show.

    ``counts`` says how often since the state began: ``repeats`` dropped, ``late`` messages, ``silences``,
    ``foreign`` messages of senders or partitions that do not exist here.
    """

    def __init__(self, senders: int, partition: int, partitions: int) -> None:
        self._expected = senders
        self._place = (partition, partitions)
        self._senders: dict[int, _Sender] = {}
        self._begun: int | None = None  # append time of the first tick, ms since epoch; 0: it has none
        self.done = 0  # last tick that is complete; it never goes back
        self.counts: Counter[str] = Counter()

    def take(self, header: RollupHeader, appended: int | None = None) -> int | None:
        """Take a message in; return the tick in which it counts, none where it adds nothing.

        A tick that is done already counts in the present one, the first that is not done.

        Args:
            header: what it says.
            appended: its append time, ms since epoch; none: all that there is has been read.
        """
        if header.sender >= self._expected or (header.partition, header.partitions) != self._place:
            self.counts["foreign"] += 1
            return None
        sender = self._senders.setdefault(header.sender, _Sender())
        if header.kind == "tick":
            self._begun = (appended or 0) if self._begun is None else self._begun
            return self._take_tick(sender, header)
        if not sender.tick:
            late = self._begun is not None and appended is not None and appended - self._begun >= JOIN_MS
            sender.absent = sender.absent or appended is None or late
        if header.kind == "idle" and sender.waited and header.tick in (0, sender.tick):
            # 0: its new owner has lost the state and found nothing. Any other tick is that of a former owner.
            return self._fall_silent(sender, header)
        return None

    def _take_tick(self, sender: _Sender, header: RollupHeader) -> int | None:
        if header.tick <= sender.tick or (header.tick == sender.begun and header.part < sender.parts):
            self.counts["repeats"] += 1
            return None
        self.counts["late"] += header.part == 0 and header.tick <= self.done
        sender.begun, sender.parts = header.tick, header.part + 1
        if sender.parts >= header.parts:
            sender.tick = sender.reach = header.tick
            sender.waited, sender.silent = not header.idle, None
        return max(header.tick, self.done + 1)

    def _fall_silent(self, sender: _Sender, header: RollupHeader) -> int | None:
        sender.waited = False
        if header.tick and not header.silent_nodes:
            return None  # every node of it has ended, or was said to be silent before
        self.counts["silences"] += 1
        sender.silent = header
        # The tick that it did not say is said by its silence, so that there is one in which to tell of it.
        sender.reach = sender.tick + 1
        return max(sender.reach, self.done + 1)

    def advance(self) -> bool:
        """Move ``done`` to the tick that all have passed; tell whether it moved.

        One that is behind is not waited for until it has caught up: what it says is late either way.
        """
        if len(self._senders) < self._expected:
            return False
        if not self.done and not all(s.tick or s.absent for s in self._senders.values()):
            return False
        ticks = [s.tick for s in self._senders.values() if s.waited and s.tick >= self.done]
        if ticks:
            mark = min(ticks)
        elif any(s.waited for s in self._senders.values()):
            return False
        else:
            mark = max(s.reach for s in self._senders.values())
        moved = mark > self.done
        self.done = max(self.done, mark)
        return moved

    def silent(self) -> list[RollupHeader]:
        """Return the words by which silent senders are left out now, in order of sender."""
        return [s.silent for _, s in sorted(self._senders.items()) if s.silent is not None]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "done": self.done,
            "begun": self._begun,
            "absent": [number for number, s in sorted(self._senders.items()) if s.absent],
            "counts": dict(self.counts),
            "senders": [
                [
                    number,
                    s.tick,
                    s.reach,
                    s.waited,
                    None if s.silent is None else s.silent.model_dump(mode="json"),
                    s.begun,
                    s.parts,
                ]
                for number, s in sorted(self._senders.items())
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self.done, self.counts = int(state["done"]), Counter(state["counts"])
        self._senders = {
            number: _Sender(
                tick,
                reach,
                waited,
                None if silent is None else RollupHeader.model_validate(silent),
                begun=begun,
                parts=parts,
            )
            for number, tick, reach, waited, silent, begun, parts in state["senders"]
        }
        self._begun = state["begun"]
        for number in state["absent"]:
            self._senders[number].absent = True
