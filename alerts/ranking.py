"""The endpoints that an episode names: the most often and most prominently named ones, bounded."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from pydantic import BaseModel, Field, field_validator

from schemas.finding import MAX_ENDPOINTS, Endpoint

# Three times as many as are shown, so that one busy tick does not push out who was there all along.
MAX_CANDIDATES = 3 * MAX_ENDPOINTS


class _Candidate(NamedTuple):
    weight: int
    known: bool
    endpoint: str  # as JSON: a quarter of the object's memory, and most are never shown


class Ranking(BaseModel):
    """Weighs endpoints by how often and how far ahead findings name them.

    A finding gives its first endpoint 20 points, the next 19, and so on. When the table is full a
    newcomer takes the place and the points of the lightest (the Space-Saving algorithm of Metwally,
    Agrawal and El Abbadi, 2005), so an endpoint named often enough cannot be kept out.
    """

    candidates: dict[str, _Candidate] = Field(default_factory=dict, max_length=MAX_CANDIDATES)

    @field_validator("candidates")
    @classmethod
    def _readable(cls, candidates: dict[str, _Candidate]) -> dict[str, _Candidate]:
        for candidate in candidates.values():
            Endpoint.decode(candidate.endpoint.encode())
        return candidates

    def add(self, endpoints: Iterable[Endpoint]) -> None:
        """Count what one finding names, most relevant first; beyond 20 they are not looked at."""
        for rank, endpoint in enumerate(islice(endpoints, MAX_ENDPOINTS)):
            key = f"{endpoint.ip}|{endpoint.port}|{endpoint.protocol}|{endpoint.mac}"
            self.candidates[key] = self._weighed(key, endpoint, MAX_ENDPOINTS - rank)

    def _weighed(self, key: str, endpoint: Endpoint, weight: int) -> _Candidate:
        present = self.candidates.get(key)
        known = endpoint.identity == "known"
        if present is not None:
            weight += present.weight
            # The identity at the time of the attack counts; a later, nameless row does not erase it.
            if present.known or not known:
                return present._replace(weight=weight)
        elif len(self.candidates) >= MAX_CANDIDATES:
            lightest = min(self.candidates, key=lambda k: (self.candidates[k].weight, k))
            weight += self.candidates.pop(lightest).weight
        return _Candidate(weight, known, endpoint.encode().decode())

    def top(self) -> tuple[Endpoint, ...]:
        """Return at most 20 endpoints, the heaviest first, equals by their text."""
        ordered = sorted(self.candidates, key=lambda k: (-self.candidates[k].weight, k))
        return tuple(Endpoint.decode(self.candidates[key].endpoint.encode()) for key in ordered[:MAX_ENDPOINTS])

    def clear(self) -> None:
        """Forget all."""
        self.candidates.clear()
