"""Accuracy against accuracy on the same samples: the difference, with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Points (100 × fraction) between two models' accuracies, and its 95 % interval."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def difference(correct: NDArray[np.bool_], baseline: NDArray[np.bool_]) -> Difference:
    """``correct`` (seeds, samples) against ``baseline`` (samples): paired by sample.

    The interval is a bootstrap over samples of the seeds' mean: how much the test set's choice
    matters. How much the seed matters is told apart from it.
    """
    each = 100.0 * (correct.mean(0) - baseline)
    rng = np.random.default_rng(0)
    means = [each[rng.integers(0, len(each), len(each))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(points=float(each.mean()), low=float(low), high=float(high))
