"""Which factorisation at which rank: every choice of every layer, and the best within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes import factorise, weighted
from edgepack.passes.factorise import Float

METHODS = ("keep", "svd", "spatial", "tucker")
MOST_TUCKER_RANKS = 24
"""Ranks that are tried of each mode of a Tucker decomposition."""
USUAL = 0.6
"""The share of a layer's weights at which methods are compared on data."""
DIGITS = 1e-9


@dataclass(frozen=True, kw_only=True)
class Places:
    """How often a kernel is applied in one inference, over all calls of its layer.

    ``before`` at each position of the input, ``after`` of the output, ``between`` at each after
    the vertical half of a spatial factorisation.
    """

    before: int
    between: int
    after: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Choices:
    """The rows are ways to keep or factorise one layer; row 0 keeps it as it is.

    ``method`` indexes METHODS. ``ranks`` (rows, 2) has one rank in its first column, or those of
    a Tucker core's inputs and outputs. ``lost`` is the share of the energy that is lost.
    """

    method: NDArray[np.int64]
    ranks: NDArray[np.int64]
    params: NDArray[np.int64]
    macs: NDArray[np.int64]
    lost: Float

    def cost(self, measure: str) -> NDArray[np.int64]:
        """``params`` or ``macs``."""
        return self.params if measure == "params" else self.macs

    def loss(self) -> Float:
        """Minus the logarithm of the energy kept: no layer may lose all of its own."""
        return -np.log(np.clip(1.0 - self.lost, DIGITS, 1.0))


def choices(
    kernel: NDArray[Any],
    places: Places,
    methods: Sequence[str],
    *,
    multiple: int = 1,
    second: Float | None = None,
) -> Choices:
    """All ways that cost less than the layer does, in parameters and in MACs.

    ``multiple`` is what ranks are multiples of, where a layer is wide enough. With the
    ``second`` moment of the patches, what is lost is that of the outputs on data.
    """
    inputs, outputs = kernel.shape[-2:]
    area = int(np.prod(kernel.shape[:-2], dtype=np.int64))
    size = area * inputs * outputs
    parts: list[Any] = [
        (0, np.zeros((1, 2), np.int64), np.array([size]), np.array([size * places.after]), [0.0])
    ]
    if "svd" in methods:
        lost = factorise.tail(weighted.energies(kernel, "svd", second))
        r = _ranks(len(lost) - 1, multiple)
        params = r * (area * inputs + outputs)
        parts.append((1, _single(r), params, params * places.after, lost[r]))
    if "spatial" in methods and kernel.ndim == 4 and min(kernel.shape[:2]) > 1:
        high, wide = kernel.shape[:2]
        lost = factorise.tail(weighted.energies(kernel, "spatial", second))
        r = _ranks(len(lost) - 1, multiple)
        down, right = r * high * inputs, r * wide * outputs
        macs = down * places.between + right * places.after
        parts.append((2, _single(r), down + right, macs, lost[r]))
    if "tucker" in methods and area > 1:
        parts.append(_tucker(kernel, area, places, multiple, second))
    table = Choices(
        method=np.concatenate([np.full(len(part[1]), part[0]) for part in parts]),
        ranks=np.concatenate([part[1] for part in parts]),
        params=np.concatenate([part[2] for part in parts]),
        macs=np.concatenate([part[3] for part in parts]),
        lost=np.concatenate([np.asarray(part[4], np.float64) for part in parts]),
    )
    cheaper = (table.params < table.params[0]) & (table.macs < table.macs[0])
    cheaper[0] = True
    table = _only(table, cheaper)
    return table if second is None else _solved(table, kernel, second)


def _solved(table: Choices, kernel: NDArray[Any], second: Float) -> Choices:
    """The losses of methods without a closed form, by what solving one row of each brings."""
    lost = table.lost.copy()
    for method in (2, 3):
        rows = np.flatnonzero(table.method == method)
        if not len(rows):
            continue
        row = rows[np.argmin(np.abs(table.params[rows] - USUAL * table.params[0]))]
        first, second_rank = table.ranks[row]
        chain = weighted.factors(kernel, METHODS[method], (first, second_rank), second, sweeps=1)
        found = weighted.lost(kernel, weighted.product(chain, METHODS[method]), second)
        lost[rows] *= found / max(float(lost[row]), factorise.TINY)
    return replace(table, lost=lost.clip(0.0, 1.0))


def _tucker(
    kernel: NDArray[Any], area: int, places: Places, multiple: int, second: Float | None
) -> Any:
    inputs, outputs = kernel.shape[-2:]
    kept = weighted.tucker_energies(kernel, second)
    a, b = (
        found.reshape(-1)
        for found in np.meshgrid(
            _thinned(_ranks(inputs, multiple)), _thinned(_ranks(outputs, multiple)), indexing="ij"
        )
    )
    params = inputs * a + area * a * b + b * outputs
    macs = inputs * a * places.before + (area * a * b + b * outputs) * places.after
    lost = 1.0 - kept[a - 1, b - 1] / max(float(kept[-1, -1]), factorise.TINY)
    return 3, np.stack([a, b], 1), params, macs, lost.clip(0.0, 1.0)


def _ranks(full: int, multiple: int) -> NDArray[np.int64]:
    return np.arange(multiple, full + 1, multiple) if full >= multiple else np.arange(1, full + 1)


def _thinned(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(ranks) <= MOST_TUCKER_RANKS:
        return ranks
    return ranks[np.linspace(0, len(ranks) - 1, MOST_TUCKER_RANKS).astype(np.int64)]


def _single(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([ranks, np.zeros_like(ranks)], 1)


def _only(table: Choices, chosen: Any) -> Choices:
    return Choices(
        method=table.method[chosen],
        ranks=table.ranks[chosen],
        params=table.params[chosen],
        macs=table.macs[chosen],
        lost=table.lost[chosen],
    )


def by_energy(table: Choices, energy: float, measure: str) -> int:
    """The cheapest row that keeps that share of the energy."""
    cost = np.where(
        table.lost <= 1.0 - energy + DIGITS, table.cost(measure), np.iinfo(np.int64).max
    )
    return int(np.argmin(cost))


def by_vbmf(table: Choices, kernel: NDArray[Any], measure: str) -> int:
    """The cheapest row of a method at or above the ranks that stand out of the noise.

    Of several methods' the one that keeps most; 0 where none finds a rank, or costs less.
    """
    unfolded = {1: factorise.unfold(kernel)}
    if (table.method == 2).any():
        unfolded[2] = factorise.spatial(kernel)
    least = {method: (factorise.vbmf_rank(matrix), 0) for method, matrix in unfolded.items()}
    if (table.method == 3).any():
        modes = (np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1) for axis in (-2, -1))
        first, second = (factorise.vbmf_rank(matrix) for matrix in modes)
        least[3] = (first, second)
    found = [0]
    for method, (first, second) in least.items():
        fits = (table.method == method) & (table.ranks >= np.array((first, second))).all(1)
        if first and (method != 3 or second) and fits.any():
            cost = np.where(fits, table.cost(measure), np.iinfo(np.int64).max)
            found.append(int(np.argmin(cost)))
    return min(found[1:] or found, key=lambda row: float(table.lost[row]))


def by_budget(tables: Sequence[Choices], budget: int, measure: str) -> list[int]:
    """A row of each layer: together within ``budget``, and of the least loss.

    Rank goes where it brings most energy for its cost: one price for all layers, found by
    bisection, then what is left of the budget is spent on the best single steps. Where even the
    cheapest rows cost more than the budget, those.
    """
    costs = [table.cost(measure).astype(np.float64) for table in tables]
    losses = [table.loss() for table in tables]

    def at(price: float) -> list[int]:
        return [
            int(np.argmin(loss + price * cost)) for cost, loss in zip(costs, losses, strict=True)
        ]

    def total(rows: list[int]) -> float:
        return sum(float(cost[row]) for cost, row in zip(costs, rows, strict=True))

    low, high = -40.0, 5.0
    if total(at(0.0)) <= budget:
        return at(0.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if total(at(np.exp(middle))) <= budget else (middle, high)
    rows = at(np.exp(high))
    while True:
        spare = budget - total(rows)
        best, gain = None, 0.0
        for place, (cost, loss) in enumerate(zip(costs, losses, strict=True)):
            row = rows[place]
            less = np.where(cost - cost[row] <= spare, loss[row] - loss, -1.0)
            other = int(np.argmax(less))
            if less[other] > gain:
                best, gain = (place, other), float(less[other])
        if best is None:
            return rows
        rows[best[0]] = best[1]
