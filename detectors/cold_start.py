"""Says for a while which parts of the state began anew, because what they would find may go unseen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from schemas.finding import DataQuality

# As long as the longest window of a built-in detector: after it a table holds again what it would have held.
_SECONDS = 600
_NAMED = 6


class ColdStart:
    """Adds a note to the quality of ticks until the first tick seen is ``_SECONDS`` old."""

    state_version: ClassVar[int] = 1

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._until = 0

    def begin(self, names: Iterable[str]) -> None:
        """Parts of these names start empty, beside those that did lately; the time counts from the next tick."""
        found = set(names)
        if found:
            self._names, self._until = tuple(sorted({*self._names, *found})), 0

    def note(self, tick: int) -> str | None:
        """Return what to say of a tick; its clock may be another node's."""
        if not self._names:
            return None
        self._until = self._until or tick + _SECONDS
        if tick > self._until:
            self._names, self._until = (), 0
            return None
        more = f" and {len(self._names) - _NAMED} more" if len(self._names) > _NAMED else ""
        return f"began without memory of what was before: {', '.join(self._names[:_NAMED])}{more}"

    def mark(self, quality: DataQuality, tick: int) -> DataQuality:
        """Return a tick's quality with the note, where there is one."""
        note = self.note(tick)
        return quality if note is None else quality.model_copy(update={"notes": (*quality.notes, note)})

    def snapshot(self) -> dict[str, Any]:
        """Return the state; nothing where nothing is to be said."""
        return {"names": list(self._names), "until": self._until} if self._names else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what ``snapshot`` gave."""
        self._names, self._until = tuple(str(n) for n in state["names"]), int(state["until"])
