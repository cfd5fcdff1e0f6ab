"""NetworkPolicies in YAML, as `kubectl get -o yaml` writes them."""

from __future__ import annotations

from typing import Any

import yaml

from schemas.policy.networkpolicy import NetworkPolicy, PolicyError, read_policy

_LIST_KINDS = ("List", "NetworkPolicyList")


def read_policies(text: str, name: str) -> tuple[NetworkPolicy, ...]:
    """Every NetworkPolicy in a YAML text, lists included; other kinds are passed over.

    `name` is what errors call the text. Raises PolicyError.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"{name}:{f' line {mark.line + 1}:' if mark else ''} not YAML"
        raise PolicyError(message) from None
    items = (item for document in documents for item in _items(document))
    return tuple(read_policy(item) for item in items if item.get("kind") == "NetworkPolicy")


def _items(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        return []
    listed = document.get("items") if document.get("kind") in _LIST_KINDS else [document]
    return [item for item in listed or () if isinstance(item, dict)]
