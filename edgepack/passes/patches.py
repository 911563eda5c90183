"""A convolution or Dense layer as matrix products, on some positions of its outputs.

The matrices are (groups, inputs, outputs): Dense and plain convolutions are one group, a
depthwise convolution one a channel. Rows are (rows, groups, inputs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.layers import DEPTHWISE, kind

Floats = NDArray[np.float32]
MATRICES = ("Dense", "Conv1D", "Conv2D", *DEPTHWISE)
"""The kinds of layers that are matrix products."""


def refusal(layer: Any) -> str:
    """Why a layer's patches cannot be taken; empty where they can."""
    if kind(layer) not in MATRICES:
        return f"{kind(layer)} is not supported, only {', '.join(MATRICES)} are"
    if kind(layer) != "Dense" and layer.data_format != "channels_last":
        return "its channels come first"
    return ""


def matrices(layer: Any, kernel: NDArray[Any]) -> NDArray[Any]:
    """The kernel as (groups, inputs, outputs)."""
    if kind(layer) in DEPTHWISE:
        return np.moveaxis(kernel.reshape(-1, *kernel.shape[-2:]), 0, 1)
    groups = getattr(layer, "groups", 1)
    flat = kernel.reshape(-1, groups, kernel.shape[-1] // groups)
    return np.moveaxis(flat, 0, 1)


def kernel_of(layer: Any, made: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """The kernel of a shape from ``matrices``."""
    return np.moveaxis(made, 1, 0).reshape(shape)


def positions(layer: Any, shape: Sequence[int], count: int, rng: np.random.Generator) -> Any:
    """``count`` positions of the output for an input of ``shape`` (samples first), drawn."""
    if kind(layer) == "Dense":
        limits = shape[:-1]
    else:
        limits = (shape[0], *(size for size, _, _ in _spans(layer, shape)))
    return tuple(rng.integers(0, limit, count) for limit in limits)


def rows(layer: Any, x: Floats, chosen: Any) -> Floats:
    """What enters each group at the chosen positions: (rows, groups, inputs)."""
    if kind(layer) == "Dense":
        made: Floats = x[chosen][:, None, :]
        return made
    spans = _spans(layer, x.shape)
    padded = np.pad(x, [(0, 0), *((before, after) for _, before, after in spans), (0, 0)])
    rank, count = len(spans), len(chosen[0])
    index: list[Any] = [chosen[0].reshape(count, *[1] * rank)]
    for axis in range(rank):
        reach = np.arange(layer.kernel_size[axis]) * layer.dilation_rate[axis]
        place = chosen[axis + 1].reshape(count, *[1] * rank) * layer.strides[axis]
        index.append(place + reach.reshape([-1 if a == axis else 1 for a in range(rank)]))
    taken: Floats = padded[tuple(index)].reshape(count, -1, x.shape[-1])
    if kind(layer) in DEPTHWISE:
        return np.moveaxis(taken, 1, 2)
    groups = layer.groups
    split = taken.reshape(count, taken.shape[1], groups, -1)
    return np.moveaxis(split, 2, 1).reshape(count, groups, -1)


def _spans(layer: Any, shape: Sequence[int]) -> list[tuple[int, int, int]]:
    """(outputs, zeros before, zeros after) along each spatial axis of an input."""
    found = []
    for axis, size in enumerate(shape[1:-1]):
        stride = layer.strides[axis]
        reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis]
        if layer.padding == "same":
            outputs = -(-size // stride)
            zeros = max((outputs - 1) * stride + reach + 1 - size, 0)
            found.append((outputs, zeros // 2, zeros - zeros // 2))
        else:
            before = reach if layer.padding == "causal" else 0
            found.append(((size + before - reach - 1) // stride + 1, before, 0))
    return found
