"""Small models of every kind that an export must take, and data for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgepack.model.keras_file import specs
from edgepack.model.load import Model


class Samples:
    """Seeded calibration data in the shape of ``edgepack.model.data.Data``."""

    def __init__(self, model: Model, count: int, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.x = [
            random.normal(size=(count, *spec.shape[1:])).astype(spec.dtype) for spec in model.inputs
        ]

    def __len__(self) -> int:
        return len(self.x[0])

    def batches(self, size: int):
        for start in range(0, len(self), size):
            yield SimpleNamespace(x=tuple(x[start : start + size] for x in self.x), y=None)


def as_model(keras_model: Any, name: str = "small") -> Model:
    inputs, outputs = specs(keras_model, {}, Path(name))
    return Model(
        name=name, path=Path(name), sha256="0", kind="keras", inputs=inputs, outputs=outputs,
        keras=keras_model,
    )  # fmt: skip


def build(kind: str) -> Model:
    """A seeded model of one kind of ``KINDS``."""
    import keras

    keras.utils.set_random_seed(7)
    return as_model(KINDS[kind](keras, keras.layers), kind)


def dense(keras, layers):
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3, name="head")]
    )


def image(keras, layers):
    x = entry = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.Add(name="join")([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(entry, layers.Dense(4, activation="softmax", name="head")(x))


def sound(keras, layers):
    return keras.Sequential(
        [
            keras.Input((20, 4)),
            layers.Conv1D(8, 3, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def forked(keras, layers):
    """Two inputs whose names are not in sorted order, two outputs."""
    a, b = keras.Input((5,), name="zeta"), keras.Input((4,), name="alpha")
    x = layers.Concatenate()([layers.Dense(4, activation="relu")(a), b])
    return keras.Model([a, b], [layers.Dense(2, name="wide")(x), layers.Dense(1, name="narrow")(x)])


def nested(keras, layers):
    """Outputs in a dictionary."""
    entry = keras.Input((5,), name="x")
    x = layers.Dense(4, activation="relu")(entry)
    heads = {"second": layers.Dense(2)(x), "first": layers.Dense(3)(x)}
    return keras.Model(entry, heads)


def subclassed(keras, layers):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = layers.Dense(8, activation="relu"), layers.Dense(2)

        def call(self, x):
            return self.two(self.one(x))

    model = Own()
    model(np.zeros((1, 6), np.float32))
    return model


KINDS = {
    "dense": dense,
    "image": image,
    "sound": sound,
    "forked": forked,
    "nested": nested,
    "subclassed": subclassed,
}
