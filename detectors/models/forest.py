"""Half-space trees per role: are the deviations of a window, taken together, unlike those of its kind?

River's HalfSpaceTrees (Tan, Ting, Liu 2011) are a function of their seed, of the samples of the last full
window and of those since: these are kept, and feeding them to new trees gives the same trees again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.models.windows import NAMES

F64 = npt.NDArray[np.float64]

TREES = 10
HEIGHT = 8  # 15 would double memory seven more times for the same windows
WINDOW = 250  # samples; the trees score 0 until the first window is full
_BINS = 256
_SHARE = 0.99  # of a role's scores that are ordinary
_KEPT = 4096  # scores before the histogram is halved


class RoleForest:
    """The trees of one role."""

    def __init__(self, seed: int, names: Sequence[str] = NAMES) -> None:
        self._seed = seed
        self._names = names
        self._trees: Any = self._new()
        self._samples = np.zeros((2 * WINDOW, len(names)), np.float32)
        self._filled = 0
        self._histogram = np.zeros(_BINS, np.int64)

    def _new(self) -> Any:
        # Imported at first use: River brings SciPy, seconds that most runs end before they need.
        from river.anomaly import HalfSpaceTrees

        return HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=self._seed)

    def score(self, sample: F64) -> float:
        """Return how unlike the learned ones a sample is, 0 to 1; 0 while the first window is not full."""
        return float(self._trees.score_one(self._named(sample.astype(np.float32))))

    def limit(self) -> float:
        """Return the score that ordinary samples hardly exceed; 1 while too few were scored."""
        total = int(self._histogram.sum())
        if total < WINDOW:
            return 1.0
        place = int(np.searchsorted(np.cumsum(self._histogram), _SHARE * total))
        return (place + 1) / _BINS

    def learn(self, sample: F64) -> None:
        """Score, then learn a sample: a number in 0 to 1 for each name."""
        kept = sample.astype(np.float32)
        score = self.score(sample)
        if score > 0:
            self._histogram[min(_BINS - 1, int(score * _BINS))] += 1
            if self._histogram.sum() >= _KEPT:
                self._histogram //= 2
        if self._filled == 2 * WINDOW:
            self._samples[:WINDOW] = self._samples[WINDOW:]
            self._filled = WINDOW
        self._samples[self._filled] = kept
        self._filled += 1
        self._trees.learn_one(self._named(kept))

    def _named(self, sample: npt.NDArray[np.float32]) -> dict[str, float]:
        return dict(zip(self._names, sample.tolist(), strict=True))

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return samples and histogram."""
        return {"samples": self._samples[: self._filled].copy(), "histogram": self._histogram.copy()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Grow the same trees again."""
        samples = state["samples"]
        self._filled = len(samples)
        self._samples[: self._filled] = samples
        self._histogram = state["histogram"].copy()
        self._trees = self._new()
        for sample in samples:
            self._trees.learn_one(self._named(sample))
