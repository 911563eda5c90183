"""What tensors within a model do on data: moments of linear outputs, and linear regressions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.model.data import Data
from edgepack.passes.factorise import Float
from edgepack.passes.layers import variable
from edgepack.passes.network import Network, rebuild

MOST_SAMPLES = 1024
"""Taken evenly from all of the data, which may be sorted by class."""
FEW_SAMPLES, ROWS_A_PLACE = 256, 16
"""Enough samples where each has many positions: so many rows for each place of a patch."""
BATCH = 16
MOST_ROWS = 1024
"""Of a batch, whose neighbouring positions are alike anyway."""
MOST_INPUTS = 2304
"""Of a patch: 3 × 3 × 256. Wider ones take too much memory and time."""
MOST_VALUES = 4 << 20
"""Of all patches of one sample at a time."""
RIDGE = 1e-4
"""Of the mean square of the regressors, so that directions without signal stay small."""

Tap = Callable[[Any, Sequence[Any]], "Sequence[Any] | None"]
"""(call, its input tensors) → the tensors to watch there, or None."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Of the patches (size · inputs) that a layer's kernel is multiplied by.

    ``second`` is the mean of the products of pairs over samples and positions.
    """

    second: Float
    mean: Float

    @property
    def centred(self) -> Float:
        """The covariance: ``second`` without the mean's part."""
        return self.second - np.outer(self.mean, self.mean)


def patch_moments(network: Network, layers: Collection[str], data: Data) -> dict[str, Moments]:
    """Moments of what the named convolutions and Dense layers see, over all their calls.

    Of layers whose patches are wider than MOST_INPUTS there are none.
    """
    found: dict[str, Moments] = {}
    calls = {call.name: call for call in network.calls if call.name in layers}
    for samples in (FEW_SAMPLES, MOST_SAMPLES):
        group: list[str] = []
        room = 0
        for name, call in calls.items():
            width = math.prod(variable(call.layer).shape[:-1])
            places = math.prod(size or 1 for size in call.shapes[0][1:-1])
            few = places * FEW_SAMPLES >= ROWS_A_PLACE * width
            if width > MOST_INPUTS or few != (samples == FEW_SAMPLES):
                continue
            if group and room + width * places > MOST_VALUES:
                found |= _patch_moments(network, group, data, samples)
                group, room = [], 0
            group.append(name)
            room += width * places
        if group:
            found |= _patch_moments(network, group, data, samples)
    return found


def _patch_moments(
    network: Network, layers: Collection[str], data: Data, samples: int
) -> dict[str, Moments]:
    made: dict[str, Any] = {}

    def tap(call: Any, inputs: Sequence[Any]) -> Any:
        if call.name not in layers:
            return None
        if "kernel_size" not in call.layer.get_config():
            return [inputs[0]]
        if call.name not in made:
            # A convolution with one filter for each place of the patch: strides, padding and
            # dilation are then just the layer's own.
            config = {**call.layer.get_config(), "name": f"{call.name}_patches"}
            config |= {
                "use_bias": False,
                "activation": "linear",
                "filters": math.prod(variable(call.layer).shape[:-1]),
            }
            made[call.name] = type(call.layer).from_config(config)
        return [made[call.name](inputs[0])]

    def load() -> None:
        for layer in made.values():
            kernel = variable(layer)
            kernel.assign(np.eye(kernel.shape[-1], dtype=np.float32).reshape(kernel.shape))

    sums: dict[str, Any] = {}
    for name, (rows,) in watch(network, tap, load, data, samples):
        rows = rows[:: max(1, len(rows) // MOST_ROWS)]
        known = sums.setdefault(name, [0, 0.0, 0.0])
        known[0] += len(rows)
        known[1] = known[1] + rows.sum(0)
        known[2] = known[2] + rows.T @ rows
    return {
        name: Moments(second=second / count, mean=mean / count)
        for name, (count, mean, second) in sums.items()
    }


def regressions(
    network: Network, tap: Tap, load: Callable[[], None], data: Data, biased: Mapping[str, bool]
) -> dict[str, tuple[Float, Float]]:
    """For each call that ``tap`` answers with (x, y): the least-squares (matrix, bias) of x → y.

    By call name, over all calls. The bias is zero where ``biased`` is not. ``load`` gives what
    ``tap`` brings in its weights.
    """
    sums: dict[str, Any] = {}
    for name, (x, y) in watch(network, tap, load, data):
        known = sums.setdefault(name, [0, 0.0, 0.0, 0.0, 0.0])
        for place, part in enumerate((len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)):
            known[place] = known[place] + part
    solved = {}
    for name, (count, x, y, xx, xy) in sums.items():
        mean_x, mean_y = (x / count, y / count) if biased[name] else (0.0 * x, 0.0 * y)
        square = xx / count - np.outer(mean_x, mean_x)
        square += RIDGE * max(float(np.trace(square)) / len(square), 1e-12) * np.eye(len(square))
        matrix = np.linalg.solve(square, xy / count - np.outer(mean_x, mean_y))
        solved[name] = (matrix, mean_y - mean_x @ matrix)
    return solved


class Linear:
    """Copies of layers without bias and activation, one for each layer."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[Any, Any]] = {}

    def __call__(self, call: Any, tensor: Any) -> Any:
        """The linear part of a call, of a tensor."""
        if call.name not in self.made:
            config = {**call.layer.get_config(), "name": f"{call.name}_linear"}
            config |= {"use_bias": False, "activation": "linear"}
            self.made[call.name] = (type(call.layer).from_config(config), call.layer)
        return self.made[call.name][0](tensor)

    def load(self) -> None:
        """The weights of the layers that were copied."""
        for copy, layer in self.made.values():
            variable(copy).assign(variable(layer).value)


def watch(
    network: Network,
    tap: Tap,
    load: Callable[[], None],
    data: Data,
    samples: int = MOST_SAMPLES,
) -> Iterator[tuple[str, list[Float]]]:
    """(call name, what ``tap`` put there as rows) for every call and batch of samples."""
    import keras
    import tensorflow as tf

    taps: list[tuple[str, Sequence[Any]]] = []

    def change(call: Any, inputs: Sequence[Any], clone: Any) -> None:
        found = tap(call, inputs)
        if found is not None:
            taps.append((call.name, found))

    model = rebuild(network, change)
    load()
    if not taps:
        return
    watched = keras.Model(model.inputs, [tensor for _, found in taps for tensor in found])
    chosen = np.linspace(0, len(data) - 1, min(len(data), samples)).astype(np.int64)
    for batch in data.select(np.unique(chosen)).batches(BATCH):
        given = [tf.constant(array) for array in batch.x]
        made = iter(keras.tree.flatten(watched(given, training=False)))
        for name, found in taps:
            rows = [np.asarray(next(made), np.float64) for _ in found]
            yield name, [array.reshape(-1, array.shape[-1]) for array in rows]
