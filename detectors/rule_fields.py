"""The scalar fields of a rule: from a YAML node to a checked value, or to a sentence about what is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import yaml

from detectors.identity_keys import BYS, By
from schemas.finding import SEVERITIES, Severity

MAX_DESCRIPTION = 500  # characters, so that it fits an alert
DEFAULT_WINDOW = 60  # s
WINDOW_RANGE = (10, 24 * 3600)  # s; below ten ticks a sliding window is mostly one burst, above a day it is history

_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_NUMBER = re.compile(r"[+-]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_WINDOW = re.compile(r"(\d{1,6})(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?")


T = TypeVar("T", bound=str)


class FieldError(ValueError):
    """A field that does not fit; the text says what does."""


def printable(text: str) -> str:
    """Return text that is safe on a terminal, shortened to 80 characters."""
    return ascii(text[:80])[1:-1]


def scalar(node: yaml.Node) -> str:
    """Return a scalar's text; empty for a list or mapping."""
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def read_name(node: yaml.Node) -> str:
    """Return a rule's name.

    Raises:
        FieldError: not 1 to 64 of a-z, 0-9, _ and -.
    """
    text = scalar(node)
    if not _NAME.fullmatch(text):
        problem = f"name '{printable(text)}' must be 1 to 64 of a-z, 0-9, _ and -"
        raise FieldError(problem)
    return text


def read_number(node: yaml.Node) -> float:
    """Return a number of at most 1e18 either side of 0.

    Raises:
        FieldError: it is none.
    """
    text = scalar(node)
    number = float(text.replace("_", "")) if len(text) <= 40 and _NUMBER.fullmatch(text) else float("nan")
    if not abs(number) <= 1e18:
        problem = f"threshold must be a number, not '{printable(text)}'"
        raise FieldError(problem)
    return number


def read_window(node: yaml.Node, name: str = "time_window") -> int:
    """Return a length of time in s.

    Raises:
        FieldError: not a whole number with s, m or h, or outside ``WINDOW_RANGE``.
    """
    text = scalar(node)
    match = _WINDOW.fullmatch(text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not WINDOW_RANGE[0] <= seconds <= WINDOW_RANGE[1]:
        problem = f"{name} '{printable(text)}' must be like 30s, 5m or 1h, from 10s to 24h"
        raise FieldError(problem)
    return seconds


def _one_of(text: str, words: Sequence[T]) -> T | None:
    return next((word for word in words if word == text), None)


def read_by(node: yaml.Node) -> By | None:
    """Return what is counted; none stands for addresses.

    Raises:
        FieldError: not one of the known words.
    """
    text = scalar(node)
    by = _one_of(text, BYS)
    if by is not None or text == "address":
        return by
    problem = f"by must be one of address, {', '.join(BYS)}, not '{printable(text)}'"
    raise FieldError(problem)


def read_severity(node: yaml.Node) -> Severity:
    """Return a severity.

    Raises:
        FieldError: not one of the known words.
    """
    text = scalar(node)
    severity = _one_of(text, SEVERITIES)
    if severity is not None:
        return severity
    problem = f"severity must be one of {', '.join(SEVERITIES)}, not '{printable(text)}'"
    raise FieldError(problem)


def read_techniques(node: yaml.Node) -> tuple[str, ...]:
    """Return ATT&CK technique ids.

    Raises:
        FieldError: not a list of one to ten of them.
    """
    texts = [scalar(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else []
    if not 1 <= len(texts) <= 10 or not all(_TECHNIQUE.fullmatch(t) for t in texts):
        problem = "techniques must be a list of one to ten ATT&CK ids such as T1046 or T1071.004"
        raise FieldError(problem)
    return tuple(texts)


def read_description(node: yaml.Node) -> str:
    """Return a text for people.

    Raises:
        FieldError: empty, longer than ``MAX_DESCRIPTION``, or with control characters.
    """
    text = " ".join(scalar(node).split())
    if not text or len(text) > MAX_DESCRIPTION or not text.isprintable():
        problem = f"description must be a text of at most {MAX_DESCRIPTION} printable characters"
        raise FieldError(problem)
    return text
