"""The float reference: what the source model itself answers, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edgepack.errors import ModelError
from edgepack.model.load import Model

Array = np.ndarray[Any, Any]
Run = Callable[[list[Array]], list[Array]]
_runs: WeakKeyDictionary[Model, Run] = WeakKeyDictionary()


def predict(model: Model, inputs: Sequence[Array], batch: int = 64) -> list[Array]:
    """The outputs, each (N, …), for inputs that are each (N, …) in the model's order.

    Runs a Keras model as in inference, a SavedModel by its signature, and a flatbuffer in a
    child process. Raises ModelError where the inputs do not suit or the model fails.
    """
    count = _checked(model, inputs)
    if model.content is not None:
        return _by_child(model, inputs)
    run = _runs.get(model)
    if run is None:
        run = _keras(model) if model.keras is not None else _signature(model)
        _runs[model] = run
    parts: list[list[Array]] = []
    for start in range(0, count, batch):
        given = [array[start : start + batch] for array in inputs]
        try:
            parts.append(run(given))
        except Exception as exc:
            reason = (str(exc).splitlines() or [type(exc).__name__])[0]
            raise ModelError(f"{model.path}: fails on its inputs: {reason}", "") from exc
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _checked(model: Model, inputs: Sequence[Array]) -> int:
    """How many samples there are. Raises ModelError where the inputs are not the model's."""
    if len(inputs) != len(model.inputs):
        raise ModelError(
            f"{model.path}: takes {len(model.inputs)} inputs, was given {len(inputs)}",
            "inputs: " + ", ".join(spec.name for spec in model.inputs),
        )
    for spec, array in zip(model.inputs, inputs, strict=True):
        if spec.shape[:1] != (1,):
            raise ModelError(
                f"{model.path}: '{spec.name}' is {spec.shape}, not a batch of one sample",
                "convert the model with a batch of 1",
            )
        if tuple(array.shape[1:]) != spec.shape[1:] or len(array) != len(inputs[0]):
            raise ModelError(
                f"{model.path}: '{spec.name}' takes (N, {', '.join(map(str, spec.shape[1:]))}), "
                f"was given {array.shape}",
                "check the data's shape and preprocessing",
            )
    if not len(inputs[0]):
        raise ModelError(f"{model.path}: no samples to run it on", "give at least one")
    return len(inputs[0])


def _keras(model: Model) -> Run:
    import tensorflow as tf

    from edgepack.model.keras_file import packed

    keras_model: Any = model.keras
    specs = model.inputs  # not the model itself, which the cache must not keep alive
    fixed_batch = _fixed_batch(keras_model)

    signature = [[tf.TensorSpec((fixed_batch, *spec.shape[1:]), spec.dtype) for spec in specs]]

    def answer(values: list[Any]) -> list[Any]:
        flat: list[Any] = tf.nest.flatten(keras_model(packed(keras_model, values), training=False))
        return flat

    call = tf.function(answer, input_signature=signature, autograph=False).get_concrete_function()

    def run(given: list[Array]) -> list[Array]:
        step = fixed_batch or len(given[0])
        parts = []
        for start in range(0, len(given[0]), step):
            values = [
                tf.constant(array[start : start + step], dtype=spec.dtype)
                for array, spec in zip(given, specs, strict=True)
            ]
            parts.append([output.numpy() for output in call(values)])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    return run


def _fixed_batch(keras_model: Any) -> int | None:
    """The batch that the model was saved with, where it was."""
    try:
        size = keras_model.inputs[0].shape[0]
    except (AttributeError, TypeError, IndexError, ValueError):
        return None
    return None if size is None else int(size)


def _signature(model: Model) -> Run:
    import tensorflow as tf

    function: Any = model.function
    specs, names = model.inputs, [spec.name for spec in model.outputs]
    declared = function.structured_input_signature[1]
    whole = all(spec.shape.rank is None or spec.shape[0] is None for spec in declared.values())

    def run(given: list[Array]) -> list[Array]:
        step = len(given[0]) if whole else 1
        parts = []
        for start in range(0, len(given[0]), step):
            values = {
                spec.name: tf.constant(array[start : start + step], dtype=spec.dtype)
                for array, spec in zip(given, specs, strict=True)
            }
            answer = function(**values)
            parts.append([answer[name].numpy() for name in names])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    return run


def _by_child(model: Model, inputs: Sequence[Array]) -> list[Array]:
    from edgepack.runtimes.child import HOST, infer

    stacked = [
        np.ascontiguousarray(array[:, None], dtype=spec.dtype)
        for array, spec in zip(inputs, model.inputs, strict=True)
    ]
    answers = infer(model.path, stacked, HOST)
    return [output.reshape(len(output), *output.shape[2:]) for output in answers]
