"""How much each unit of channels matters, comparable all over a network.

A unit's importance counts in proportion to what is left of its group when it goes (as LAMP, Lee
et al. 2021): the last ones of a group are dear, so no layer is emptied for its price alone.

``l1`` and ``l2``: the norm of the filters that make it (Li et al. 2017). ``bn-scale``: the scale
of its BatchNormalization (Liu et al. 2017), or l2 where there is none. ``activation``: the mean
absolute value that it has where it is read. Each is divided by its mean over the layer, so that an
average channel of any layer counts 1, and summed over the layers that the unit is in: what costs
more, because it is in more places, must also matter more. ``taylor`` is the expected square of
the change of the loss if the unit were zero, to the first order (Molchanov et al. 2019: gradient
times weight), taken where the channel is read; it is a loss everywhere and needs no division.
``random`` is for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.model.data import Data
from edgepack.passes.candidate import Context
from edgepack.passes.ends import ends
from edgepack.passes.layers import has, kind, values, variable
from edgepack.passes.network import Call, rebuild
from edgepack.passes.objective import objective
from edgepack.passes.slicing import reading_axis, reading_weight
from edgepack.passes.taps import forward
from edgepack.passes.ties import MAKERS, SEPARABLE
from edgepack.passes.units import Units
from edgepack.spec.steps import Training

Criterion = Literal["l1", "l2", "bn-scale", "taylor", "activation", "random"]
Scores = NDArray[np.float64]
TAYLOR_BATCH = 8
BATCH = 32


def importance(
    units: Units, model: Any, criterion: Criterion, context: Context, samples: int
) -> Scores:
    """The importance of each unit of a Keras model; those that stay have one too, unused.

    Raises DataError where the criterion looks at data and there is none.
    """
    found = _raw(units, model, criterion, context, samples)
    for group in units.groups:
        order = group[np.argsort(found[group], kind="stable")]
        left = np.cumsum(found[order][::-1])[::-1]
        found[order] *= left[0] / np.maximum(left, 1e-30)
    return found


def _raw(units: Units, model: Any, criterion: Criterion, context: Context, samples: int) -> Scores:
    if criterion == "random":
        return np.random.default_rng((context.seed, 71)).random(units.count)
    if criterion == "taylor":
        return _taylor(units, model, context, samples)
    if criterion == "activation":
        return _activation(units, context, samples)
    found = np.zeros(units.count)
    scaled = _scaled(units) if criterion == "bn-scale" else set()
    for call in units.makers:
        ids = units.of[call.output]
        if scaled.isdisjoint(ids.tolist()):
            _add(found, ids, _norms(call.layer, 1 if criterion == "l1" else 2))
    for call in units.network.calls:
        if scaled and kind(call.layer) == "BatchNormalization" and has(call.layer, "gamma"):
            _add(found, units.of[call.output], np.abs(values(call.layer, "gamma")))
    return found


def _add(found: Scores, ids: NDArray[np.int64], scores: NDArray[Any]) -> None:
    """Add a layer's scores, one for each of its channels, in terms of their mean."""
    mean = float(scores.mean())
    np.add.at(found, ids, scores / mean if mean > 0 else np.zeros(len(ids)))


def _norms(layer: Any, order: int) -> NDArray[np.float64]:
    """The norm of each filter or neuron of a layer."""
    name = "pointwise_kernel" if kind(layer) in SEPARABLE else "kernel"
    turned = kind(layer) in ("Conv1DTranspose", "Conv2DTranspose")
    kernel = np.moveaxis(values(layer, name).astype(np.float64), -2 if turned else -1, 0)
    norms: NDArray[np.float64] = np.linalg.norm(kernel.reshape(len(kernel), -1), order, axis=1)
    return norms


def _scaled(units: Units) -> set[int]:
    """Units that go through a BatchNormalization with a scale."""
    return {
        unit
        for call in units.network.calls
        if kind(call.layer) == "BatchNormalization" and has(call.layer, "gamma")
        for unit in units.of[call.output].tolist()
    }


def readers(units: Units) -> Iterator[Call]:
    """The calls of layers that read channels and make new ones."""
    return (call for call in units.network.calls if kind(call.layer) in MAKERS)


def _activation(units: Units, context: Context, samples: int) -> Scores:
    """The mean absolute values where units are read."""
    import keras
    import tensorflow as tf

    taps: list[tuple[Call, Any]] = []

    def change(call: Call, inputs: Sequence[Any], clone: Any) -> None:
        if kind(call.layer) in MAKERS:
            taps.append((call, inputs[0]))

    model = rebuild(units.network, change)
    means = keras.Model(model.inputs, [tensor for _, tensor in taps])
    sums = [np.zeros(len(units.of[call.inputs[0]])) for call, _ in taps]
    for x, _ in batches(_given(context.samples), samples, BATCH):
        outputs = forward(means, [tf.constant(a) for a in x], training=False)
        for place, output in enumerate(outputs):
            sums[place] += np.abs(output.numpy()).reshape(-1, output.shape[-1]).sum(0)
    found = np.zeros(units.count)
    for (call, _), total in zip(taps, sums, strict=True):
        _add(found, units.of[call.inputs[0]], total)
    return found


def _taylor(units: Units, model: Any, context: Context, samples: int) -> Scores:
    """Expected squares of gradient times weight, summed over all that read a unit."""
    import tensorflow as tf

    data = _given(context.train if context.train is not None else context.samples)
    layers = {id(call.layer): call for call in readers(units)}
    kernels = [variable(call.layer, reading_weight(call.layer)).value for call in layers.values()]
    loss = _loss(model, context, data)

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def gates(x: Any, y: Any, step: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            value = loss(x, y, step)
        found = []
        for call, kernel, gradient in zip(
            layers.values(), kernels, tape.gradient(value, kernels), strict=True
        ):
            axis = reading_axis(call.layer)
            others = [i for i in range(len(kernel.shape)) if i != axis]
            product = tf.zeros_like(kernel) if gradient is None else gradient * kernel
            found.append(tf.reduce_sum(product, others))
        return found

    squares = np.zeros(units.count)
    for step, (x, y) in enumerate(batches(data, samples, TAYLOR_BATCH)):
        labels = None if y is None else tf.constant(y)
        found = gates([tf.constant(a) for a in x], labels, tf.constant(step))
        changes = np.zeros(units.count)
        for call, change in zip(layers.values(), found, strict=True):
            np.add.at(changes, units.of[call.inputs[0]][: change.shape[0]], change.numpy())
        squares += changes**2
    return squares


def _loss(model: Any, context: Context, data: Data) -> Any:
    """(inputs, labels, step) → the loss whose change counts.

    With labels, theirs. Without, random sums of the outputs, of probabilities their roots: then
    the expected square is how far the outputs move, for probabilities Fisher's information.
    """
    import tensorflow as tf

    training = context.training or Training(epochs=1)
    wanted = context.distill is None or context.distill.labels > 0
    if wanted and data.labels() is not None and len(model.outputs) == 1 and not training.step:
        known = objective(model, replace(context, distill=None, train=data, training=training))
        return lambda x, y, step: known.loss(x, y, training=False)[0]
    first = next(data.batches(BATCH))

    def seen() -> list[NDArray[Any]]:
        return [
            y.numpy() for y in forward(model, [tf.constant(a) for a in first.x], training=False)
        ]

    kinds = ends(model, seen)

    def moved(x: Sequence[Any], y: Any, step: Any) -> Any:
        total = 0.0
        for place, (end, output) in enumerate(
            zip(kinds, forward(model, x, training=False), strict=True)
        ):
            felt = output if end == "linear" else 2 * tf.sqrt(tf.maximum(output, 1e-6))
            seed = tf.stack([context.seed + 997 * place, step])
            total += tf.reduce_sum(felt * tf.random.stateless_normal(tf.shape(felt), seed))
        return total

    return moved


def batches(
    data: Data, samples: int, size: int
) -> Iterator[tuple[Sequence[Any], NDArray[Any] | None]]:
    """Inputs and labels of samples taken evenly from all of the data."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(samples, len(data))).astype(np.int64))
    for batch in data.select(chosen).batches(size):
        yield batch.x, batch.y


def _given(data: Data | None) -> Data:
    if data is None:
        raise DataError(
            "this criterion looks at data, and there is none",
            'add --train or --calibration, or choose criterion = "l2"',
        )
    return data
