"""The open incidents and what they are found by; bounded by the incidents themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from alerts.incident_state import MAX_KEYS, IncidentState
from alerts.linking import Links
from alerts.settings import IncidentSettings


class IncidentIndex:
    """Finds, merges and drops open incidents. An alert belongs to one of them at a time."""

    def __init__(self, incidents: Iterable[IncidentState] = ()) -> None:
        self.incidents: dict[str, IncidentState] = {}
        self._by_key: dict[str, dict[str, None]] = {}
        self._by_alert: dict[str, str] = {}
        for incident in incidents:
            self.add(incident)

    def add(self, incident: IncidentState) -> None:
        """Take in an incident with all that it already holds."""
        self.incidents[incident.id] = incident
        for key in incident.keys:
            self._by_key.setdefault(key, {})[incident.id] = None
        self._by_alert |= dict.fromkeys(incident.members, incident.id)

    def follows(self, alert_id: str) -> bool:
        """Tell whether an open incident follows an alert."""
        return alert_id in self._by_alert

    def matching(self, alert_id: str, links: Links) -> list[IncidentState]:
        """Return the incidents that an alert belongs to, the oldest first.

        Evidence that could be forged never makes two incidents one: whoever forges an address could
        otherwise drown an incident in another.
        """
        followed = self._by_alert.get(alert_id)
        home = [self.incidents[followed]] if followed is not None else []
        found = list(self._ties(links)) if not (home and links.spoofable) else []
        chosen = {i.id: i for i in (*home, *(found[:1] if links.spoofable and not home else found))}
        return sorted(chosen.values(), key=lambda i: (i.opened, i.id))

    def _ties(self, links: Links) -> Iterable[IncidentState]:
        """Yield the incidents that an alert is tied to, the strongest tie first."""
        same = self._under(links.actors)
        yield from self._latest(same) if links.spoofable else same
        if not same or links.spoofable:
            yield from self._latest(self._under(links.claimed))
        yield from self._latest(self._under(links.became))
        yield from self._latest(self._under(links.victims), lambda i: links.faceless or not i.attackers)
        # One attack on one victim: sources that nobody can tell apart, or many that do harm together.
        yield from self._latest(self._under(links.staged), lambda i: links.spoofable or not i.proven)
        yield from self._latest(self._under(links.impact))

    def _under(self, keys: Iterable[str]) -> list[IncidentState]:
        ids = {identity: None for key in keys for identity in self._by_key.get(key, ())}
        return [self.incidents[identity] for identity in ids]

    @staticmethod
    def _latest(
        found: list[IncidentState], fits: Callable[[IncidentState], bool] = lambda _: True
    ) -> list[IncidentState]:
        # Of several that a weak tie leads to, all but one have nothing to do with it.
        return sorted((i for i in found if fits(i)), key=lambda i: (-i.updated, -i.opened, i.id))[:1]

    def link(self, incident: IncidentState, alert_id: str, keys: Iterable[str]) -> None:
        """Remember what an incident is found by and, where it follows it, this alert."""
        known = set(incident.keys)
        for key in keys:
            if key not in known and len(incident.keys) < MAX_KEYS:
                known.add(key)
                self._by_key.setdefault(key, {})[incident.id] = None
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
            holders = self._by_key[key]
            del holders[incident.id]
            if not holders:
                del self._by_key[key]
        for alert_id in incident.members:
            self._by_alert.pop(alert_id, None)

    def quietest(self) -> IncidentState:
        """Return the incident without news for longest.

        Raises:
            ValueError: there is none.
        """
        return min(self.incidents.values(), key=lambda i: (i.updated, i.id))
