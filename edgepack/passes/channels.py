"""What scaling a layer's output channels does to its kernel and to the constraints on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.constraints import Constraint, Palette, Signs
from edgepack.passes.layers import SEPARABLE, channel_axes, has, kind, shared_axes, variable
from edgepack.passes.network import Call, Clone, Network, rebuild

Floats = NDArray[np.float64]


def kernel_name(layer: Any) -> str:
    """The weight that a layer's output is linear in, and that has its output channels."""
    return "pointwise_kernel" if kind(layer) in SEPARABLE else "kernel"


def over_channels(layer: Any, values: Floats) -> Floats:
    """One value per output channel, shaped to broadcast over the layer's kernel."""
    kernel = variable(layer, kernel_name(layer))
    axes = channel_axes(layer, kernel_name(layer))
    return values.reshape([n if axis in axes else 1 for axis, n in enumerate(kernel.shape)])


def scaled(constraint: Constraint, layer: Any, scale: Floats) -> Constraint:
    """The constraint for the layer's kernel, each output channel times its ``scale``."""
    if isinstance(constraint, Signs):
        alike = np.all(np.abs(scale) == np.abs(scale[0]))
        axes = constraint.axes if alike else shared_axes(layer, constraint.weight)
        turn = over_channels(layer, np.where(scale < 0, -1.0, 1.0)).astype(np.int8)
        return replace(constraint, signs=constraint.signs * turn, axes=axes)
    if not isinstance(constraint, Palette):
        return constraint
    if np.all(scale == scale[0]) and scale[0] > 0:
        return constraint
    if constraint.axes is not None and np.all(scale >= 0):
        return constraint
    return own_palettes(constraint, over_channels(layer, np.arange(len(scale), dtype=np.float64)))


def own_palettes(palette: Palette, channel: Floats) -> Palette:
    """The palette with indices of each channel's own, where they are not yet.

    ``channel`` broadcasts each output channel's number over the weight.
    """
    index = palette.index
    numbers = np.broadcast_to(channel, index.shape).astype(np.int64)[index >= 0]
    pairs = np.unique(np.stack([index[index >= 0], numbers]), axis=1)
    if palette.axes is None and len(np.unique(pairs[0])) == pairs.shape[1]:
        return palette
    codes = index[index >= 0] + numbers * (int(index.max(initial=0)) + 1)
    split = np.full(index.shape, -1, np.int32)
    split[index >= 0] = np.unique(codes, return_inverse=True)[1]
    return replace(palette, index=split, axes=None)


def with_bias(layer: Any, name: str) -> Any:
    """An unbuilt copy of a layer that has a bias."""
    return type(layer).from_config({**layer.get_config(), "use_bias": True, "name": name})


def biased(network: Network, names: Collection[str]) -> Any:
    """A copy of the model in which the layers with these names have a bias, 0 where it is new."""
    made: dict[str, Any] = {}

    def change(call: Call, inputs: Sequence[Any], clone: Clone) -> Any:
        if call.name not in names or has(call.layer, "bias"):
            return None
        if call.name not in made:
            made[call.name] = with_bias(call.layer, call.name)
        return made[call.name](inputs[0])

    model = rebuild(network, change)
    for call in network.calls:
        for weight in call.layer.weights if call.name in made else ():
            variable(made[call.name], weight.name).assign(weight)
    return model
