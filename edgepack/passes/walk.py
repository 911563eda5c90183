"""Two models of one graph run side by side on samples, call by call: repair looks at both.

Before a layer with weights is called, a visitor sees what enters it in the exact model and in the
other one, in which the layers before it are already changed; it may change the layer's weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgepack.errors import DataError
from edgepack.events import step
from edgepack.model.data import Data
from edgepack.passes.candidate import Context
from edgepack.passes.layers import weights
from edgepack.passes.network import Call, Network, Value

BATCH = 32
MOST_BYTES = 1 << 27
Batches = list[Any]
"""One tensor of the graph as TensorFlow tensors of at most ``BATCH`` samples each."""
Visit = Callable[[Call, Batches, Batches], None]
"""(a call of a layer with weights, its first input in the exact model, in the other one)."""


def samples_of(context: Context, label: str) -> Data:
    """The samples that a repair looks at. Raises DataError where there are none."""
    if context.samples is None or not len(context.samples):
        raise DataError(
            f"{label} looks at what enters each layer, but there are no samples",
            "give --calibration, about 200 typical samples without labels",
        )
    return context.samples


def side_by_side(network: Network, other: Any, samples: Data, visit: Visit, label: str) -> None:
    """Run ``network`` and ``other``, a model rebuilt from it; ``visit`` each layer with weights.

    A layer that is called often is visited once, before its first call. Many or large samples
    are thinned out evenly, so that no tensor takes more than ``MOST_BYTES``.
    """
    import keras

    batches = list(_thinned(network, samples).batches(BATCH))
    inputs = [value.call for value in keras.tree.flatten(network.inputs)]
    known: dict[Value, tuple[Batches, Batches]] = {}
    for place, index in enumerate(inputs):
        fed = [keras.ops.convert_to_tensor(batch.x[place]) for batch in batches]
        known[Value(index)] = (fed, fed)
    last = {value: call.index for call in network.calls for value in call.inputs}
    visited: set[int] = set()
    with step(label, total=len(network.calls) - len(inputs)) as advance:
        for call in network.calls:
            if call.index in inputs:
                continue
            if weights(call.layer) and id(call.layer) not in visited:
                visited.add(id(call.layer))
                visit(call, *known[call.inputs[0]])
            twin = other.get_layer(call.name) if isinstance(call.layer, keras.Layer) else call.layer
            made = [
                _called(call, layer, {value: known[value][side] for value in call.inputs})
                for side, layer in enumerate((call.layer, twin))
            ]
            for place in range(len(call.shapes)):
                known[Value(call.index, place)] = (made[0][place], made[1][place])
            for value in set(call.inputs):
                if last[value] == call.index:
                    del known[value]
            advance(1)


def _thinned(network: Network, samples: Data) -> Data:
    """At most as many samples as the largest tensor lets ``MOST_BYTES`` hold."""
    sizes = [
        math.prod(size or 1 for size in shape[1:])
        for call in network.calls
        for shape in call.shapes
    ]
    most = max(MOST_BYTES // (4 * max(sizes)), BATCH)
    if len(samples) <= most:
        return samples
    return samples.select(np.linspace(0, len(samples) - 1, most).astype(np.int64))


def _called(call: Call, layer: Any, known: Mapping[Value, Batches]) -> Sequence[Batches]:
    """Each output of a call, batch by batch."""
    import keras

    count = len(next(iter(known.values()))) if known else 1
    outputs: list[Batches] = [[] for _ in call.shapes]
    for batch in range(count):
        args, kwargs = keras.tree.map_structure(
            lambda item, batch=batch: known[item][batch] if isinstance(item, Value) else item,
            (call.args, dict(call.kwargs)),
        )
        if "training" in kwargs:
            kwargs["training"] = False
        for place, tensor in enumerate(keras.tree.flatten(layer(*args, **kwargs))):
            outputs[place].append(tensor)
    return outputs
