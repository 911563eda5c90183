"""Channels that a BatchNormalization turns round, turned round once and for all.

A converter folds a BatchNormalization's scale into the weights before it. A negative one would
negate a channel, and with it the palette that all channels share.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from edgepack.passes.layers import channel_axes, has, kind, values, variable, weights
from edgepack.passes.network import read


def orient(model: Any, names: Collection[str]) -> None:
    """Make the scales ≥ 0 of each BatchNormalization behind the layers with these names, in place.

    Weights, bias and moving mean are negated with the scale: the model computes the same.
    """
    network = read(model)
    for call in network.calls:
        if call.name not in names or network.uses[id(call.layer)] > 1:
            continue
        consumers = network.consumers.get(call.output, ())
        if len(consumers) != 1 or call.output in network.ends or not _linear(call.layer):
            continue
        norm = consumers[0].layer
        if kind(norm) != "BatchNormalization" or network.uses[id(norm)] > 1:
            continue
        if has(norm, "gamma") and _last_axis(norm, len(call.shapes[0])):
            _turn(call.layer, norm)


def _linear(layer: Any) -> bool:
    found = getattr(layer, "activation", None)
    return found is None or getattr(found, "__name__", "") == "linear"


def _last_axis(norm: Any, rank: int) -> bool:
    return norm.axis in (-1, rank - 1)


def _turn(layer: Any, norm: Any) -> None:
    sign = np.where(values(norm, "gamma") < 0, -1.0, 1.0).astype(np.float32)
    if (sign > 0).all():
        return
    name = weights(layer)[-1]
    kernel = values(layer, name)
    shape = [1] * kernel.ndim
    for axis in channel_axes(layer, name):
        shape[axis] = kernel.shape[axis]
    variable(layer, name).assign(kernel * sign.reshape(shape))
    turned = [(norm, "gamma"), (norm, "moving_mean")]
    turned += [(layer, "bias")] if has(layer, "bias") else []
    for owner, found in turned:
        variable(owner, found).assign(values(owner, found) * sign)
