"""A Keras model that answers with chosen inner values beside its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepack.model.keras_file import packed
from edgepack.passes.network import functional


def forward(model: Any, x: Sequence[Any], *, training: bool) -> list[Any]:
    """The outputs of a Keras model, in flat order, for inputs in the data's order."""
    import keras

    outputs: list[Any] = keras.tree.flatten(model(packed(model, list(x)), training=training))
    return outputs


def inner(model: Any) -> dict[str, Any]:
    """The symbolic first output of each layer's first call, by the layer's name.

    Layers inside nested models are not there: ``rebuild(read(model))`` unfolds them.
    """
    found: dict[str, Any] = {}
    flat = functional(model)
    for depth in sorted(flat._nodes_by_depth, reverse=True):
        for node in flat._nodes_by_depth[depth]:
            if not node.is_input:
                found.setdefault(node.operation.name, node.outputs[0])
    return found


class Tapped:
    """The model itself, its weights shared, with the outputs of the layers ``names`` beside."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        import keras

        self.model, self.ends = model, len(model.outputs)
        if names:
            values = inner(model)
            taps = [values[name] for name in names]
            self.model = keras.Model(model.inputs, [*model.outputs, *taps])

    def __call__(self, x: Sequence[Any], *, training: bool) -> tuple[list[Any], list[Any]]:
        """(outputs in flat order, inner values in the order of the names) of a batch."""
        found = forward(self.model, x, training=training)
        return found[: self.ends], found[self.ends :]
