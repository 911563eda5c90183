"""Running sums over samples: an error against its signal, and how a tensor's values are spread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.records import TensorError

NOTHING_LEFT = -99.0
"""Decibels where no signal is left, or where values are not finite."""
TYPICAL = 0.999
"""The share of a tensor's values that its typical range holds."""


class Error:
    """The error of ``found`` against ``wanted``, over every sample added."""

    def __init__(self) -> None:
        self.noise = self.signal = self.power = self.product = self.largest = 0.0

    def add(self, found: NDArray[Any], wanted: NDArray[Any]) -> None:
        """Both in real units, with as many values."""
        f, w = (np.asarray(a, np.float64).reshape(-1) for a in (found, wanted))
        if not np.isfinite(f).all():
            self.noise = self.largest = math.inf
            return
        error = f - w
        self.noise += float(error @ error)
        self.signal += float(w @ w)
        self.power += float(f @ f)
        self.product += float(f @ w)
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float | None:
        """Power of the signal over that of the error; None where there is no error."""
        if self.noise == 0:
            return None
        if self.signal == 0 or not math.isfinite(self.noise):
            return NOTHING_LEFT
        return max(10 * math.log10(self.signal / self.noise), NOTHING_LEFT)

    def record(self, scale: float | None) -> TensorError:
        """As the records have it; ``scale`` is the exported tensor's step."""
        both = math.sqrt(self.signal * self.power)
        finite = math.isfinite(self.largest)
        return TensorError(
            sqnr_db=self.sqnr_db,
            cosine=min(self.product / both, 1.0) if both else None,
            max_abs=self.largest if finite else None,
            max_lsb=self.largest / scale if scale and finite else None,
        )


class Spread:
    """The extremes of a float tensor, its typical range, and the largest of each channel.

    Channels are the last axis. The typical range is the mean of the batches'.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.typical: list[tuple[float, float]] = []
        self.channels: NDArray[np.float64] | None = None

    def add(self, values: NDArray[Any]) -> None:
        """A batch of values (N, *tensor shape)."""
        flat = np.asarray(values, np.float64)
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        tail = (1 - TYPICAL) / 2
        low, high = np.quantile(flat, (tail, 1 - tail))
        self.typical.append((min(float(low), 0.0), max(float(high), 0.0)))
        if flat.ndim > 2:
            largest = np.abs(flat).max(axis=tuple(range(flat.ndim - 1)))
            self.channels = largest if self.channels is None else np.maximum(largest, self.channels)

    def range_ratio(self, span: float | None = None) -> float | None:
        """How many times the range ``span``, else that of all values, is the typical one."""
        low, high = np.mean(self.typical, axis=0)
        typical = float(high - low)
        return (span or self.high - self.low) / typical if typical else None

    @property
    def channel_ratio(self) -> float | None:
        """The largest channel over the median one; None where there are no channels to speak of."""
        return ratio(self.channels)


def ratio(largest: NDArray[np.float64] | None) -> float | None:
    """The largest over the median of magnitudes, those that are zero left out."""
    used = None if largest is None else largest[largest > 0]
    if used is None or len(used) < 2:
        return None
    return float(used.max() / np.median(used))
