"""Policies of every dialect in YAML, as `kubectl get -o yaml` writes them."""

from __future__ import annotations

from typing import Any

import yaml

from schemas.policy.dialects import kind_of, read_object
from schemas.policy.networkpolicy import PolicyError, PolicyObject

_LIST_KINDS = ("List", "NetworkPolicyList")


def read_policies(text: str, name: str) -> tuple[PolicyObject, ...]:
    """Every policy in a YAML text, lists included; kinds that have no say are passed over.

    `name` is what errors call the text. Raises PolicyError, also for a policy that cannot be evaluated.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"{name}:{f' line {mark.line + 1}:' if mark else ''} not YAML"
        raise PolicyError(message) from None
    items = (item for document in documents for item in _items(document))
    return tuple(read_object(item) for item in items if kind_of(item) is not None)


def _items(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        return []
    listed = document.get("items") if document.get("kind") in _LIST_KINDS else [document]
    return [item for item in listed or () if isinstance(item, dict)]
