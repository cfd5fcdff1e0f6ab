"""Distinct elements of a sliding window, for the few entries of a ledger that keep them."""

from __future__ import annotations

from collections.abc import Iterable

KEPT = 400  # elements of one entry, the newest
_HASH = 0xFFFFFFFF


def add_elements(kept: list[int], tick: int, window: int, elements: Iterable[int]) -> list[int]:
    """Return what is kept after elements were seen in a tick: those of the window, each once, the newest last.

    Args:
        kept: what this returned before; an element takes 32 bits, its tick those above.
        tick: s since epoch; never goes back.
        window: s.
        elements: hashes, of which 32 bits count.
    """
    again = {element & _HASH for element in elements}
    within = [item for item in kept if item >> 32 > tick - window and item & _HASH not in again]
    return [*within, *(tick << 32 | element for element in sorted(again))][-KEPT:]


def began(kept: list[int]) -> int:
    """Return the tick of the oldest element, s since epoch."""
    return kept[0] >> 32


def holds(kept: list[int], element: int) -> bool:
    """Tell whether an element is kept."""
    return any(item & _HASH == element & _HASH for item in kept)
