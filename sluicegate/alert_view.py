"""Alerts, incidents and actions as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from schemas.alert import Alert
from schemas.finding import Endpoint, Severity
from schemas.incident import Incident
from sluicegate.terminal import WIDTH, escape, shortened, wrapped

_STYLES: dict[Severity, str] = {"info": "dim", "low": "cyan", "medium": "yellow", "high": "red", "critical": "bold red"}
# Times are UTC; milliseconds matter only to machines, which read the JSON.
_TIME_LETTERS = len("2026-01-31T23:59:59")
HEADING = f"{'TIME (UTC)':<21}{'SEVERITY':<10}{'KIND':<23}ATTACKER → VICTIM"


def endpoint_text(endpoint: Endpoint) -> str:
    """Return the best name that an endpoint has: pod, service, address or hardware address."""
    if endpoint.pod:
        name = f"{endpoint.namespace}/{endpoint.pod}"
    else:
        name = endpoint.service or endpoint.ip or endpoint.mac or "unknown"
    return f"{name}:{endpoint.port}" if endpoint.port is not None else name


def endpoints_text(endpoints: Sequence[Endpoint]) -> str:
    """Return the first endpoint and how many more there are."""
    if not endpoints:
        return "-"
    more = f" (+{len(endpoints) - 1})" if len(endpoints) > 1 else ""
    return endpoint_text(endpoints[0]) + more


def who(alert: Alert) -> str:
    """Return who attacks whom; a forged source has no name."""
    source = "(forged)" if alert.spoofable and not alert.attackers else endpoints_text(alert.attackers)
    return f"{source} → {endpoints_text(alert.victims)}"


def time_text(iso: str) -> str:
    """Return an ISO time without its fraction and letters."""
    return escape(iso[:_TIME_LETTERS].replace("T", " "))


def print_heading(out: Console) -> None:
    """Print the head of a list of alerts."""
    out.print(Text(HEADING, style="bold"))


def print_alert(out: Console, alert: Alert) -> None:
    """Print one alert: a row, and its explanation below."""
    row = Text(f"{time_text(alert.detected_at):<21}")
    row.append(f"{alert.severity:<10}", style=_STYLES[alert.severity])
    kind = alert.kind if alert.rule is None else f"{alert.kind}*"
    row.append(escape(f"{shortened(kind, 22):<23}"))
    row.append(escape(shortened(who(alert), WIDTH - 54)))
    out.print(row)
    rule = f"Rule {alert.rule}: " if alert.rule is not None else ""
    for line in wrapped(rule + alert.explanation):
        out.print(Text(line, style="dim"))


def print_incident(out: Console, incident: Incident) -> None:
    """Print one incident."""
    row = Text(f"{time_text(incident.started_at):<21}")
    row.append(f"{incident.severity:<10}", style=_STYLES[incident.severity])
    row.append(f"{incident.alerts_total} alert{'s' if incident.alerts_total != 1 else ''}, {incident.status}")
    out.print(row)
    for line in wrapped(incident.summary):
        out.print(Text(line, style="dim"))
    for stage in incident.stages:
        count = f"{stage.alerts} alert{'s' if stage.alerts != 1 else ''}"
        line = f"{time_text(stage.first_at)} to {time_text(stage.last_at)}  {stage.stage.replace('_', ' ')}, {count}"
        out.print(Text(f"  {line}", style="dim"))
