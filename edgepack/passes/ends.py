"""What a model's outputs are: probabilities of classes, of yes or no, or plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.layers import kind
from edgepack.passes.network import Call, Network, Value, read

End = Literal["softmax", "sigmoid", "linear"]
"""The activation that an output comes from; ``linear`` is every other: logits or values."""

SEEN_THROUGH = ("Reshape", "Flatten", "Identity", "Dropout", "Squeeze", "Cast", "Copy")


def ends(model: Any, outputs: Callable[[], list[NDArray[Any]]]) -> list[End]:
    """What each output of a Keras model is, in flat order.

    Read from the graph; where that does not tell, from ``outputs()``, some samples' outputs.
    """
    import keras

    network = read(model)
    found: list[End | None] = [
        _end(network, value) for value in keras.tree.flatten(network.outputs)
    ]
    if None in found:
        samples = outputs()
        found = [
            _of_values(values) if end is None else end
            for end, values in zip(found, samples, strict=True)
        ]
    return [end for end in found if end is not None]


def _end(network: Network, value: Value) -> End | None:
    """The activation behind a value; None where the graph does not tell."""
    call = network.producer(value)
    name = kind(call.layer)
    if name in ("Softmax", "Sigmoid"):
        return _probability(name.lower(), call)
    if call.inputs and _is_seen_through(call, name):
        before = call.inputs[0]
        if network.producer(before).shapes[before.place][-1] == call.shapes[0][-1]:
            return _end(network, before)
    activation = getattr(call.layer, "activation", None)
    if not callable(activation):
        return None
    # A merge or an unknown layer may pass probabilities on; an activation settles it.
    return _probability(getattr(activation, "__name__", type(activation).__name__), call)


def _probability(name: str, call: Call) -> End | None:
    if name == "softmax":
        axis = getattr(call.layer, "axis", -1)
        return "softmax" if axis in (-1, len(call.shapes[0]) - 1) else None
    return "sigmoid" if name == "sigmoid" else "linear"


def _is_seen_through(call: Call, name: str) -> bool:
    """Whether a call hands probabilities on as they are: reshapes and fake quantisation."""
    if name == "Activation" and call.layer.activation.__name__ == "linear":
        return True
    return name in SEEN_THROUGH or name.startswith("FakeQuant")


def _of_values(values: NDArray[Any]) -> End:
    """Softmax where every sample's last axis is a distribution."""
    if values.ndim > 1 and values.shape[-1] > 1 and values.min() >= 0:
        sums = values.astype(np.float64).sum(-1)
        if np.abs(sums - 1).max() < 0.05:  # a fake-quantised softmax sums to nearly 1
            return "softmax"
    return "linear"
