"""What the tests of sparse, clustered and low-bit weights share."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.export import export
from edgepack.graph.constants import values as stored
from edgepack.graph.parse import parse
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.layers import values
from edgepack.passes.select import selector
from edgepack.passes.table import apply
from edgepack.runtimes import tables
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import Step, Training
from tests.tf.export_models import as_model

CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}


def drawing(bias: bool = True) -> Any:
    """A digit classifier with every common kind of weight, and a BatchNormalization that negates
    some channels."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=bias, name="conv_a")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(x)
    x = layers.Conv2D(12, 3, 2, activation="relu", name="conv_b")(x)
    x = layers.Reshape((9, 12))(x)
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="time")(x)
    x = layers.Dense(24, activation="relu", name="hidden")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="label")(x))
    signs = np.array([1, -1, 1, 1, -1, 1, 1, 1], np.float32)
    model.get_layer("norm").gamma.assign(signs * np.linspace(0.5, 1.5, 8, dtype=np.float32))
    return model


def run(
    candidate: Candidate, data: Any, name: str, *, scheme: str = "int8", more: Any = None, **options
) -> Candidate:
    """The candidate after one step; ``more`` are fields of the step or of the context."""
    more = dict(more or {})
    train = more.pop("train", None)
    selection = {key: more.pop(key) for key in ("layers", "skip", "types") if key in more}
    step = Step(name=name, options=options, train=train, **selection)
    context = Context(
        teacher=candidate.model,
        scheme=scheme,
        select=selector(candidate.model, step),
        train=data,
        calibration=data,
        training=train,
        **more,
    )
    return apply(step, candidate, context)


def budget(epochs: int = 2, **more: Any) -> Training:
    return Training(**{"epochs": epochs, "learning_rate": 3e-3, "batch_size": 32} | more)


def kernel(made: Candidate, layer: str, weight: str = "kernel") -> np.ndarray:
    return values(made.model.get_layer(layer), weight)


def zeros(made: Candidate, *layers: str) -> float:
    """The fraction of those layers' weights that is zero."""
    found = np.concatenate([kernel(made, layer).reshape(-1) for layer in layers])
    return float((found == 0).mean())


def integers(model: Any, data: Any, scheme: str = "int8") -> list[np.ndarray]:
    """The stored weights of the exported model's operators, in order, the output channel first."""
    recipe = Recipe(id=scheme, scheme=scheme)
    content = export(as_model(model), recipe, tables.load("litert-2.3"), data).content
    main = parse(content, "made").main
    return [
        np.moveaxis(stored(main.tensors[op.inputs[1]]), CHANNEL_AXIS[op.name], 0)
        for op in main.operators
        if op.name in CHANNEL_AXIS
    ]


def accuracy(model: Any, data: Any) -> float:
    (batch,) = data.batches(len(data))
    return float((np.asarray(model(batch.x[0])).argmax(1) == batch.y).mean())


def interrupted_and_gone_on(tmp_path: Any, data: Any, name: str, **options: Any) -> bool:
    """Whether a run that Ctrl-C ends in its third epoch goes on to what a whole run gives."""
    import pytest

    from edgepack.events import Event, listening

    model, train = drawing(), budget(4)
    whole = run(Candidate(model=model), data, name, more={"train": train}, **options)
    more = {"train": train, "checkpoint": tmp_path / "step.ckpt"}
    each = len(data) // train.batch_size

    def hear(event: Event) -> None:
        if event.done >= 2 * each + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(hear):
        run(Candidate(model=model), data, name, more=more, **options)
    again = run(Candidate(model=model), data, name, more=more, **options)
    pairs = zip(whole.model.get_weights(), again.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
