"""One thing that is wrong with a cluster."""

from __future__ import annotations

from typing import NamedTuple

from schemas.finding import Severity


class Sign(NamedTuple):
    """What is wrong with which object, how grave it is, and in words for who repairs it."""

    what: str
    object: str  # equal ones are told once
    severity: Severity
    detail: str  # of the evidence: policies, rules, Services
    summary: str
