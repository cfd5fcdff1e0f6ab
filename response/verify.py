"""Whether a containment contains: from what packets show on watch.v1, never from what was applied.

- **ineffective**: flows that it means to cut are still answered.
- **effective**: they are attempted, and no longer answered.
- **quiet**: they are not attempted, which proves nothing.
- **unknown**: no node says that it looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from response.guard import Refusal
from response.ledger import Containment
from response.verify_settings import VerifySettings
from schemas.watch import WatchRow

Status = Literal["effective", "quiet", "ineffective", "unknown"]
# Nodes whose rows of one containment are told apart; a containment has a few witnesses.
_MOST_NODES = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What packets say of one containment now, and why. `answered_for` is s from its step to the last answered one."""

    response_id: str
    status: Status
    why: Refusal
    answered_for: float | None


@dataclass(slots=True)
class _Sight:
    """What was seen of one containment since its last step; times are s since epoch, 0: never."""

    applied_at: float
    heard: float = 0.0
    attempt: float = 0.0
    answer: float = 0.0
    unanswered: int = 0
    ticks: dict[str, int] = field(default_factory=dict)


class Verification:
    """Judges standing containments. Rows may come repeated; those of one node come in order."""

    def __init__(self, settings: VerifySettings) -> None:
        self._settings = settings
        self._sights: dict[str, _Sight] = {}

    def follow(self, standing: Iterable[Containment]) -> None:
        """Judge these from now on and no others; a new step of one begins its verification anew."""
        kept: dict[str, _Sight] = {}
        for item in standing:
            known = self._sights.get(item.response_id)
            fresh = known is None or known.applied_at != item.applied_at
            kept[item.response_id] = _Sight(item.applied_at) if known is None or fresh else known
        self._sights = kept

    def observe(self, row: WatchRow) -> None:
        """Take in what one node saw in one tick; rows of what is not followed, or of before its step, say nothing."""
        sight = self._sights.get(row.response_id)
        if sight is None or row.tick < sight.applied_at or row.tick <= sight.ticks.get(row.node, -1):
            return
        if len(sight.ticks) < _MOST_NODES or row.node in sight.ticks:
            sight.ticks[row.node] = row.tick
        sight.heard = max(sight.heard, float(row.tick))
        if row.answered:
            sight.answer = max(sight.answer, row.last_answered / 1e9)
            sight.unanswered = 0
        else:
            sight.unanswered += row.attempts - row.unsure
        if row.attempts > row.unsure:
            sight.attempt = max(sight.attempt, row.last_packet / 1e9)

    def judge(self, standing: Iterable[Containment], now: float) -> Iterator[Verdict]:
        """What changed since it was last said: of each containment, if its phase says something else."""
        for item in standing:
            sight = self._sights.get(item.response_id)
            found = self._status(sight, now) if sight is not None else None
            if sight is not None and found is not None and found[0] != item.phase:
                took = max(0.0, sight.answer - sight.applied_at) if sight.answer else None
                yield Verdict(item.response_id, found[0], found[1], took)

    def _status(self, sight: _Sight, now: float) -> tuple[Status, Refusal] | None:
        wanted, begun = self._settings, sight.applied_at
        silent = now - max(sight.heard, begun)
        if silent > wanted.blind_s:
            return "unknown", Refusal("not_seen", f"no node that could see it said so for {silent:.0f} s")
        after = sight.answer - begun
        calm = sight.heard - sight.answer
        if sight.answer and after > wanted.settle_s and calm < wanted.calm_s:
            return "ineffective", Refusal("answered", f"still answered {after:.1f} s after it was applied")
        tried = sight.unanswered >= wanted.attempts and sight.heard - sight.attempt < wanted.quiet_s
        if tried and sight.heard - max(sight.answer, begun) >= wanted.calm_s:
            last = f"the last answer came {after:.1f} s after it was applied" if sight.answer else "none ever was"
            return "effective", Refusal("unanswered", f"{sight.unanswered} attempts were not answered; {last}")
        if sight.heard - max(sight.attempt, sight.answer, begun) >= wanted.quiet_s:
            return "quiet", Refusal("no_attempts", "nothing was attempted, so nothing was proven")
        return None
