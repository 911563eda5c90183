"""What passes ask of Keras layers: their weights by name, their kind, their channel axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose")
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
DENSE = ("Dense",)
KERNELS = (*CONVOLUTIONS, *DEPTHWISE, *DENSE)
"""Kinds of layers with one weight called ``kernel``."""


def kind(layer: Any) -> str:
    """The Keras class that a layer is, or that edgepack's own layer stands for."""
    return str(getattr(layer, "edgepack_kind", type(layer).__name__))


def variable(layer: Any, name: str = "kernel") -> Any:
    """The layer's variable with that name. Raises KeyError."""
    for found in layer.weights:
        if found.name == name:
            return found
    raise KeyError(f"{layer.name} has no weight '{name}'")


def values(layer: Any, name: str = "kernel") -> NDArray[np.float32]:
    """A copy of the weight's values."""
    return np.array(variable(layer, name).numpy(), np.float32)


def has(layer: Any, name: str = "kernel") -> bool:
    """Whether the layer has a weight with that name."""
    return any(found.name == name for found in layer.weights)


def channel_axes(layer: Any) -> tuple[int, ...]:
    """The axes of ``kernel`` that number output channels.

    Convolution and Dense: the last. Transposed: the one before it. Depthwise: the last two.
    """
    rank = len(variable(layer).shape)
    if kind(layer) in DEPTHWISE:
        return (rank - 2, rank - 1)
    if kind(layer) in ("Conv1DTranspose", "Conv2DTranspose"):
        return (rank - 2,)
    return (rank - 1,)


def shared_axes(layer: Any) -> tuple[int, ...]:
    """The axes of ``kernel`` along which an output channel's weights lie."""
    rank = len(variable(layer).shape)
    return tuple(axis for axis in range(rank) if axis not in channel_axes(layer))
