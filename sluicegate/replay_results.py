"""What a replay found so far: last revisions, in bounded memory."""

from __future__ import annotations

from collections import Counter

from rich.console import Console

from schemas.alert import Alert
from schemas.incident import Incident
from sluicegate.alert_view import print_alert, print_heading, print_incident
from sluicegate.terminal import cell
from stream.pipeline import PipelineOutput

# An alert is a few kilobytes; a list longer than this nobody reads, and --json gives all of it.
MAX_SHOWN = 5000


class ReplayResults:
    """Keeps the last revision of each alert and incident; more than ``MAX_SHOWN`` are only counted."""

    def __init__(self) -> None:
        self._alerts: dict[str, Alert] = {}
        self._incidents: dict[str, Incident] = {}
        self.revisions = 0
        self._untold = 0
        self._excepted: Counter[str] = Counter()

    def add(self, output: PipelineOutput) -> None:
        """Take what came out of one batch."""
        for alert in output.alerts:
            self.revisions += 1
            if alert.id in self._alerts or len(self._alerts) < MAX_SHOWN:
                self._alerts[alert.id] = alert
            elif alert.revision == 1:
                self._untold += 1
        self._excepted.update(output.excepted)
        for incident in output.incidents:
            if incident.id in self._incidents or len(self._incidents) < MAX_SHOWN:
                self._incidents[incident.id] = incident

    @property
    def alerts(self) -> list[Alert]:
        """Alerts by time of detection."""
        return sorted(self._alerts.values(), key=lambda a: (a.detected_at, a.id))

    def print(self, out: Console) -> None:
        """Print alerts, then incidents, then what exceptions kept from becoming alerts."""
        if self._alerts:
            print_heading(out)
            for alert in self.alerts:
                print_alert(out, alert)
        else:
            out.print(cell("No alerts."))
        if self._untold:
            out.print(cell(f"and {self._untold:,} more alerts; --json gives all of them"))
        if self._incidents:
            out.print(cell("Incidents", "bold"))
            for incident in sorted(self._incidents.values(), key=lambda i: (i.started_at, i.id)):
                print_incident(out, incident)
        for name, count in sorted(self._excepted.items()):
            out.print(cell(f"Exception {name}: {count:,} findings made no alert"))

    def summary(self) -> str:
        """Return how many alerts of which severity, and how many incidents."""
        counts = Counter(alert.severity for alert in self._alerts.values())
        by_severity = ", ".join(f"{counts[s]} {s}" for s in ("critical", "high", "medium", "low", "info") if counts[s])
        total = len(self._alerts) + self._untold
        return f"{total:,} alerts{f' ({by_severity})' if by_severity else ''}, {len(self._incidents):,} incidents"
