"""The decision matrix as a YAML file: kinds to categories; a category to severity, deadline, ladder and mode."""

from __future__ import annotations

import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.alert import Alert
from schemas.finding import SEVERITIES, Severity
from schemas.response import ActionName, Mode

Category = Literal["ddos", "intrusion", "data_leak", "misconfiguration", "other"]
# What may be done besides a ladder, because it takes nothing from anybody.
Besides = Literal["annotate", "notify", "capture_traffic"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
Name = Annotated[str, Field(min_length=1, max_length=253)]
DEFAULT_POLICY_FILE = Path(__file__).with_name("default_policy.yaml")
# A policy of every namespace of a large cluster is far smaller; beyond this the file is not a policy.
MAX_FILE_BYTES = 1 << 20


class PolicyFileError(ValueError):
    """A policy file that cannot be used; the message is one line naming file, place and remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CategoryRule(_Part):
    """One row of the matrix."""

    severity: Severity = Field(description="Floor of the response's severity; a graver alert keeps its own.")
    deadline_s: int = Field(ge=0, le=86400, description="Seconds after detection by which it should be contained.")
    ttl_s: int = Field(ge=60, le=604800, description="Seconds after which what was applied expires.")
    actions: tuple[ActionName, ...] = Field(description="Ladder: tried in order until one is proven.")
    also: tuple[Besides, ...] = Field(
        (), description="Done besides, each as a response of its own, whatever comes of the ladder."
    )
    mode: Mode | None = Field(None, description="Stricter mode for this category; absent: the file's mode.")


class NamespaceRule(_Part):
    """Mode of one namespace, freer or stricter than the file's."""

    mode: Mode


class MatrixRow(_Part):
    """An exception to the category's row: what must be true of an alert, and what then holds instead.

    Conditions that are left out are true; what follows and is left out is as the category says.
    """

    name: Name = Field(description="What the decision's reason calls it.")
    kinds: tuple[Name, ...] = Field((), description="Kinds or detectors; `*` and `?` as in file names.")
    categories: tuple[Category, ...] = Field((), description="Categories.")
    severity: Severity | None = Field(None, description="The alert is at least this grave.")
    confidence: float | None = Field(None, ge=0, le=1, description="The detector is at least this sure.")
    namespaces: tuple[Name, ...] = Field((), description="An attacker or victim is in one of these; `*` and `?`.")
    labels: dict[Name, str] = Field(
        default_factory=dict, description="An attacker or victim has all of these labels, `environment: production`."
    )
    hours: str | None = Field(
        None, pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        description="Time of the alert in UTC, from-to; 22:00-06:00 passes midnight.",
    )  # fmt: skip
    weekdays: tuple[Weekday, ...] = Field((), description="Days of the alert in UTC.")

    actions: tuple[ActionName, ...] | None = Field(None, description="Ladder instead of the category's.")
    also: tuple[Besides, ...] | None = Field(None, description="What is done besides, instead of the category's.")
    mode: Mode | None = Field(
        None, description="Mode instead of the file's and the category's; a namespace's stricter one still holds."
    )
    deadline_s: int | None = Field(None, ge=0, le=86400, description="Deadline instead of the category's.")
    ttl_s: int | None = Field(None, ge=60, le=604800, description="Time to live instead of the category's.")
    approvals: int = Field(1, ge=1, le=5, description="Persons who must approve in mode approve.")
    approvers: tuple[Name, ...] = Field((), description="Persons who may; empty: everyone whose key is known.")

    def fits(self, alert: Alert, category: Category) -> bool:
        """Whether the row is about an alert."""
        ends = (*alert.attackers, *alert.victims)
        moment = datetime.datetime.fromtimestamp(alert.tick, datetime.UTC)
        return (
            _any_fits(self.kinds, (alert.kind, alert.detector))
            and (not self.categories or category in self.categories)
            and (self.severity is None or SEVERITIES.index(alert.severity) >= SEVERITIES.index(self.severity))
            and (self.confidence is None or alert.confidence >= self.confidence)
            and _any_fits(self.namespaces, tuple(end.namespace or "" for end in ends))
            and (not self.labels or any(self.labels.items() <= end.labels.items() for end in ends))
            and (self.hours is None or _within(self.hours, f"{moment:%H:%M}"))
            and (not self.weekdays or WEEKDAYS[moment.weekday()] in self.weekdays)
        )


def _any_fits(patterns: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _within(hours: str, time: str) -> bool:
    begin, _, end = hours.partition("-")
    return begin <= time < end if begin < end else time >= begin or time < end


class DecisionPolicy(_Part):
    """The whole file."""

    version: Literal[1]
    mode: Mode = Field("dry-run", description="Default mode: nothing is changed until an operator says so.")
    minimum_confidence: float = Field(
        0.5, ge=0, le=1, description="Below it alerts are only observed: an even bet is no ground to cut anyone off."
    )
    namespaces: dict[Name, NamespaceRule] = Field(default_factory=dict)
    categories: dict[Category, CategoryRule]
    kinds: dict[Name, Category]
    matrix: tuple[MatrixRow, ...] = Field((), description="Exceptions; the first that fits an alert holds.")

    def row(self, alert: Alert, category: Category) -> MatrixRow | None:
        """The first row that fits an alert, or none."""
        return next((row for row in self.matrix if row.fits(alert, category)), None)

    def rule(self, category: Category) -> CategoryRule:
        """The row of a category; a category without a row has that of `other`."""
        return self.categories.get(category) or self.categories["other"]


def parse_policy(text: str, name: str) -> DecisionPolicy:
    """The policy in a YAML text; `name` is what errors call it. Raises PolicyFileError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        message = f"{name}:{place} not YAML: {getattr(error, 'problem', None) or 'unreadable'}"
        raise PolicyFileError(message) from None
    if not isinstance(document, dict):
        message = f"{name}: a mapping with version, categories and kinds is expected; see default_policy.yaml"
        raise PolicyFileError(message)
    try:
        policy = DecisionPolicy.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{name}: {place}: {first['msg']}"
        raise PolicyFileError(message) from None
    if "other" not in policy.categories:
        message = f"{name}: categories.other is missing: alerts of unlisted kinds need a row"
        raise PolicyFileError(message)
    names = [row.name for row in policy.matrix]
    for row_name in names:
        if names.count(row_name) > 1:
            message = f"{name}: matrix: two rows are called {row_name!r}; the audit could not tell them apart"
            raise PolicyFileError(message)
    return policy


def load_policy(path: Path = DEFAULT_POLICY_FILE) -> DecisionPolicy:
    """The policy in a file; without a path the one that ships. Raises PolicyFileError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise PolicyFileError(message) from None
    except UnicodeDecodeError:
        message = f"{path}: not a text file"
        raise PolicyFileError(message) from None
    if len(data) > MAX_FILE_BYTES:
        message = f"{path}: more than {MAX_FILE_BYTES} bytes, not a policy file"
        raise PolicyFileError(message)
    return parse_policy(text, str(path))
