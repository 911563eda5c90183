"""What passes ask of Keras layers: their weights by name, their kind, their channel axes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose")
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
DENSE = ("Dense",)
KERNELS = (*CONVOLUTIONS, *DEPTHWISE, *DENSE)
"""Kinds of layers with one weight called ``kernel``."""
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")


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


def weights(layer: Any) -> tuple[str, ...]:
    """The names of a layer's weights that multiply activations; none for other kinds."""
    if kind(layer) in SEPARABLE:
        return ("depthwise_kernel", "pointwise_kernel")
    return ("kernel",) if kind(layer) in KERNELS else ()


def is_depthwise(layer: Any, name: str = "kernel") -> bool:
    """Whether each output channel of that weight sees one input channel only."""
    return kind(layer) in DEPTHWISE or name == "depthwise_kernel"


def operator(layer: Any, name: str = "kernel") -> str:
    """The operator of a flatbuffer that multiplies by that weight."""
    if is_depthwise(layer, name):
        return "DEPTHWISE_CONV_2D"
    if kind(layer).endswith("Transpose"):
        return "TRANSPOSE_CONV"
    return "FULLY_CONNECTED" if kind(layer) in DENSE else "CONV_2D"


def channel_axes(layer: Any, name: str = "kernel") -> tuple[int, ...]:
    """The axes of a weight that number output channels.

    Convolution and Dense: the last. Transposed: the one before it. Depthwise: the last two.
    """
    rank = len(variable(layer, name).shape)
    if is_depthwise(layer, name):
        return (rank - 2, rank - 1)
    if kind(layer) in ("Conv1DTranspose", "Conv2DTranspose"):
        return (rank - 2,)
    return (rank - 1,)


def shared_axes(layer: Any, name: str = "kernel", alike: Collection[str] = ()) -> tuple[int, ...]:
    """The axes of a weight along which one step is shared: those of an output channel.

    All, where the layer's operator is in ``alike``.
    """
    rank = len(variable(layer, name).shape)
    if operator(layer, name) in alike:
        return tuple(range(rank))
    return tuple(axis for axis in range(rank) if axis not in channel_axes(layer, name))
