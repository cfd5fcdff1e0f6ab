"""Calls of the cluster client: tried again where an error may pass, and every error as one line that helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2 as httpx
from lightkube import ApiError
from lightkube.core.exceptions import ConfigError

from response.gateway import ClusterError
from response.kube_words import one_line, refusal

T = TypeVar("T")
# What may be gone at the next try; everything that is sent may be sent again, because it says what shall be.
_PASSING = frozenset({"conflict", "expired", "busy", "server_error", "unreachable"})
# Seconds between tries, together short of what a caller waits for one step.
_PAUSES = (0.1, 0.4, 1.2)


def insist(doing: str, call: Callable[[], T], *, missing_is_fine: bool = False) -> T | None:
    """What a call gives, tried again a few times where the error may pass; None for a missing object."""
    for pause in (*_PAUSES, None):
        try:
            with clear_errors(doing):
                return call()
        except ClusterError as error:
            if missing_is_fine and error.reason == "not_found":
                return None
            if pause is None or error.reason not in _PASSING:
                raise
            time.sleep(pause)
    return None


def name_of(target: Mapping[str, Any]) -> str:
    """Kind, namespace and name of an object, for errors."""
    metadata = target["metadata"]
    return f"{target.get('kind', 'object')} {metadata.get('namespace', '')}/{metadata.get('name', '')}"


@contextmanager
def clear_errors(doing: str) -> Iterator[None]:
    """Turn what the client raises into one line that names the step, the cause and the remedy."""
    try:
        yield
    except ApiError as error:
        raise refusal(doing, error.status.code or 0, error.status.message or "") from None
    except httpx.HTTPStatusError as error:
        # Of a watch that the server refuses the client does not read why.
        raise refusal(doing, error.response.status_code, "") from None
    except httpx.HTTPError as error:
        text = str(error) or type(error).__name__
        message = one_line(f"cannot {doing}: {text} (is the API server reachable, and its certificate trusted?)")
        raise ClusterError(message, "unreachable") from None
    except (ConfigError, OSError, ValueError) as error:
        message = one_line(f"cannot {doing}: {error}")
        raise ClusterError(message, "bad_answer") from None
