"""What must change in the tables so that they hold what is wanted; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil

from response.node.entries import CutKey, Key, LimitKey, Present, Wanted, chain_name
from response.node.nft import Look
from response.node.ruleset import (
    Command,
    Family,
    add_cut,
    add_limit,
    remove_chain,
    remove_cut,
    remove_limit,
)

# The kernel tells whole seconds, and a second may pass between the listing and the change.
_SAME_SECONDS = 2


def changes(
    wanted: Mapping[Key, Wanted],
    present: Mapping[Family, Look],
    known: Collection[str],
    now: float,
    sources: int,
) -> list[Command]:
    """Commands that add, prolong, shorten and remove until the tables hold what is wanted.

    Args:
        wanted: what is to be there; what has expired by now counts as not wanted.
        present: what each table holds.
        known: responses that commands spoke of. Entries of others stay until the kernel forgets them: the log that
            told of them may be lost, and dropping a containment needs a reason.
        now: s since epoch.
        sources: room for the sources of one limit.
    """
    found: list[Command] = []
    for family, look in present.items():
        for key, item in look.entries.items():
            if not _same(key, item, wanted.get(key), now) and (key in wanted or item.response_id in known):
                found += _remove(family, key, item)
        for name in look.idle_chains:
            found += remove_chain(family, name)
        for key, want in wanted.items():
            if _seconds(want, now) > 0 and not _same(key, look.entries.get(key), want, now):
                found += _add(family, key, want, now, sources)
    return found


def _same(key: Key, item: Present | None, want: Wanted | None, now: float) -> bool:
    if item is None or want is None:
        return False
    name = chain_name(key, want.rates) if isinstance(key, LimitKey) and want.rates is not None else ""
    off = item.expires_in - _seconds(want, now)
    return item.response_id == want.response_id and item.name == name and abs(off) <= _SAME_SECONDS


def _seconds(want: Wanted, now: float) -> int:
    return ceil(want.expires_at - now)


def _add(family: Family, key: Key, want: Wanted, now: float, sources: int) -> list[Command]:
    seconds = _seconds(want, now)
    if isinstance(key, CutKey):
        return add_cut(family, key, seconds, want.response_id)
    if want.rates is None:
        message = f"the limit of {key.text()} has no rates"
        raise ValueError(message)
    return add_limit(family, key, want.rates, seconds, want.response_id, sources)


def _remove(family: Family, key: Key, item: Present) -> list[Command]:
    if isinstance(key, CutKey):
        return remove_cut(family, key)
    return remove_limit(family, key, item.name)
