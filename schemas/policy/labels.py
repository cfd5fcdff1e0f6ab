"""Label selectors, as the Kubernetes API defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

MAX_ITEMS = 4096  # of one list; nothing that people write comes near, what a topic says may
# A prefix of 253 characters, a slash and a name of 63: the API's own limits.
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]
Labels = Mapping[LabelKey, LabelValue]


def none_to_list(value: Any) -> Any:
    """An absent list, where the API writes null."""
    return [] if value is None else value


def none_to_dict(value: Any) -> Any:
    """An absent object, where the API writes null."""
    return {} if value is None else value


class ApiModel(BaseModel):
    """A frozen view of an API object: camelCase names, unknown fields ignored so that newer clusters still read."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Requirement(ApiModel):
    """One `matchExpressions` item."""

    key: LabelKey = Field(description="label")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="what must hold of the label")
    values: Annotated[tuple[LabelValue, ...], BeforeValidator(none_to_list)] = Field(
        default=(), max_length=MAX_ITEMS, description="of In and NotIn"
    )

    @model_validator(mode="after")
    def _values_fit_operator(self) -> Requirement:
        needs_values = self.operator in ("In", "NotIn")
        if needs_values != bool(self.values):
            message = f"operator {self.operator} on {self.key!r} {'needs' if needs_values else 'forbids'} values"
            raise ValueError(message)
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy this requirement; `NotIn` holds for an absent key."""
        if self.operator == "In":
            return self.key in labels and labels[self.key] in self.values
        if self.operator == "NotIn":
            return self.key not in labels or labels[self.key] not in self.values
        return (self.key in labels) == (self.operator == "Exists")


class LabelSelector(ApiModel):
    """All of `matchLabels` and all of `matchExpressions`; the empty selector matches everything."""

    match_labels: Annotated[dict[LabelKey, LabelValue], BeforeValidator(none_to_dict)] = Field(
        default_factory=dict, description="labels with exactly these values"
    )
    match_expressions: Annotated[tuple[Requirement, ...], BeforeValidator(none_to_list)] = Field(
        default=(), max_length=MAX_ITEMS, description="further requirements, all of which must hold"
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a set of labels satisfies every requirement."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )
