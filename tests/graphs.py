"""Small models of every shape that users bring, their weights and statistics not neutral."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def settled(model: Any, seed: int = 0) -> Any:
    """The model with random biases and BatchNorm statistics, as if it had been trained."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = variable.shape
        if variable.name in ("moving_variance", "gamma"):
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif variable.name in ("moving_mean", "beta", "bias"):
            variable.assign(rng.normal(0, 0.2, shape))
    return model


def sequential(layers: Any, keras: Any) -> Any:
    """Convolutions in a row, flattened into a classifier."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv_a"),
            layers.BatchNormalization(name="norm_a"),
            layers.ReLU(name="relu_a"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(12, 3, activation="relu", name="conv_b"),
            layers.Flatten(name="flat"),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(4, activation="softmax", name="label"),
        ],
        name="sequential",
    )


def residual(layers: Any, keras: Any) -> Any:
    """Two residual blocks, the second with a projection."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    for name, filters, stride in (("one", 8, 1), ("two", 16, 2)):
        y = layers.Conv2D(filters, 3, stride, "same", use_bias=False, name=f"{name}_a")(x)
        y = layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(y))
        y = layers.Conv2D(filters, 3, padding="same", name=f"{name}_b")(y)
        if stride > 1:
            x = layers.Conv2D(filters, 1, stride, "same", name=f"{name}_side")(x)
        x = layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, y]))
    x = layers.GlobalAveragePooling2D(name="average")(x)
    label = layers.Dense(4, activation="softmax", name="label")(x)
    return keras.Model(image, label, name="residual")


def branches(layers: Any, keras: Any) -> Any:
    """Three branches of different kernels, concatenated."""
    image = keras.Input((8, 8, 3), name="image")
    one = layers.Conv2D(4, 1, activation="relu", name="one")(image)
    three = layers.Conv2D(6, 3, padding="same", activation="relu", name="three")(image)
    pooled = layers.AveragePooling2D(3, 1, "same", name="pooled")(image)
    pooled = layers.Conv2D(4, 1, activation="relu", name="after_pool")(pooled)
    x = layers.Concatenate(name="join")([one, three, pooled])
    x = layers.Conv2D(8, 3, 2, "same", activation="relu", name="mix")(x)
    x = layers.Flatten(name="flat")(x)
    label = layers.Dense(4, activation="softmax", name="label")(x)
    return keras.Model(image, label, name="branches")


def depthwise(layers: Any, keras: Any) -> Any:
    """Depthwise and pointwise convolutions with ReLU6, as in MobileNet."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, 2, "same", use_bias=False, name="stem")(image)
    x = layers.ReLU(6.0, name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    for place, filters in enumerate((8, 12)):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depth_{place}")(x)
        x = layers.BatchNormalization(name=f"depth_norm_{place}")(x)
        x = layers.ReLU(6.0, name=f"depth_relu_{place}")(x)
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"point_{place}")(x)
        x = layers.BatchNormalization(name=f"point_norm_{place}")(x)
        x = layers.ReLU(6.0, name=f"point_relu_{place}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    label = layers.Dense(4, activation="softmax", name="label")(x)
    return keras.Model(image, label, name="depthwise")


def conv1d(layers: Any, keras: Any) -> Any:
    """Convolutions over time."""
    signal = keras.Input((16, 3), name="signal")
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="conv_a")(signal)
    x = layers.MaxPooling1D(2, name="pool")(x)
    x = layers.Conv1D(12, 3, use_bias=False, name="conv_b")(x)
    x = layers.ReLU(name="relu_b")(layers.BatchNormalization(name="norm_b")(x))
    x = layers.GlobalAveragePooling1D(name="average")(x)
    label = layers.Dense(4, activation="softmax", name="label")(x)
    return keras.Model(signal, label, name="conv1d")


def ends(layers: Any, keras: Any) -> Any:
    """Two inputs and two outputs."""
    image = keras.Input((8, 8, 3), name="image")
    about = keras.Input((5,), name="about")
    x = layers.Conv2D(8, 3, activation="relu", name="look")(image)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Concatenate(name="join")([x, layers.Dense(6, activation="relu", name="read")(about)])
    x = layers.Dense(12, activation="relu", name="think")(x)
    label = layers.Dense(4, activation="softmax", name="label")(x)
    size = layers.Dense(1, name="size")(x)
    return keras.Model([image, about], [label, size], name="ends")


def shared(layers: Any, keras: Any) -> Any:
    """One convolution and its norm used on two inputs, and one applied twice."""
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    conv = layers.Conv2D(8, 3, padding="same", name="twin")
    norm = layers.BatchNormalization(name="twin_norm")
    again = layers.Conv2D(8, 3, padding="same", activation="relu", name="again")
    a, b = (again(again(layers.ReLU()(norm(conv(side))))) for side in (left, right))
    x = layers.Flatten(name="flat")(layers.Subtract(name="difference")([a, b]))
    label = layers.Dense(4, activation="softmax", name="label")(x)
    return keras.Model([left, right], label, name="shared")


def nested(layers: Any, keras: Any) -> Any:
    """A model in a model, whose layers bear names that the outer one has too."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 8)),
            layers.Conv2D(8, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
        ],
        name="inner",
    )
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    x = layers.Add(name="add")([x, inner(x)])
    x = layers.GlobalAveragePooling2D(name="average")(x)
    head = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, activation="softmax", name="dense")], name="head"
    )
    return keras.Model(image, head(x), name="nested")


def recurrent(layers: Any, keras: Any) -> Any:
    """A convolution, then an LSTM that is unrolled, as int8 needs it."""
    signal = keras.Input((6, 4), name="signal")
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="conv")(signal)
    x = layers.LSTM(6, unroll=True, name="lstm")(x)
    label = layers.Dense(4, activation="softmax", name="label")(x)
    return keras.Model(signal, label, name="recurrent")


def decoder(layers: Any, keras: Any) -> Any:
    """An autoencoder with strided and transposed convolutions."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, 2, "same", activation="relu", name="down")(image)
    x = layers.Conv2D(4, 1, name="code")(x)
    x = layers.Conv2DTranspose(8, 3, 2, "same", activation="relu", name="up")(x)
    again = layers.Conv2D(3, 3, padding="same", name="again")(x)
    return keras.Model(image, again, name="decoder")


GRAPHS: dict[str, Callable[[Any, Any], Any]] = {
    made.__name__: made
    for made in (
        sequential, residual, branches, depthwise, conv1d, ends, shared, nested, recurrent, decoder,
    )
}  # fmt: skip


def graph(name: str, seed: int = 0) -> Any:
    """The model with that name, its weights drawn from ``seed``."""
    import keras

    keras.utils.set_random_seed(seed)
    return settled(GRAPHS[name](keras.layers, keras), seed)
