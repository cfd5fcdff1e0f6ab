"""Which alerts mean a step of a rule, and about whom they are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from alerts.linking import told_attackers
from alerts.stages import stages_of
from schemas.alert import Alert
from schemas.finding import SEVERITIES, Endpoint
from schemas.sequence import CountedField, GroupField, SequenceRule, Step

MAX_GROUPS = 64  # of one alert and step; one names at most twenty attackers and twenty victims

Group = tuple[str, ...]


def means(step: Step, alert: Alert) -> bool:
    """Tell whether an alert is one that a step means."""
    origin = alert.detector in step.detectors and alert.rule is None
    return (
        (not step.detectors or origin)
        and (not step.rules or alert.rule in step.rules)
        and (not step.kinds or alert.kind in step.kinds)
        and (not step.techniques or any(map(_below, itertools.product(alert.techniques, step.techniques))))
        and (not step.stages or not set(step.stages).isdisjoint(stages_of(alert.techniques)))
        and SEVERITIES.index(alert.severity) >= SEVERITIES.index(step.severity)
    )


def _below(pair: tuple[str, str]) -> bool:
    own, wanted = pair
    return own == wanted or own.startswith(f"{wanted}.")


def groups_of(rule: SequenceRule, step: Step, alert: Alert) -> list[Group]:
    """Return the groups that an alert belongs to in a step: cluster, then one value per name of group-by."""
    values = [values_of(field, alert) for field in rule.groups[step.name]]
    found = itertools.product([alert.cluster], *values)
    return list(itertools.islice(found, MAX_GROUPS))


def values_of(field: CountedField, alert: Alert) -> list[str]:
    """Return the different values that a field has in an alert; sources that could be forged are none."""
    if field in ("detector", "kind", "technique"):
        texts = {"detector": (alert.detector,), "kind": (alert.kind,), "technique": alert.techniques}[field]
        return list(dict.fromkeys(texts))
    return list(dict.fromkeys(filter(None, (_value(field, end) for end in _ends(field, alert)))))


def _ends(field: CountedField, alert: Alert) -> Iterable[Endpoint]:
    attackers, victims = told_attackers(alert), alert.victims
    if field.startswith("attacker"):
        return attackers
    return victims if field.startswith("victim") else (*attackers, *victims)


def _value(field: CountedField | GroupField, endpoint: Endpoint) -> str:
    what = field.rpartition("_")[2]
    if what in ("namespace", "service", "node"):
        value: str | None = getattr(endpoint, what)
        return value or ""
    if what in ("workload", "pod"):
        name: str | None = getattr(endpoint, what)
        return f"{endpoint.namespace}/{name}" if name else ""
    return endpoint.ip or endpoint.mac or ""
