"""Which containments are active, as actions.v1 says, at the append time of any event."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from dataclasses import replace

from schemas.action import Action
from schemas.watch import Watch
from schemas.word import from_iso

# Looked for at once; the ones applied first are kept. Each pair costs two comparisons of a round's addresses.
MOST_WATCHED, MOST_PAIRS = 256, 512
_MOST_CHANGES = 4096  # that may be asked for; an event older than all of them is judged with the oldest
_ENDED = frozenset({"reverted", "expired", "released", "cancelled", "rejected"})


class WatchLog:
    """The active containments after each word of actions.v1. Read by all stages of a process.

    An event is watched with what was appended to actions.v1 before the event itself was, as far as it has been read:
    watch.v1 says what was seen, and nothing else rests on it, so nobody waits for words that are still on their way.
    """

    def __init__(self, most: int = MOST_WATCHED, pairs: int = MOST_PAIRS) -> None:
        self._most, self._pairs = most, pairs
        self._active: dict[str, Watch] = {}
        self._appended: list[int] = []  # ms since epoch of each change, never falling
        self._states: list[tuple[Watch, ...]] = [()]  # before the first change, and after each
        self.refused = 0  # containments that were not taken because too many are active

    def counts(self) -> dict[str, int]:
        """Return how many containments are watched now, and how many could not be."""
        return {"active": len(self._active), "refused": self.refused}

    def take(self, offset: int, appended_ms: int, action: Action | None) -> None:
        """Take the next record of actions.v1; `action` is none where it cannot be read.

        Raises:
            ValueError: it was applied and its times or addresses are none.
        """
        if action is None:
            return
        if action.outcome == "extended":
            self._extend(action, appended_ms)
            return
        if action.outcome == "applied" and action.watch:
            watch = _watch(action)
            if not self._room(watch, appended_ms):
                self.refused += 1
                return
            self._active[action.response_id] = watch
        elif action.outcome not in _ENDED or self._active.pop(action.response_id, None) is None:
            return
        self._note(appended_ms)

    def _extend(self, action: Action, appended_ms: int) -> None:
        known = self._active.get(action.response_id)
        if known is not None and action.expires_at is not None:
            self._active[action.response_id] = replace(known, until=round(from_iso(action.expires_at)))
            self._note(appended_ms)

    def _note(self, appended_ms: int) -> None:
        self._appended.append(max(self._appended[-1] if self._appended else 0, appended_ms))
        self._states.append(tuple(self._active.values()))
        if len(self._appended) > _MOST_CHANGES:
            del self._appended[: _MOST_CHANGES // 2], self._states[: _MOST_CHANGES // 2]

    def _room(self, watch: Watch, appended_ms: int) -> bool:
        if not self._fits(watch):
            # The word that it ended may be lost; its own end is not.
            self._active = {i: w for i, w in self._active.items() if w.until * 1000 >= appended_ms}
        return self._fits(watch)

    def _fits(self, watch: Watch) -> bool:
        others = [w for i, w in self._active.items() if i != watch.response_id]
        return len(others) < self._most and sum(len(w.pairs) for w in (*others, watch)) <= self._pairs

    def at(self, appended_ms: int) -> tuple[Watch, ...]:
        """Return what is active for an event of this append time; the same tuple while nothing changes."""
        return self._states[bisect_left(self._appended, appended_ms)]


def _watch(action: Action) -> Watch:
    for text in (text for pair in action.watch for text in (pair.source, pair.destination, *pair.spared)):
        ipaddress.ip_network(text, strict=False)
    since = from_iso(action.at)
    until = from_iso(action.expires_at) if action.expires_at is not None else since
    return Watch(action.response_id, round(since * 10**9), round(until), action.watch)
