"""What the Kubernetes API says, in our words: refusals with reason and remedy, and what an object tells of itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from response.gateway import ClusterError
from response.objects import MANAGER

T = TypeVar("T")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_REASONS = {
    401: "unauthorized", 403: "forbidden", 404: "not_found", 409: "conflict", 410: "expired", 422: "invalid",
    429: "busy", 500: "server_error", 502: "server_error", 503: "server_error", 504: "server_error",
}  # fmt: skip
_REMEDIES = {
    401: "give a kubeconfig with a valid token or certificate",
    403: "grant the role that `docs/response.md` lists",
    409: "somebody else owns a field of this object; remove or rename it",
}


def one_line(text: str) -> str:
    """A text of others as one line of bounded length."""
    return _CONTROL.sub(" ", text)[:500]


def refusal(doing: str, code: int, said: str) -> ClusterError:
    """What a status of the API means for what was being done: the step, the cause and the remedy in one line."""
    remedy = f" ({_REMEDIES[code]})" if code in _REMEDIES else ""
    return ClusterError(one_line(f"cannot {doing}: {said or code}{remedy}"), _REASONS.get(code, "api_error"))


def unless_forbidden(ask: Callable[[], T]) -> T | None:
    """What is asked for, or None where this process may not have it."""
    try:
        return ask()
    except ClusterError as error:
        if error.reason == "forbidden":
            return None
        raise


def labels_of(document: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """An object's name and labels."""
    return document["metadata"]["name"], document["metadata"].get("labels") or {}


def written_by_us(document: Mapping[str, Any]) -> bool:
    """Whether any field of an object is ours."""
    entries = document["metadata"].get("managedFields") or ()
    return any(entry.get("manager") == MANAGER for entry in entries)
