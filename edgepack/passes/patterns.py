"""Which weights of a sparse layer stay: pure arithmetic on magnitudes.

A weight is seen as the matrix of its GEMM, one row an output channel, the columns in the order in
which a runtime reads them: ``matrix`` and ``tensor`` go there and back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item", bound=np.generic)
Pattern = Literal["unstructured", "2:4", "block"]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SLACK = 1e-9
"""Of a weight: so that 0.75 of 400 is 300, whatever the fraction's last bit."""
LEFT = 0.01
"""A ranking over all layers leaves each at least this share of its weights, so that none dies."""
LAST = 1e300


def matrix(values: NDArray[Item], axes: Sequence[int]) -> NDArray[Item]:
    """A weight of any shape as [output channel, reduction]; ``axes`` number output channels.

    The input channel runs fastest along the reduction.
    """
    count = math.prod(values.shape[axis] for axis in axes)
    return np.moveaxis(values, axes, range(len(axes))).reshape(count, -1)


def tensor(rows: NDArray[Item], shape: Sequence[int], axes: Sequence[int]) -> NDArray[Item]:
    """What ``matrix`` made, back in the weight's shape."""
    others = [size for axis, size in enumerate(shape) if axis not in axes]
    unfolded = rows.reshape([*(shape[axis] for axis in axes), *others])
    return np.ascontiguousarray(np.moveaxis(unfolded, range(len(axes)), axes))


def kept(
    magnitudes: Sequence[Floats],
    sparsity: float,
    *,
    pattern: Pattern = "unstructured",
    block: tuple[int, int] = (1, 1),
    together: bool = False,
) -> list[Bools]:
    """Which weights of each matrix [output channel, reduction] stay: the largest magnitudes.

    At least the fraction ``sparsity`` is left out, of each matrix or, with ``together``, of all
    of them in one ranking; never more than one unit beyond. A unit is a weight or a block:
    ``block`` is (neighbours along the reduction, neighbouring output channels), smaller at the
    edges; its mean counts. In 2:4 the larger 2 of each group of 4 along the reduction stay, of
    a last group of 1, 2 or 3 the larger 0, 1 or 1; a ``sparsity`` below a half leaves out only
    the smallest of the others.
    """
    if pattern == "2:4" and sparsity >= 0.5:
        return [_larger_half(found) for found in magnitudes]
    if not magnitudes:
        return []
    units = [_blocks(found.shape, block if pattern == "block" else (1, 1)) for found in magnitudes]
    sizes = [np.bincount(unit.reshape(-1)) for unit in units]
    scores = [
        np.bincount(unit.reshape(-1), weights=found.reshape(-1)) / size
        for unit, found, size in zip(units, magnitudes, sizes, strict=True)
    ]
    if pattern == "2:4":
        scores = [
            np.where(_larger_half(found).reshape(-1), np.inf, found.reshape(-1))
            for found in magnitudes
        ]
    elif together:
        scores = [_guarded(score, sparsity) for score in scores]
    if together:
        removed = _lowest(np.concatenate(scores), np.concatenate(sizes), sparsity)
        parts = np.split(removed, np.cumsum([len(score) for score in scores])[:-1])
    else:
        parts = [_lowest(a, b, sparsity) for a, b in zip(scores, sizes, strict=True)]
    return [~part[unit] for part, unit in zip(parts, units, strict=True)]


def polynomial(done: float, *, initial: float, final: float, power: float = 3.0) -> float:
    """The sparsity after the fraction ``done`` (0 to 1) of the ramp (Zhu & Gupta 2017)."""
    left = 1.0 - min(max(done, 0.0), 1.0)
    return final + (initial - final) * float(left**power)


def _lowest(scores: Floats, sizes: NDArray[np.int64], sparsity: float) -> Bools:
    """The units with the lowest scores that make up the fraction; those at infinity stay."""
    wanted = math.ceil(sparsity * int(sizes.sum()) - SLACK)
    order = np.argsort(scores, kind="stable")
    count = int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1 if wanted > 0 else 0
    removed = np.zeros(len(scores), bool)
    removed[order[:count]] = True
    return removed & np.isfinite(scores)


def _guarded(scores: Floats, sparsity: float) -> Floats:
    """The scores with the best few raised, so that they are the last to go."""
    count = max(1, min(math.ceil(LEFT * len(scores)), math.floor((1 - sparsity) * len(scores))))
    made = scores.copy()
    made[np.argsort(-scores, kind="stable")[:count]] = LAST
    return made


def _blocks(shape: tuple[int, ...], block: tuple[int, int]) -> NDArray[np.int64]:
    """The number of each weight's block in a matrix [output channel, reduction]."""
    rows = np.arange(shape[0]) // min(block[1], shape[0])
    columns = np.arange(shape[1]) // min(block[0], shape[1])
    found: NDArray[np.int64] = rows[:, None] * (columns[-1] + 1) + columns
    return found


def _larger_half(found: Floats) -> Bools:
    """The larger 2 of each group of 4 along the rows; of a shorter last one half, rounded down."""
    rows, columns = found.shape
    whole = columns // 4 * 4
    stay = np.zeros(found.shape, bool)
    for part, width in ((slice(0, whole), 4), (slice(whole, columns), columns - whole)):
        if found[:, part].size:
            grouped = found[:, part].reshape(rows, -1, width)
            larger = np.argsort(-grouped, axis=-1, kind="stable")[..., : width // 2]
            chosen = np.zeros(grouped.shape, bool)
            np.put_along_axis(chosen, larger, True, axis=-1)
            stay[:, part] = chosen.reshape(rows, -1)
    return stay
