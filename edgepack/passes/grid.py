"""The grids that exports round weights to: symmetric, one step for each output channel.

A channel's step is its largest magnitude over the largest integer. So weights that lie on their
grid, the largest at the end of it, stay where they are in the export.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import SpecError
from edgepack.passes.layers import is_depthwise, kind

SCHEME_BITS = {"int8": 8, "int16x8": 8, "dynamic": 8, "mixed": 8, "int4": 4}
SHRINKS = np.linspace(1.0, 0.3, 36)
Floats = NDArray[np.float64]


def bits_of(layer: Any, scheme: str, name: str = "kernel") -> int:
    """How many bits the export gives a layer's weight; int4 leaves some kinds at 8.

    Raises SpecError for a scheme that keeps weights floats.
    """
    if scheme not in SCHEME_BITS:
        raise SpecError(
            f"a {scheme} export rounds no weights",
            f"export in {', '.join(SCHEME_BITS)}, or give the step's option bits",
        )
    if is_depthwise(layer, name) or kind(layer).endswith("Transpose"):
        return 8
    return SCHEME_BITS[scheme]


def largest_integer(bits: int) -> int:
    """127 of 8 bits, 7 of 4: the grids have no integer below its negative."""
    return int(2 ** (bits - 1) - 1)


def steps(weights: Floats, axes: Sequence[int], bits: int) -> Floats:
    """The step of each output channel, of the shape that broadcasts; ``axes`` share one.

    Of 8 bits the whole range; of fewer, that with the least squared error.
    """
    top = largest_integer(bits)
    whole: Floats = np.maximum(np.abs(weights).max(tuple(axes), keepdims=True), 1e-30) / top
    if bits >= 8:
        return whole
    best, least = whole, np.full(whole.shape, np.inf)
    for shrink in SHRINKS:
        error = (on_grid(weights, whole * shrink, bits) - weights) ** 2
        total = error.sum(tuple(axes), keepdims=True)
        best = np.where(total < least, whole * shrink, best)
        least = np.minimum(total, least)
    return best


def on_grid(weights: Floats, step: Floats, bits: int) -> Floats:
    """The weights rounded to the nearest point of their grid."""
    top = largest_integer(bits)
    made: Floats = np.clip(np.rint(weights / step), -top, top) * step
    return made
