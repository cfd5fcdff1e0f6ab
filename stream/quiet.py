"""Tells partitions that are read to their end and get nothing more. Pure; time is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class _Seen:
    position: int
    since: float


class QuietWatch:
    """Remembers since when each partition has been read to its end without anything being appended.

    What is not known is not quiet: a partition just taken over, one with something left to read, and any
    while the broker does not answer, begin anew. So a takeover or an outage never looks like silence.

    Args:
        quiet_s: seconds after which a partition is quiet.
    """

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._seen: dict[int, _Seen] = {}

    def observe(self, positions: Mapping[int, int], ends: Mapping[int, int], now: float) -> dict[int, int]:
        """Take in where an agent is; returns partitions that are quiet, with their end, every `quiet_s` again.

        Again, because a rebalance can swallow what was to be said; who has heard it already ignores it. A partition
        in which nothing ever was is quiet at every look: stage 2 cannot begin before it knows that.

        Args:
            positions: next offset to be fed, per partition held; partitions not named are forgotten.
            ends: offset after the last record, per partition, asked after the positions were taken.
            now: seconds from any fixed point.
        """
        self._seen = {p: seen for p, seen in self._seen.items() if positions.get(p) == seen.position == ends.get(p)}
        due = {}
        for partition, position in positions.items():
            if ends.get(partition) != position:
                continue
            seen = self._seen.setdefault(partition, _Seen(position, now))
            if now - seen.since >= self._quiet_s or not position:
                seen.since = now
                due[partition] = position
        return due

    def forget(self) -> None:
        """Begin anew: the broker does not answer, or the partitions may change hands."""
        self._seen.clear()
