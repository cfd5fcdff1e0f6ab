"""The feature plan: all features that active detectors and rules ask for, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detectors.base import Detector
from detectors.features import Distinct, Feature
from detectors.spaces import SPACES
from detectors.table import SpaceTable

PAIR_BYTES = 24  # of one remembered (key, element): two words, and its share of the cells that find it


@dataclass(frozen=True)
class PlanLine:
    """One space of the plan and what it costs in memory.

    ``bytes_per_key`` is a key's row with all rings, identity columns aside; ``pair_bytes`` bounds
    the pairs of all distinct counts together.
    """

    space: str
    stage: int
    grouped: tuple[str, ...]
    features: tuple[Feature, ...]
    bytes_per_key: int
    capacity: int
    pair_bytes: int


class FeaturePlan:
    """Features by space, equal ones merged, in a stable order."""

    def __init__(self, detectors: Iterable[Detector]) -> None:
        self._features: dict[str, dict[Feature, None]] = {}
        for detector in detectors:
            for feature in detector.features():
                if SPACES[feature.space].stage != detector.meta.stage:
                    problem = f"{detector.meta.id} of stage {detector.meta.stage} asks for {feature.space} features"
                    raise ValueError(problem)
                self._features.setdefault(feature.space, {}).setdefault(feature)
        self._ordered = {
            space: tuple(sorted(own, key=lambda f: (f.window, f.name, str(f.aggregate))))
            for space, own in self._features.items()
        }

    def spaces(self) -> set[str]:
        """Return the spaces that anything is asked of."""
        return set(self._features)

    def features(self, space: str) -> Sequence[Feature]:
        """Return a space's features ordered by name and window."""
        return self._ordered.get(space, ())

    def lines(self) -> list[PlanLine]:
        """Return the plan for people to read."""
        out = []
        for name in sorted(self._features):
            space, features = SPACES[name], tuple(self.features(name))
            counts = sum(isinstance(f.aggregate, Distinct) for f in features)
            size = SpaceTable(space, features).bytes_per_key
            pairs = counts * space.pairs * PAIR_BYTES
            out.append(PlanLine(name, space.stage, space.grouped, features, size, space.capacity, pairs))
        return out
