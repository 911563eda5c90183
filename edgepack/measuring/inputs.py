"""Inputs where nobody gave any: smooth and seeded, so that a model does not degenerate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.graph.values import quantised
from edgepack.records import TensorSpec

KNOTS = 8
"""At most so many independent values along an axis; between them the field is linear."""


def smooth_inputs(specs: Sequence[TensorSpec], count: int, seed: int) -> list[NDArray[Any]]:
    """``count`` stacked samples for each input, (count, *shape) in its dtype.

    Uniform noise would give most models one and the same output. Real values are 0 to 1;
    quantised inputs use their whole range; integers that are no quantised values (tokens,
    lengths) are 0 or 1; a dimension that is open has the size 1. Raises DataError for a dtype
    that no such number has.
    """
    rng = np.random.default_rng(seed)
    return [_stack(spec, count, rng) for spec in specs]


def _stack(spec: TensorSpec, count: int, rng: np.random.Generator) -> NDArray[Any]:
    shape = tuple(max(1, size) for size in spec.shape)
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise _no_inputs(spec) from error
    fields = np.stack([smooth_field(shape, rng) for _ in range(count)])
    if dtype.kind in "fc":
        return fields.astype(dtype)
    if dtype.kind == "b":
        return fields > 0.5
    if dtype.kind not in "iu":
        raise _no_inputs(spec)
    if not quantised(spec):
        return np.rint(fields).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -(2**15)), min(limits.max, 2**16 - 1)
    return np.rint(low + fields * (high - low)).astype(dtype)


def smooth_field(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """One field of ``shape`` in [0, 1] that changes slowly along each axis."""
    knots = tuple(min(size, KNOTS, max(2, math.ceil(size / 4))) for size in shape)
    field = rng.random(knots)
    for axis, (coarse, size) in enumerate(zip(knots, shape, strict=True)):
        places = np.linspace(0, coarse - 1, size)
        left = np.minimum(places.astype(int), max(0, coarse - 2))
        weight = (places - left).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        right = np.minimum(left + 1, coarse - 1)
        field = field.take(left, axis) * (1 - weight) + field.take(right, axis) * weight
    return field


def _no_inputs(spec: TensorSpec) -> DataError:
    return DataError(
        f"no inputs can be made up for '{spec.name}' of type {spec.dtype}",
        "give real ones with --inputs FILE.npz",
    )
