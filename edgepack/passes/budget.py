"""Which channels go: the least important for what they cost, until a budget is met."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.candidate import Costing
from edgepack.passes.prices import Counts, Of, Prices, prices
from edgepack.passes.slicing import cut_model
from edgepack.passes.units import Units

TRIES = 5
"""How often a choice is mended by what the exported model really costs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bounds:
    """How far each group may be cut: to no fewer than its floor, in multiples of ``multiple``."""

    floors: Counts
    multiple: int

    def below(self, counts: Counts) -> Counts:
        """The next smaller numbers of units that may stay."""
        return (counts - 1) // self.multiple * self.multiple


def bounds(units: Units, *, least: int, max_cut: float, multiple: int) -> Bounds:
    """Groups keep at least ``least`` units and 1 - ``max_cut`` of those that they have."""
    sizes = np.array([len(group) for group in units.groups], np.int64)
    wanted = np.maximum(np.ceil((1 - max_cut) * sizes - 1e-9).astype(np.int64), max(least, 1))
    return Bounds(floors=np.minimum(sizes, -(-wanted // multiple) * multiple), multiple=multiple)


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """The units that stay (``kept``, one for each unit), and whether the limit is met."""

    kept: NDArray[np.bool_]
    met: bool


def choose(
    units: Units, scores: NDArray[np.float64], prices: Prices, limit: float, bounds: Bounds
) -> Choice:
    """Units of little importance for their cost go until the cost is at most ``limit``.

    ``scores`` has the importance of each unit. Then what was cut too much, because channels go
    in multiples, comes back, the most important first.
    """
    ranked = [group[np.argsort(-scores[group], kind="stable")] for group in units.groups]
    summed = [np.concatenate([[0.0], np.cumsum(scores[group])]) for group in ranked]
    counts = np.array([len(group) for group in ranked], np.int64)
    while (excess := prices.excess(counts[:, None], limit)[0]) > 0:
        lower = bounds.below(counts)
        able = np.flatnonzero(lower >= bounds.floors)
        if not len(able):
            return Choice(kept=_kept(units, ranked, counts), met=False)
        tried = np.repeat(counts[:, None], len(able), 1)
        tried[able, np.arange(len(able))] = lower[able]
        saved = excess - prices.excess(tried, limit)
        lost = np.array([summed[g][counts[g]] - summed[g][lower[g]] for g in able])
        price = np.where(saved > 0, lost / np.maximum(saved, 1e-12), np.inf)
        best = int(able[np.argmin(price if saved.max() > 0 else lost)])
        counts[best] = lower[best]
    return Choice(
        kept=_kept(units, ranked, _filled(counts, summed, prices, limit, bounds)), met=True
    )


def _filled(
    counts: Counts,
    summed: list[NDArray[np.float64]],
    prices: Prices,
    limit: float,
    bounds: Bounds,
) -> Counts:
    """As many units back as fit, those that matter most first."""
    sizes = np.array([len(s) - 1 for s in summed], np.int64)
    while True:
        more = np.minimum(sizes, (counts // bounds.multiple + 1) * bounds.multiple)
        best, gained = -1, 0.0
        for g in np.flatnonzero(more > counts):
            trial = counts.copy()
            trial[g] = more[g]
            gain = float(summed[g][more[g]] - summed[g][counts[g]])
            if gain > gained and prices.total(trial) <= limit:
                best, gained = int(g), gain
        if best < 0:
            return counts
        counts = counts.copy()
        counts[best] = more[best]


def _kept(units: Units, ranked: list[NDArray[np.int64]], counts: Counts) -> NDArray[np.bool_]:
    kept = np.ones(units.count, bool)
    for group, count in zip(ranked, counts, strict=True):
        kept[group[count:]] = False
    return kept


class Budget:
    """A share of what a model costs, measured on the exported model where ``costing`` can."""

    def __init__(self, model: Any, units: Units, of: Of, costing: Costing | None) -> None:
        self.of, self.costing = of, costing
        self.before = self.now = self.cost(model, units)

    def cost(self, model: Any, units: Units) -> float:
        """What a model costs; by its channels alone where no export measures it."""
        if self.costing is None:
            return prices(units, self.of).total(_all(units))
        found = self.costing(model)
        figures = {
            "macs": found.cost.macs,
            "params": found.cost.params,
            "bytes": found.size_bytes,
            "arena": found.arena_bytes,
        }
        return float(figures[self.of])

    def choice(
        self, units: Units, scores: NDArray[np.float64], share: float, bounds: Bounds
    ) -> Choice:
        """What stays of the model measured last, so that its cost is ``share`` of the first's."""
        known = prices(units, self.of)
        limit = share * self.before
        apart = self.now - known.total(_all(units))  # what no channel counts in
        tried = limit - apart
        for attempt in range(TRIES):
            found = choose(units, scores, known, tried, bounds)
            if not found.met or self.costing is None:
                return found
            over = self.cost(cut_model(units, found.kept), units) - limit
            if over <= 0:
                return found
            tried -= over * 2**attempt
        return replace(found, met=False)

    def measure(self, model: Any, units: Units) -> None:
        """Note what the model costs now."""
        self.now = self.cost(model, units)


def _all(units: Units) -> Counts:
    return np.array([len(group) for group in units.groups], np.int64)
