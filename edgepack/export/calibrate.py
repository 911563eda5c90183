"""Activation ranges from calibration data: one streaming pass, then a calibrator's choice.

Each tensor keeps its extremes, a moving average and a histogram of a fixed number of bins whose
width doubles when a value falls outside; so memory stays flat however much data there is.
A range is (low, high) in real units and always holds zero, which must be exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Calibrator = Literal["minmax", "moving-average", "percentile", "mse"]
Range = tuple[float, float]
BINS = 2048
SAMPLED = 8192
"""At most so many values of one tensor of one sample enter its histogram; all its extremes do."""
SMOOTHING = 0.95
SHRINKS = tuple(1 - place / 50 for place in range(31))


class Histogram:
    """Counts of values in ``BINS`` bins between ``low`` and ``high``."""

    def __init__(self) -> None:
        self.low = 0.0
        self.high = 0.0
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[Any], low: float, high: float) -> None:
        """Count ``values``, all of which lie in ``low`` to ``high``."""
        if not self.width:
            self.low = low
            width = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-30)
            self.high = low + width * (1 + 1e-6)
        while low < self.low:
            self.counts = _halved(np.concatenate([np.zeros(BINS, np.int64), self.counts]))
            self.low -= self.width
        while high > self.high:
            self.counts = _halved(np.concatenate([self.counts, np.zeros(BINS, np.int64)]))
            self.high += self.width
        places = ((values - self.low) * (BINS / self.width)).astype(np.int64)
        self.counts += np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS)

    @property
    def width(self) -> float:
        """The span of all bins together; 0 before the first value."""
        return self.high - self.low

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        return np.asarray(self.low + (np.arange(BINS) + 0.5) * (self.width / BINS), np.float64)

    def quantile(self, fraction: float) -> float:
        """The value below which ``fraction`` of the counted values lie, linear inside a bin."""
        total = np.cumsum(self.counts)
        wanted = fraction * float(total[-1])
        place = int(np.searchsorted(total, wanted))
        place = min(place, BINS - 1)
        before = float(total[place - 1]) if place else 0.0
        inside = (wanted - before) / max(float(self.counts[place]), 1.0)
        return self.low + (place + min(max(inside, 0.0), 1.0)) * self.width / BINS


def _halved(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    merged: NDArray[np.int64] = counts.reshape(-1, 2).sum(1)
    return merged


class Observed:
    """What one tensor took on over the samples seen so far."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.average: Range = (0.0, 0.0)
        self.samples = 0
        self.histogram = Histogram()

    def add(self, values: NDArray[Any]) -> bool:
        """Take in one sample's values, of any shape; False where they are not all finite."""
        if not values.size:
            return True
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low) or not np.isfinite(high):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        new, old = 1 - SMOOTHING, SMOOTHING
        self.average = (
            (old * self.average[0] + new * low, old * self.average[1] + new * high)
            if self.samples
            else (low, high)
        )
        flat = values.reshape(-1)
        stride = -(-flat.size // SAMPLED)
        self.histogram.add(flat[self.samples % stride :: stride], low, high)
        self.samples += 1
        return True

    def range(self, calibrator: Calibrator, percentile: float = 99.99, levels: int = 256) -> Range:
        """The range that a calibrator chooses for ``levels`` integer steps."""
        if not self.samples:
            return (0.0, 0.0)
        whole = with_zero((self.low, self.high))
        if calibrator == "minmax":
            return whole
        if calibrator == "moving-average":
            return with_zero(self.average)
        if calibrator == "percentile":
            tail = 1 - percentile / 100
            low, high = self.histogram.quantile(tail), self.histogram.quantile(1 - tail)
            return within(with_zero((low, high)), whole)
        return least_error(self.histogram, whole, levels)


def with_zero(limits: Range) -> Range:
    """The range, widened to hold zero."""
    return min(limits[0], 0.0), max(limits[1], 0.0)


def within(limits: Range, outer: Range) -> Range:
    """The range, cut to ``outer``."""
    return max(limits[0], outer[0]), min(limits[1], outer[1])


def expected_error(histogram: Histogram, limits: Range, levels: int = 256) -> float:
    """The mean squared error of quantising the counted values to ``levels`` steps in a range.

    Values outside are clipped; those inside are off by step²/12 on average, exact zeros not.
    """
    low, high = limits
    step = (high - low) / (levels - 1)
    centres, counts = histogram.centres, histogram.counts
    clipped = np.clip(centres, low, high)
    zero = int(np.clip((0.0 - histogram.low) * (BINS / histogram.width), 0, BINS - 1))
    inside = (centres >= low) & (centres <= high)
    inside[zero] = False
    total = float(counts @ (centres - clipped) ** 2 + counts[inside].sum() * step**2 / 12)
    return total / max(float(counts.sum()), 1.0)


def least_error(histogram: Histogram, whole: Range, levels: int = 256) -> Range:
    """The part of ``whole`` with the least expected error: either end, or both, drawn in."""
    low, high = whole
    if high <= low:
        return whole
    ways = [(low * a, high * b) for s in SHRINKS for a, b in ((1, s), (s, 1), (s, s))]
    return min(ways, key=lambda limits: expected_error(histogram, limits, levels))


def ranges(
    seen: Mapping[str, Observed],
    calibrator: Calibrator,
    percentile: float = 99.99,
    levels: int = 256,
) -> dict[str, Range]:
    """The range of each tensor."""
    return {name: each.range(calibrator, percentile, levels) for name, each in seen.items()}


def calibration_result(
    chosen: Mapping[str, Range], largest: Mapping[str, NDArray[np.float64]]
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Ranges as litert-quantizer's editable calibration result: tensor name → min and max.

    ``largest`` are symmetric ranges of weights, of the shape that broadcasts over them.
    """
    found = {
        name: {"min": np.array(low, np.float32), "max": np.array(high, np.float32)}
        for name, (low, high) in chosen.items()
    }
    for name, magnitude in largest.items():
        top = magnitude.astype(np.float32)
        found[name] = {"min": -top, "max": top}
    return found
