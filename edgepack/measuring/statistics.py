"""From raw samples to a distribution, with definitions that do not depend on a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from edgepack.errors import MeasureError
from edgepack.records import Latency

EXACT_UP_TO = 1000
"""Counts above which the binomial distribution is replaced by its normal approximation."""


def latency(samples_us: Sequence[float]) -> Latency:
    """The distribution of single inferences in µs.

    Percentiles interpolate linearly between order statistics; ``std`` is the sample's (n - 1).
    Raises MeasureError where there is no sample, or one is not a positive finite number.
    """
    values = np.sort(np.asarray(samples_us, dtype=np.float64))
    if not values.size:
        raise MeasureError("the device took no sample")
    if not np.all(np.isfinite(values)) or values[0] < 0:
        raise MeasureError("the device reported times that are not numbers", "measure again")
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    low, high = median_ranks(values.size)
    return Latency(
        n=int(values.size),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if values.size > 1 else 0.0,
        min=float(values[0]),
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(values[-1]),
        ci95=(float(values[low]), float(values[high])),
    )


def median_ranks(count: int) -> tuple[int, int]:
    """The places, from 0, of the order statistics that bound the median with 95 % confidence.

    The number of samples below the median is binomial (n, 1/2), whatever the distribution is.
    Below six samples no interval reaches 95 %: the whole range is given. Consecutive
    inferences are not quite independent, so the interval is a lower bound of the doubt.
    """
    if count <= EXACT_UP_TO:
        low, tail = -1, 0.0
        while True:  # the tail reaches 1 at the latest after all ranks
            tail += math.comb(count, low + 1) / 2**count
            if tail > 0.025:
                break
            low += 1
    else:
        low = math.floor(count / 2 - NormalDist().inv_cdf(0.975) * math.sqrt(count) / 2) - 1
    low = max(low, 0)
    return low, count - 1 - low
