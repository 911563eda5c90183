"""From raw samples to a distribution, with definitions that do not depend on a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from edgepack.errors import MeasureError
from edgepack.records import Drift, Latency, Outliers

EXACT_UP_TO = 1000
"""Counts above which the binomial distribution is replaced by its normal approximation."""
FENCES = 3.0
"""How many interquartile ranges from the quartiles an outlier lies (Tukey's "far out")."""
FINEST = 0.01
"""The least range that fences are made of, of the median: a clock of coarse steps has none."""
PART = 4
"""Drift is of the first and the last of so many parts of a run."""
DRIFTED = 0.05
"""The least change that is told as drift."""


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


def outliers(samples_us: Sequence[float]) -> Outliers:
    """How many of the samples are far from all others, and the fences beyond which they lie."""
    values = np.asarray(samples_us, dtype=np.float64)
    low, middle, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    room = FENCES * max(high - low, FINEST * middle)
    below, above = low - room, high + room
    count = int(np.count_nonzero((values < below) | (values > above)))
    return Outliers(n=count, below_us=max(0.0, below), above_us=above)


def drift(samples_us: Sequence[float]) -> Drift | None:
    """The first quarter of the samples, in the order in which they were taken, against the last.

    None where a quarter is too short for an interval of its median.
    """
    part = len(samples_us) // PART
    return change(samples_us[:part], samples_us[len(samples_us) - part :])


def change(first: Sequence[float], last: Sequence[float]) -> Drift | None:
    """The median of the last against that of the first; None below six of each."""
    if min(len(first), len(last)) < 6:
        return None
    one, other = latency(first), latency(last)
    if one.p50 <= 0:
        return None
    moved = other.p50 / one.p50 - 1
    apart = one.ci95[1] < other.ci95[0] or other.ci95[1] < one.ci95[0]
    return Drift(
        first_us=one.p50, last_us=other.p50, change=moved, real=apart and abs(moved) > DRIFTED
    )
