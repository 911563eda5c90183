"""Weights of few bits: a scale per channel by least squared error, and biases that make up for it.

Rounding weights shifts each output channel by the mean of (rounded - weight) · input. At 4 bits
that shift is most of the error, and it can be known beforehand: the mean input of each channel
is seen while calibrating, and the bias takes the shift away. On ResNet8 that divides the error of
int4 by three (docs/decisions/0007-quantisation.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.export import flatbuffer
from edgepack.export.plan import Assigned
from edgepack.graph.constants import values
from edgepack.graph.parse import parse
from edgepack.graph.types import Operator, Subgraph

CHANNEL_AXIS = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": 3}
BITS = {"int8": 8, "int4": 4}
FOUR_BITS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
EMPTY = 4096
"""A channel whose largest weight is so many times smaller than the tensor's counts as empty."""
SHRINKS = np.linspace(1.0, 0.3, 36)
Floats = NDArray[np.float64]


def prepared(
    content: bytes,
    plan: Sequence[Assigned],
    means: Mapping[str, Floats],
    per_tensor: Collection[str] = (),
) -> tuple[bytes, dict[str, Floats]]:
    """(``content`` with corrected biases, largest magnitude per weight channel by tensor name).

    ``means`` is, by the name of an operator's input tensor, the mean of each of its channels
    over the calibration data. The magnitudes, of the shape that broadcasts over the weights,
    are given where they are not the weights' own: of 4 bits, and of channels that are all but
    empty.
    """
    main, tree = parse(content, "model").main, flatbuffer.unpacked(content)
    found: dict[str, Floats] = {}
    for operator, step in zip(main.operators, plan, strict=True):
        bits = weight_bits(step)
        if not bits or not main.tensors[operator.inputs[1]].constant:
            continue
        tensor = main.tensors[operator.inputs[1]]
        stored = values(tensor).astype(np.float64)
        axis = None if operator.name in per_tensor else CHANNEL_AXIS[operator.name]
        rounded, largest = best_rounding(stored, axis, bits)
        if bits < 8 or _raised(stored, largest):
            found[tensor.name] = largest
        mean = means.get(main.tensors[operator.inputs[0]].name)
        if mean is not None and _own_bias(main, operator):
            change = shift(rounded - stored, mean, operator.name)
            buffer = tree.buffers[main.tensors[operator.inputs[2]].buffer]
            bias = np.asarray(buffer.data, np.uint8).view(np.float32)
            buffer.data = (bias - change).astype(np.float32).view(np.uint8)
    return flatbuffer.packed(tree), found


def weight_bits(step: Assigned) -> int:
    """How many bits the weights of an operator get; 0 where they stay floats."""
    if step.op not in CHANNEL_AXIS:
        return 0
    return 8 if step.scheme == "int4" and step.op not in FOUR_BITS else BITS.get(step.scheme, 0)


def best_rounding(weights: Floats, axis: int | None, bits: int) -> tuple[Floats, Floats]:
    """(weights rounded to symmetric ``bits``, the largest magnitude of each channel's range).

    Below 8 bits a channel's range is drawn in to the least squared error, never beyond what
    min-max would have; at 8 bits it is min-max's. A channel that is all but empty, as pruning
    leaves them, gets 1/4096 of the largest one's, or 1 where all are empty: with a scale of its
    own, its bias would not fit 32 bits, and XNNPACK computes other channels wrong.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    own = np.abs(weights).max(others, keepdims=True)
    whole = np.maximum(own, max(float(own.max(initial=0.0)) / EMPTY, 1e-12))
    whole = whole if own.any() else np.ones_like(whole)
    top = 2 ** (bits - 1) - 1
    low = -top if bits == 8 else -top - 1

    def rounded(largest: Floats) -> Floats:
        step = largest / top
        made: Floats = np.clip(np.rint(weights / step), low, top) * step
        return made

    best, chosen = rounded(whole), whole
    if bits < 8:
        least = ((best - weights) ** 2).sum(others, keepdims=True)
        for shrink in SHRINKS[1:]:
            made = rounded(whole * shrink)
            error = ((made - weights) ** 2).sum(others, keepdims=True)
            best = np.where(error < least, made, best)
            chosen = np.where(error < least, whole * shrink, chosen)
            least = np.minimum(error, least)
    return best, chosen


def _raised(weights: Floats, largest: Floats) -> bool:
    """Whether a channel's range is wider than its weights."""
    others = tuple(i for i, size in enumerate(largest.shape) if size == 1)
    return bool((np.abs(weights).max(others, keepdims=True) < largest).any())


def shift(change: Floats, mean: Floats, op: str) -> Floats:
    """What a change of weights adds to each output channel on average, for channel means."""
    if op == "DEPTHWISE_CONV_2D":
        channels = change.shape[3]
        added: Floats = change.sum((0, 1, 2)) * np.repeat(mean, channels // len(mean))
        return added
    flat = change.reshape(len(change), -1, len(mean))
    total: Floats = flat.sum(1) @ mean
    return total


def inputs_of(main: Subgraph) -> dict[str, tuple[int, int]]:
    """Name → (index, channels) of the tensors whose channel means ``prepared`` uses."""
    found = {}
    for operator in main.operators:
        if operator.name in CHANNEL_AXIS and _own_bias(main, operator):
            weights, fed = (main.tensors[operator.inputs[i]] for i in (1, 0))
            channels = fed.shape[-1] if operator.name == "DEPTHWISE_CONV_2D" else weights.shape[-1]
            if weights.constant and weights.elements and channels:
                found[fed.name] = (fed.index, channels)
    return found


def _own_bias(main: Subgraph, operator: Operator) -> bool:
    """Whether the operator has a float bias that no other operator shares."""
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return False
    bias = main.tensors[operator.inputs[2]]
    users: list[Any] = [
        other
        for other in main.operators
        for index in other.inputs
        if index >= 0 and main.tensors[index].buffer == bias.buffer
    ]
    return bias.constant and bias.dtype == "float32" and len(users) == 1
