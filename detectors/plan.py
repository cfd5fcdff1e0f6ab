"""The feature plan: all features that active detectors and rules ask for, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detectors.base import Detector
from detectors.features import Feature
from detectors.spaces import SPACES


@dataclass(frozen=True)
class PlanLine:
    """One space of the plan and what it costs."""

    space: str
    stage: int
    features: tuple[Feature, ...]
    bytes_per_key: int
    capacity: int


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
            features = tuple(self.features(name))
            windows = len({f.window for f in features})
            # ring and running sum per feature, clock per window, identity and bookkeeping
            size = sum(8 * f.buckets + 8 for f in features) + 8 * windows + 64
            out.append(PlanLine(name, SPACES[name].stage, features, size, SPACES[name].capacity))
        return out
