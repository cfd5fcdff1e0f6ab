"""A rule over alerts, checked: which alerts, about whom, in what order or how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from schemas.finding import Severity
from schemas.incident import Stage

SEQUENCE = "sequence"  # detector and kind of the alerts that sequences make

# As in Sigma's correlation rules, version 2.1 of its specification.
SequenceType = Literal["temporal", "temporal_ordered", "event_count", "value_count"]
SEQUENCE_TYPES: tuple[SequenceType, ...] = get_args(SequenceType)

# What alerts can be grouped by: an address or an identity of a side; without a side, of either.
GroupField = Literal[
    "attacker", "victim", "endpoint",
    "attacker_workload", "victim_workload", "workload",
    "attacker_namespace", "victim_namespace", "namespace",
    "attacker_pod", "victim_pod", "pod",
    "attacker_service", "victim_service", "service",
    "attacker_node", "victim_node", "node",
]  # fmt: skip
GROUP_FIELDS: tuple[GroupField, ...] = get_args(GroupField)

# What different values can be counted of.
CountedField = Literal[GroupField, "detector", "kind", "technique"]
COUNTED_FIELDS: tuple[CountedField, ...] = get_args(CountedField)


@dataclass(frozen=True)
class Step:
    """Which alerts are meant; of each list that is not empty, one entry must fit."""

    name: str
    detectors: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()  # names of YAML rules
    kinds: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()  # a technique stands for its sub-techniques too
    stages: tuple[Stage, ...] = ()
    severity: Severity = "info"  # at least


@dataclass(frozen=True)
class SequenceRule:
    """One checked rule over alerts.

    ``groups`` gives, for each step, the fields whose values must be equal over all steps; ``at_least``
    and ``counted`` are for counts: so many alerts, or so many different values.
    """

    name: str
    type: SequenceType
    steps: tuple[Step, ...]
    groups: Mapping[str, tuple[GroupField, ...]]
    timespan: int  # s
    at_least: int = 1
    counted: CountedField | None = None
    severity: Severity = "high"
    description: str = ""
    techniques: tuple[str, ...] = ()
