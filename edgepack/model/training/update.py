"""One update, traced: the loss, its gradients, the optimizer; and one batch judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgepack.errors import ModelError
from edgepack.model.keras_file import packed
from edgepack.model.rows import Array, Batch
from edgepack.model.training.hooks import Hooks, unlisted
from edgepack.model.training.seams import Objective

Update = Callable[[Batch], dict[str, Any]]
"""A batch in, figures out, as tensors: ``loss`` and what else is worth showing."""


def updating(
    model: Any, objective: Objective, variables: Sequence[Any], optimizer: Any, hooks: Hooks
) -> Update:
    """The update of a training: the user's own step, or gradients of the objective's loss.

    Raises ModelError where the loss does not depend on any weight.
    """
    import tensorflow as tf

    def own(x: Any, y: Any) -> dict[str, Any]:
        assert hooks.step is not None
        return {"loss": tf.reduce_mean(hooks.step(model, optimizer, unlisted(x), y))}

    def usual(x: Any, y: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss, figures = objective.loss(x, y, training=True)
            total = loss + tf.add_n(model.losses) if model.losses else loss
        values = [variable.value for variable in variables]
        gradients = tape.gradient(total, values)
        if all(gradient is None for gradient in gradients):
            raise ModelError(
                "the loss does not depend on any weight that is trained",
                "compute it from the model's outputs by differentiable operations",
            )
        optimizer.apply(
            [
                tf.zeros_like(value) if gradient is None else gradient
                for gradient, value in zip(gradients, values, strict=True)
            ],
            variables,
        )
        return {"loss": loss, **figures}

    # Python's ``if`` on a tensor is not rewritten: who needs that decorates his own function.
    traced = tf.function(own if hooks.step else usual, autograph=False, reduce_retracing=True)

    def update(batch: Batch) -> dict[str, Any]:
        try:
            found: dict[str, Any] = traced(*_tensors(batch))
        except tf.errors.OpError as exc:
            raise ModelError(
                f"training failed: {_first_line(exc)}", "check labels and loss"
            ) from exc
        return found

    return update


def losing(objective: Objective) -> Callable[[Batch], float]:
    """The objective's loss of a batch, as in inference."""
    import tensorflow as tf

    def loss(x: Any, y: Any) -> Any:
        return objective.loss(x, y, training=False)[0]

    traced = tf.function(loss, autograph=False, reduce_retracing=True)
    return lambda batch: float(traced(*_tensors(batch)))


def answering(model: Any) -> Callable[[Batch], list[Array]]:
    """The model's outputs for a batch, in flat order, as in inference."""
    import keras
    import tensorflow as tf

    def outputs(x: Any) -> list[Any]:
        found: list[Any] = keras.tree.flatten(model(packed(model, x), training=False))
        return found

    traced = tf.function(outputs, autograph=False, reduce_retracing=True)
    return lambda batch: [output.numpy() for output in traced(_tensors(batch)[0])]


def _tensors(batch: Batch) -> tuple[list[Any], Any]:
    import tensorflow as tf

    y = None if batch.y is None else tf.constant(batch.y)
    return [tf.constant(array) for array in batch.x], y


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
