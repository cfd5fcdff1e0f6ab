"""The open incidents and which endpoint or alert belongs to which; bounded by the incidents themselves."""

from __future__ import annotations

from collections.abc import Iterable

from alerts.incident_state import MAX_KEYS, IncidentState
from alerts.settings import IncidentSettings


class IncidentIndex:
    """Finds, merges and drops open incidents. An endpoint and an alert belong to one of them at a time."""

    def __init__(self, incidents: Iterable[IncidentState] = ()) -> None:
        self.incidents: dict[str, IncidentState] = {}
        self._by_key: dict[str, str] = {}
        self._by_alert: dict[str, str] = {}
        for incident in incidents:
            self.add(incident)

    def add(self, incident: IncidentState) -> None:
        """Take in an incident with all that it already holds."""
        self.incidents[incident.id] = incident
        self._by_key |= dict.fromkeys(incident.keys, incident.id)
        self._by_alert |= dict.fromkeys(incident.members, incident.id)

    def follows(self, alert_id: str) -> bool:
        """Tell whether an open incident follows an alert."""
        return alert_id in self._by_alert

    def matching(self, alert_id: str, keys: Iterable[str]) -> list[IncidentState]:
        """Return the incidents that an alert belongs to, the oldest first."""
        ids = {self._by_key[key] for key in keys if key in self._by_key}
        if alert_id in self._by_alert:
            ids.add(self._by_alert[alert_id])
        return sorted((self.incidents[i] for i in ids), key=lambda i: (i.opened, i.id))

    def link(self, incident: IncidentState, alert_id: str, keys: Iterable[str]) -> None:
        """Remember that an incident is about these endpoints and, where it follows it, this alert."""
        for key in keys:
            if key not in self._by_key and len(incident.keys) < MAX_KEYS:
                self._by_key[key] = incident.id
                incident.keys.append(key)
        if alert_id in incident.members:
            self._by_alert[alert_id] = incident.id

    def merge(self, home: IncidentState, other: IncidentState, settings: IncidentSettings) -> None:
        """Let ``home`` take over the other, which is no longer open."""
        self.drop(other)
        before = set(home.members)
        home.absorb(other, settings)
        for lost in before.difference(home.members):
            del self._by_alert[lost]
        for alert_id in home.members:
            self._by_alert[alert_id] = home.id
        self.link(home, "", other.keys)

    def drop(self, incident: IncidentState) -> None:
        """Forget an incident."""
        del self.incidents[incident.id]
        for key in incident.keys:
            self._by_key.pop(key, None)
        for alert_id in incident.members:
            self._by_alert.pop(alert_id, None)

    def quietest(self) -> IncidentState:
        """Return the incident without news for longest.

        Raises:
            ValueError: there is none.
        """
        return min(self.incidents.values(), key=lambda i: (i.updated, i.id))
