"""What a workload did at most on each of its days: a habit that is relative to nobody but itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from detectors.ledger import Entry

DAY = 86_400
DAYS = 35  # of which the most is remembered: a monthly job is a habit too


@dataclass
class DailyMost(Entry):
    """One workload: ``[day, value]``, the most of each day, the oldest first."""

    days: list[list[int]] = field(default_factory=list)

    def learn(self, day: int, value: int) -> None:
        """Take in a value of a day."""
        if not self.days or self.days[-1][0] != day:
            self.days.append([day, 0])
        self.days[-1][1] = max(self.days[-1][1], value)
        del self.days[:-DAYS]

    def usual(self, day: int) -> int:
        """Return the most of the days before the one given."""
        return max((value for number, value in self.days if number < day), default=0)
