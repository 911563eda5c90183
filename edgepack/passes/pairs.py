"""Pairs of layers between which a positive scale per channel can be moved.

``first`` is divided by it channel by channel at its output, ``second`` multiplied at its input;
what lies between lets it through: ReLU, pooling, padding, flattening.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.constraints import Constraint, Mask, Palette, Signs
from edgepack.passes.fold import plain
from edgepack.passes.layers import is_depthwise, kind, variable, weights
from edgepack.passes.network import Call, Network

Floats = NDArray[np.float64]
THROUGH = (
    "LeakyReLU", "PReLU", "MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
    "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D",
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "Identity", "Flatten",
)  # fmt: skip
"""Layers through which a positive scale per channel goes unchanged."""
STRAIGHT = ("linear", "relu", "leaky_relu")
CUT = "relu6"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The calls of both layers; ``cuts`` are the calls whose activation is ReLU6."""

    first: Call
    second: Call
    cuts: tuple[Call, ...] = ()


def pairs(
    network: Network, select: Callable[[Any], bool], constraints: Sequence[Constraint]
) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs in the graph's order, and each layer that is the first of none with the reason."""
    found: list[Pair] = []
    skipped: list[tuple[str, str]] = []
    for call in network.calls:
        if weights(call.layer) and not any(name == call.name for name, _ in skipped):
            pair = _pair(network, call, select, constraints)
            if isinstance(pair, Pair):
                found.append(pair)
            else:
                skipped.append((call.name, pair))
    return found, skipped


def entry(layer: Any) -> str:
    """The name of the weight that multiplies a layer's input."""
    return weights(layer)[0]


def by_input(layer: Any, kernel: NDArray[Any], channels: int) -> NDArray[Any]:
    """A view of ``entry``'s values whose axis 1 is the input's channels, the last of a Flatten."""
    shape = kernel.shape
    if kind(layer).endswith("Transpose"):
        return kernel.reshape(-1, shape[-1], 1)
    return kernel.reshape(-1, channels, shape[-1])


def outputs(layer: Any) -> int:
    """How many output channels a layer has."""
    if hasattr(layer, "filters") and layer.filters is not None:
        return int(layer.filters)
    shape = variable(layer, entry(layer)).shape
    return int(shape[-1] * shape[-2] if is_depthwise(layer, entry(layer)) else shape[-1])


def _pair(
    network: Network,
    first: Call,
    select: Callable[[Any], bool],
    constraints: Sequence[Constraint],
) -> Pair | str:
    """The pair that starts with a call, or why there is none."""
    if why := _odd(network, first, select):
        return f"it {why}"
    for constraint in constraints:
        if constraint.layer == first.name and _spans(constraint):
            return (
                "its palette spans channels, or its signs do, which a scale per channel would break"
            )
    pair, call = Pair(first=first, second=first), first
    while True:
        found = _bends(call)
        if found is None:
            return f"the activation of {call.name} does not let a scale through"
        if found == CUT:
            pair = replace(pair, cuts=(*pair.cuts, call))
        users = network.consumers.get(call.output, ())
        if call.output in network.ends:
            return "the model returns what it makes"
        if len(users) != 1 or len(users[0].inputs) != 1:
            where = users[0].name if len(users) == 1 else f"{len(users)} layers"
            return f"what it makes goes to {where}, with others or apart"
        call = users[0]
        if network.uses.get(id(call.layer), 1) > 1:
            return f"{call.name} after it is shared"
        if weights(call.layer):
            return _closed(network, replace(pair, second=call), select, constraints)
        if kind(call.layer) not in (*THROUGH, "ReLU", "Activation"):
            return f"{call.name} after it, a {kind(call.layer)}, does not let a scale through"


def _closed(
    network: Network,
    pair: Pair,
    select: Callable[[Any], bool],
    constraints: Sequence[Constraint],
) -> Pair | str:
    """The pair, if its second layer can take the scale."""
    second = pair.second
    if why := _odd(network, second, select):
        return f"{second.name} after it {why}"
    if getattr(second.layer, "groups", 1) > 1:
        return f"{second.name} after it is grouped"
    for constraint in constraints:
        if constraint.layer != second.name or constraint.weight != entry(second.layer):
            continue
        if not isinstance(constraint, Mask) and (
            not is_depthwise(second.layer, constraint.weight) or _spans(constraint)
        ):
            return f"{second.name} after it has a palette or signs, which a scale would break"
    return pair


def _odd(network: Network, call: Call, select: Callable[[Any], bool]) -> str:
    if not plain(call.layer):
        return f"is a {kind(call.layer)} that quantises by itself"
    if not select(call.layer):
        return "is not selected"
    if network.uses[id(call.layer)] > 1:
        return "is shared"
    if getattr(call.layer, "data_format", "channels_last") != "channels_last":
        return "has its channels first"
    return ""


def _bends(call: Call) -> str | None:
    """``straight`` where the call's activation lets a scale through, ReLU6, else None."""
    layer = call.layer
    if kind(layer) == "ReLU":
        if layer.threshold:
            return None
        if layer.max_value is not None:
            return CUT if layer.max_value == 6 and not layer.negative_slope else None
        return "straight"
    activation = getattr(layer, "activation", None)
    if activation is None:
        return "straight"
    name = getattr(activation, "__name__", "")
    if name == CUT:
        return CUT
    return "straight" if name in STRAIGHT else None


def _spans(constraint: Constraint) -> bool:
    """Whether a scale per output channel would break the constraint."""
    if isinstance(constraint, Signs):
        return len(constraint.axes) == len(constraint.signs.shape)
    return isinstance(constraint, Palette) and constraint.axes is None
