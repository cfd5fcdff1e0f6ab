"""What a check of ``sluicegate doctor`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "off"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``off``: absent, and only some uses need it."""

    name: str
    state: State
    found: str
    remedy: str = ""
