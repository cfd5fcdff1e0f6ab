"""What ties an alert to an incident.

Sharing an endpoint is not enough: a popular victim, a resolver or an address that many share would glue
together what has nothing to do with each other. So each tie says how far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from alerts.stages import stages_of
from schemas.alert import Alert
from schemas.finding import Endpoint
from schemas.roles import SERVING, SHARED


@dataclass(frozen=True)
class Links:
    """The ties of one alert, as keys under which incidents are found. Every key names the cluster."""

    actors: tuple[str, ...]  # believable attackers, or what stands for them: the same actor, the same attack
    became: tuple[str, ...]  # the other side: a victim that attacks now, an attacker that is attacked
    victims: tuple[str, ...]
    staged: tuple[str, ...]  # victims with the stage of the attack
    impact: frozenset[str]  # those of them where many attackers make one attack
    faceless: bool  # no attacker can be believed
    spoofable: bool

    @property
    def claimed(self) -> tuple[str, ...]:
        """The actors as they are known where only packets that could be forged named them."""
        return tuple(f"claimed|{key}" for key in self.actors)

    def left(self) -> Iterable[str]:
        """Return the keys under which an incident is found once it holds the alert."""
        return (*(self.claimed if self.spoofable else self.actors), *self.victims, *self.staged)


def told_attackers(alert: Alert) -> tuple[Endpoint, ...]:
    """Return the attackers that may be believed.

    Several sources of packets that could be forged prove nothing and may be anyone's addresses; a single
    one is worth following, because nothing is blocked by it.
    """
    return alert.attackers if not alert.spoofable or len(alert.attackers) == 1 else ()


def links_of(alert: Alert) -> Links:
    """Return what ties an alert to incidents."""
    cluster, attackers, victims = alert.cluster, _named(told_attackers(alert)), _named(alert.victims)
    # Behind a shared address are many: it is the same actor only as far as it does the same to the same victim.
    shared = [a for a, e in attackers.items() if SHARED.intersection(e.roles)]
    own = [f"actor|{cluster}|{a}" for a in attackers if a not in shared]
    own += [f"pair|{cluster}|{a}|{v}" for a in shared for v in victims]
    if not victims and not own:
        own = [f"subject|{cluster}|{alert.subject}"]
    stages = stages_of(alert.techniques)
    staged = {s: [f"stage|{cluster}|{s}|{v}" for v in victims] for s in stages}
    # That everyone's server was attacked and that it does something are hardly ever the same story.
    turned = [f"victim|{cluster}|{a}" for a, e in attackers.items() if not SERVING.intersection(e.roles)]
    turned += [f"actor|{cluster}|{v}" for v, e in victims.items() if not SERVING.intersection(e.roles)]
    return Links(
        actors=tuple(own),
        became=tuple(turned),
        victims=tuple(f"victim|{cluster}|{v}" for v in victims),
        staged=tuple(key for keys in staged.values() for key in keys),
        impact=frozenset(staged.get("impact", ())),
        faceless=not attackers,
        spoofable=alert.spoofable,
    )


def _named(endpoints: Iterable[Endpoint]) -> dict[str, Endpoint]:
    return {name: e for e in endpoints if (name := e.ip or e.mac or "")}
