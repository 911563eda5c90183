"""Batch normalisation into kernels, where fake-quant nodes kept the converter from folding it.

A product and a sum with constants of one value an output channel scale the channel's weights,
their steps and its bias: the integers stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.export import flatbuffer
from edgepack.export.stripping import Kernel, Stripped

AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
WEIGHTS = {"TRANSPOSE_CONV": 1}
BIASES = {"TRANSPOSE_CONV": 3}


def fold(file: Stripped) -> None:
    """Fold every MUL, ADD and SUB of constants that follows a fake-quantised kernel, in place."""
    graph = file.graph
    for operator in list(graph.operators):
        name = flatbuffer.operator_name(file.tree, operator)
        if name in AXES and int(operator.inputs[WEIGHTS.get(name, 1)]) in file.kernels:
            while _fold_next(file, operator, name):
                pass


def _fold_next(file: Stripped, operator: Any, name: str) -> bool:
    """Fold the operator's only consumer into it, if it is such a one."""
    made = int(operator.outputs[0])
    if made in file.ranges or made in [int(i) for i in file.graph.outputs]:
        return False
    after = [o for o in file.graph.operators if made in [int(i) for i in o.inputs]]
    if len(after) != 1 or operator.builtinOptions.fusedActivationFunction:
        return False
    factor = _factor(file, after[0], made, name, operator)
    if factor is None:
        return False
    scale, offset = factor
    place = WEIGHTS.get(name, 1)
    index = int(operator.inputs[place])
    kernel = file.kernels[index]
    shape = [1] * kernel.values.ndim
    shape[AXES[name]] = -1
    across = scale.reshape(shape).astype(np.float32)
    folded = Kernel(
        values=kernel.values * across, steps=kernel.steps * np.abs(across), top=kernel.top
    )
    if (scale != 1).any():
        new = file.added(folded.values, f"{file.name(index)}_folded_{made}")
        file.kernels[new] = folded
        operator.inputs[place] = new
    _set_bias(file, operator, name, _bias(file, operator, name, len(scale)) * scale + offset)
    operator.outputs = after[0].outputs
    options = after[0].builtinOptions
    operator.builtinOptions.fusedActivationFunction = options.fusedActivationFunction
    file.graph.operators = [o for o in file.graph.operators if o is not after[0]]
    return True


def _factor(
    file: Stripped, after: Any, made: int, name: str, operator: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """(scale, offset) of each output channel; None where the consumer is something else."""
    what = flatbuffer.operator_name(file.tree, after)
    if what not in ("MUL", "ADD", "SUB"):
        return None
    if name == "TRANSPOSE_CONV" and after.builtinOptions.fusedActivationFunction:
        return None  # few kernels of it end in an activation
    first, second = (int(i) for i in after.inputs)
    if what == "SUB" and first != made:
        return None
    values = file.constant(second if first == made else first)
    kernel = file.kernels[int(operator.inputs[WEIGHTS.get(name, 1)])]
    channels = kernel.values.shape[AXES[name]]
    if values is None or values.dtype != np.float32:
        return None
    if values.size not in (1, channels) or (values.ndim and values.size != values.shape[-1]):
        return None
    each = np.broadcast_to(values.reshape(-1), (channels,)).astype(np.float32)
    if what == "MUL":
        return each, np.zeros_like(each)
    return np.ones_like(each), each if what == "ADD" else -each


def _bias(file: Stripped, operator: Any, name: str, channels: int) -> Any:
    place = BIASES.get(name, 2)
    if place >= len(operator.inputs) or operator.inputs[place] < 0:
        return np.zeros(channels, np.float32)
    found = file.constant(int(operator.inputs[place]))
    return np.zeros(channels, np.float32) if found is None else found


def _set_bias(file: Stripped, operator: Any, name: str, values: Any) -> None:
    place = BIASES.get(name, 2)
    inputs = [int(i) for i in operator.inputs]
    inputs += [-1] * (place + 1 - len(inputs))
    inputs[place] = file.added(
        values, f"{file.name(int(operator.outputs[0]))}_bias_{len(file.graph.tensors)}"
    )
    operator.inputs = np.array(inputs, np.int32)
