"""What a pass's training makes small: the labels' loss, the teacher's, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepack.errors import DataError
from edgepack.model.training import Objective
from edgepack.passes.candidate import Context


def objective(model: Any, context: Context) -> Objective:
    """The objective that the context asks for. Raises DataError where labels are missing."""
    return Labels(model)


class Labels:
    """The usual loss for labels: cross-entropy of probabilities, else the squared error."""

    variables: Sequence[Any] = ()

    def __init__(self, model: Any) -> None:
        self.model = model

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """(loss, parts) of one batch."""
        import keras

        if y is None:
            raise DataError("this step learns from labels, and the training data has none", "")
        outputs = self.model(x[0] if len(x) == 1 else list(x), training=training)
        value = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, outputs))
        return value, {"labels": value}
