"""Features: what a detector asks for, as a value.

A feature is an aggregate of a measure over a key space and a sliding window. Equal features are
computed once however many detectors and rules ask for them.
"""

from __future__ import annotations

from dataclasses import dataclass

BUCKETS = 12  # a window is a ring of at most this many buckets, so its length is exact to one of them


@dataclass(frozen=True)
class Sum:
    """Sum of an integer measure over the window."""

    measure: str


@dataclass(frozen=True)
class Distinct:
    """Number of distinct elements that a measure selected within the window.

    ``cancel`` names a measure that takes an element out again and keeps it out while it is remembered:
    a port that carried a conversation was not scanned. At most ``cap`` elements per key are counted.
    """

    element: str
    measure: str
    cancel: str = ""
    cap: int = 1024


@dataclass(frozen=True)
class Feature:
    """One number per key of a space."""

    name: str
    space: str
    window: int
    aggregate: Sum | Distinct
    unit: str = ""

    def __post_init__(self) -> None:
        # Features key tables that are looked up many times a tick; hashing the fields each time showed.
        object.__setattr__(self, "_hash", hash((self.name, self.space, self.window, self.aggregate)))

    def __hash__(self) -> int:
        value: int = self.__dict__["_hash"]
        return value

    @property
    def bucket(self) -> int:
        """Length of one bucket, s."""
        return -(-self.window // BUCKETS)

    @property
    def buckets(self) -> int:
        """Number of buckets; fewer than ``BUCKETS`` where the window is no multiple of as many whole seconds."""
        return max(1, round(self.window / self.bucket))
