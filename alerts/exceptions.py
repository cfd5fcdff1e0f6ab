"""Findings that the operator does not want to hear about: counted, never silently lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from schemas.exceptions import AlertException
from schemas.finding import Finding


class Exceptions:
    """All exceptions, and how many findings each has kept from becoming alerts."""

    def __init__(self, exceptions: Sequence[AlertException] = ()) -> None:
        self._exceptions = tuple(exceptions)
        self._counts: Counter[str] = Counter()

    def covers(self, finding: Finding, tick: int) -> bool:
        """Tell whether a finding of a tick is excepted; the first exception that covers it counts it."""
        for exception in self._exceptions:
            if exception.covers(finding, tick):
                self._counts[exception.name] += 1
                return True
        return False

    def taken(self) -> dict[str, int]:
        """Return the findings excepted since this was asked last, by the exception's name."""
        counts, self._counts = self._counts, Counter()
        return dict(sorted(counts.items()))
