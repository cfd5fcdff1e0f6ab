"""Tallies: sums of rows over senders, bounded, and windows that slide."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.ledger import Ledger
from detectors.snapshot import decode_state, encode_state
from detectors.tally import NOBODY, PER_TICK, Counted, Tally, TallyBook, TallyRows, TallyWindow

CLIENT, OTHER, SERVER = (0, 1 << 63 | 5), (1 << 60, 7), (0, 9)


def book(*amounts: tuple[str, tuple[int, int], int]) -> TallyBook:
    made = TallyBook()
    for measure, source, amount in amounts:
        made.add(Tally(measure, "web", source, SERVER, 80), amount)
    return made


def summed(*parts: dict[str, Any]) -> TallyRows:
    return TallyRows.of(7, {name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def test_rows_of_several_senders_add_up_whatever_their_order() -> None:
    one, two = book(("slow", CLIENT, 3)), book(("slow", OTHER, 2), ("slow", CLIENT, 1))
    columns = [b.columns() for b in (one, two)]
    sums = [summed(*order) for order in (columns, columns[::-1])]
    assert sums[0] == sums[1]
    assert dict(sums[0].rows) == {
        Tally("slow", "web", CLIENT, SERVER, 80): 4, Tally("slow", "web", OTHER, SERVER, 80): 2,
    }  # fmt: skip


def test_a_snapshot_of_what_is_gathered_changes_nothing() -> None:
    gathered = book(("slow", CLIENT, 3), ("fast", OTHER, 1))
    gathered.left_out = 2
    again = TallyBook.restored(decode_state(encode_state(gathered.snapshot())))
    assert again == gathered


def test_what_finds_no_room_is_counted() -> None:
    gathered = TallyBook()
    for number in range(PER_TICK + 3):
        gathered.add(Tally("slow", f"web{number}", CLIENT, SERVER, 80), 1)
    gathered.add(Tally("slow", "web0", CLIENT, SERVER, 80), 1)
    assert (len(gathered.amounts), gathered.left_out) == (PER_TICK, 3)


def test_a_window_slides_to_the_second_and_forgets_who_is_gone() -> None:
    window = TallyWindow(Ledger(Counted, 16, 10), ("slow", "fast"), 10)

    def at(tick: int, *amounts: tuple[str, tuple[int, int], int]) -> Counted:
        rows = summed(book(*amounts).columns())
        ((subject, entry),) = window.take(TallyRows(tick, rows.rows))
        assert subject == "web"
        return entry

    assert at(100, ("slow", CLIENT, 2), ("fast", NOBODY, 5)).sums() == (2, 5)
    entry = at(109, ("slow", OTHER, 3))
    assert (entry.sums(), entry.busiest()) == ((5, 5), [OTHER, CLIENT])
    assert at(110, ("slow", OTHER, 1)).sums() == (4, 0)
    entry = at(125, ("slow", CLIENT, 1))
    assert (entry.sums(), entry.busiest(), entry.hit()) == ((1, 0), [CLIENT], [[*SERVER, 80, 1]])
