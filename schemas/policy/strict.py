"""Reading objects of which every field must be understood: a rule with a field that is not evaluated is no rule."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from schemas.policy.addresses import span_of_cidr
from schemas.policy.labels import ApiModel
from schemas.policy.networkpolicy import ObjectMeta


class StrictModel(ApiModel):
    """A part of a policy; a field that is not declared refuses the whole policy, for it may change what it says."""

    model_config = ConfigDict(extra="forbid")


class ClusterMeta(ObjectMeta):
    """The part of the metadata of an object without namespace that decisions use."""

    namespace: str = Field("", max_length=0)


def check_cidr(text: str) -> str:
    """The text of a block of addresses, or of one address; raises ValueError."""
    span_of_cidr(text)
    return text
