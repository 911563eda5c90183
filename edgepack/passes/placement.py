"""Where a quantised network rounds its activations: which values of a graph get a range.

One range where an integer operator writes its result: after inputs, after each operator with
what the converter fuses into it (batch normalisation, ReLU, ReLU6), after the joining operator
rather than its branches where values are only concatenated. None where the integer operator
keeps its input's range (pooling, reshaping) or has a fixed one (softmax, sigmoid, tanh); averages
are rounded once more in their input's range, as average pooling does.
"""

from __future__ import annotations

from typing import Any

from edgepack.passes.layers import KERNELS, kind
from edgepack.passes.network import Call, Network, Value

MOVING = frozenset(
    {
        *("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
        *("Flatten", "Reshape", "Permute", "RepeatVector", "Identity"),
        *("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D"),
        *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout"),
        *("GaussianNoise", "GaussianDropout", "ActivityRegularization"),
        *("MaxPool", "Transpose", "ExpandDims", "Squeeze", "GetItem", "Pad", "Split"),
    }
)
"""Kinds whose results are some of their inputs' values, or nothing but zeros beside them."""
MIXING = frozenset(
    {"AveragePooling1D", "AveragePooling2D", "UpSampling1D", "UpSampling2D", "Resizing"}
)
"""Kinds that mix their inputs' values, and whose integer operators keep their input's range."""
SAME = MOVING | MIXING
"""Kinds whose integer operators keep their input's range."""
FIXED = frozenset({"softmax", "sigmoid", "tanh", "log_softmax"})
"""Activations whose integer operators have a range of their own."""
FUSED = frozenset({"linear", "relu", "relu6"})
"""Activations that become a part of the operator before them."""
JOINING = frozenset({"Concatenate"})
FUSING = frozenset(
    {*KERNELS, "Add", "Subtract", "Multiply"} - {"Conv1DTranspose", "Conv2DTranspose"}
)
"""Kinds whose integer operators can end in a ReLU."""
FUNCTIONS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
}


def ranged(network: Network) -> frozenset[Value]:
    """The values of a network that get a range."""
    return frozenset(
        Value(call.index, place)
        for call in network.calls
        for place in range(len(call.shapes))
        if _has_own_range(network, call) and not _covered_later(network, Value(call.index, place))
    )


def source(network: Network, call: Call, places: frozenset[Value]) -> Value | None:
    """The value whose range a mixing call's result is rounded in, too; None for other calls.

    Also None where that range is no layer's own.
    """
    if kind(call.layer) not in MIXING or not call.inputs:
        return None
    value = call.inputs[0]
    while value not in places:
        before = network.producer(value)
        if kind(before.layer) not in SAME or not before.inputs:
            return None
        value = before.inputs[0]
    return value


def function(layer: Any) -> str | None:
    """The activation that a layer or operation is, or applies last; None where it has none."""
    name = kind(layer)
    if name == "ReLU":
        if layer.negative_slope or layer.threshold or layer.max_value not in (None, 6):
            return "other"
        return "relu" if layer.max_value is None else "relu6"
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    found = getattr(layer, "activation", None)
    return None if found is None else str(getattr(found, "__name__", "other"))


def is_activation(layer: Any) -> bool:
    """Whether a layer is an activation and nothing else."""
    return kind(layer) in ("ReLU", "Activation") or kind(layer) in FUNCTIONS


def foldable(network: Network, call: Call) -> bool:
    """Whether a batch normalisation scales a kernel's own output channels."""
    if kind(call.layer) != "BatchNormalization" or len(call.inputs) != 1:
        return False
    before = network.producer(call.inputs[0])
    axis, rank = call.layer.axis, len(call.shapes[0])
    return (
        kind(before.layer) in KERNELS
        and function(before.layer) in (None, "linear")
        and axis in (-1, rank - 1)
        and _only_consumer(network, before.output) is call
    )


def _has_own_range(network: Network, call: Call) -> bool:
    layer = call.layer
    if kind(layer) in SAME:
        return False
    if function(layer) in FIXED and (is_activation(layer) or kind(layer) in KERNELS):
        return False
    return not _fused_into_next(network, call)


def _fused_into_next(network: Network, call: Call) -> bool:
    """Whether the only consumer of a call's result becomes a part of the call's operator."""
    after = _only_consumer(network, call.output)
    if after is None or len(call.shapes) != 1:
        return False
    if foldable(network, after):
        return True
    if not is_activation(after.layer) or function(after.layer) not in FUSED:
        return False
    if function(call.layer) not in (None, "linear"):
        return False
    source = network.producer(call.inputs[0]) if foldable(network, call) else call
    return kind(source.layer) in FUSING


def _covered_later(network: Network, value: Value) -> bool:
    """Whether a value reaches nothing but concatenations, unchanged: they round it."""
    after = network.consumers.get(value, ())
    if not after or value in network.ends:
        return False
    return all(
        kind(call.layer) in JOINING
        or (kind(call.layer) in MOVING and _covered_later(network, call.output))
        for call in after
    )


def _only_consumer(network: Network, value: Value) -> Call | None:
    after = network.consumers.get(value, ())
    if len(after) != 1 or value in network.ends or after[0].inputs.count(value) != 1:
        return None
    return after[0]
