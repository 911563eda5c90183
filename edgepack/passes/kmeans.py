"""k-means of single numbers: a palette for weights, always the same for the same seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Start = Literal["linear", "density", "kmeans++"]
Floats = NDArray[np.float64]
ROUNDS = 100


def palette(
    values: Floats,
    count: int,
    *,
    start: Start,
    rng: np.random.Generator,
    ends: tuple[float, float] | None = None,
) -> Floats:
    """At most ``count`` numbers, ascending, near which the values lie: Lloyd's algorithm.

    ``start`` (Han et al. 2015) spreads the first ones evenly over the range, over the values'
    ranks, or by chance far from each other (Arthur & Vassilvitskii 2007). With ``ends`` the
    lowest and the highest are these two and stay where they are. The squared error is never
    above that of the start.
    """
    values = np.sort(values)
    distinct = np.unique(values)
    if ends is not None:
        distinct = np.union1d(distinct, ends)
    if len(distinct) <= count:
        return distinct
    sums = np.concatenate([[0.0], np.cumsum(values)])
    fixed = np.array(ends if ends is not None else ())
    centres = _first(values, count - len(fixed), start, rng)
    for _ in range(ROUNDS):
        whole = np.sort(np.concatenate([centres, fixed]))
        edges = np.searchsorted(values, (whole[1:] + whole[:-1]) / 2)
        bounds = np.concatenate([[0], edges, [len(values)]])
        sizes, totals = np.diff(bounds), np.diff(sums[bounds])
        means = np.where(sizes > 0, totals / np.maximum(sizes, 1), whole)
        if ends is not None:
            means, sizes = means[1:-1], sizes[1:-1]
        if (sizes == 0).any():
            # An empty cluster goes where a value fits worst.
            apart = np.abs(values - whole[nearest(values, whole)])
            means[np.flatnonzero(sizes == 0)[0]] = values[int(np.argmax(apart))]
        means = np.sort(means)
        if np.array_equal(means, centres):
            break
        centres = means
    return np.unique(np.concatenate([centres, fixed]))


def nearest(values: Floats, centres: Floats) -> NDArray[np.int32]:
    """The position of the nearest of ascending ``centres`` for each value."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.int32)


def _first(values: Floats, count: int, start: Start, rng: np.random.Generator) -> Floats:
    """The centres to begin with, of sorted values."""
    if start == "linear":
        return np.linspace(values[0], values[-1], count)
    if start == "density":
        ranks = (np.arange(count) + 0.5) / count
        return np.quantile(values, ranks)
    chosen = [float(rng.choice(values))]
    apart = (values - chosen[0]) ** 2
    while len(chosen) < count:
        total = apart.sum()
        at = rng.choice(len(values), p=apart / total) if total > 0 else rng.integers(len(values))
        chosen.append(float(values[at]))
        apart = np.minimum(apart, (values - chosen[-1]) ** 2)
    return np.sort(np.array(chosen))
