"""Writes Keras-2 files and what Keras 2 itself answers; run as a script with a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as k

L = k.layers


def functional(shape, body, name="m"):
    x = k.Input(shape)
    return k.Model(x, body(x), name=name)


def nested_sequential():
    inner = k.Sequential([L.Input((8,)), L.Dense(6, activation="relu"), L.Dense(8)], name="inner")
    return functional((8,), lambda x: L.Dense(3)(inner(x) + inner(x * 2.0)))


def nested_sequential_without_input():
    inner = k.Sequential([L.Dense(6, activation="relu"), L.Dense(8)], name="inner")
    return functional((8,), lambda x: L.Dense(3)(inner(x)))


def nested_functional():
    inner = functional((8,), lambda x: L.Dense(8, activation="tanh")(x), "inner")
    return functional((8,), lambda x: L.Add()([inner(x), inner(L.Dense(8)(x))]))


def several():
    a, b = k.Input((4,), name="left"), k.Input((6,), name="right")
    both = L.concatenate([L.Dense(5)(a), L.Dense(5)(b)])
    return k.Model([a, b], [L.Dense(2, name="first")(both), L.Dense(3, name="second")(both)])


def shared():
    dense = L.Dense(8)
    return functional((8,), lambda x: L.Subtract()([dense(dense(x)), dense(x)]))


def depthwise():
    return k.Sequential(
        [
            L.InputLayer((8, 8, 3)),
            L.DepthwiseConv2D(3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(6.0),
            L.SeparableConv2D(4, 3),
            L.LeakyReLU(0.2),
            L.Conv2DTranspose(2, 3, strides=2),
            L.ZeroPadding2D(1),
            L.GlobalAveragePooling2D(),
        ]
    )


def recurrent():
    return k.Sequential(
        [
            L.InputLayer((5, 3)),
            L.LSTM(4, return_sequences=True, implementation=1),
            L.Bidirectional(L.GRU(3, return_sequences=True)),
            L.TimeDistributed(L.Dense(4, activation="relu")),
            L.SimpleRNN(3),
            L.Dense(2, activation="softmax"),
        ]
    )


def cells():
    stack = [L.LSTMCell(3), L.GRUCell(4)]
    return functional((5, 3), lambda x: L.RNN(stack)(x))


def arithmetic():
    def body(x):
        y = (x * 0.5 + 1.0) - 0.25
        y = 2.0 - y / 4.0
        y = tf.nn.relu6(y) + tf.math.sigmoid(x)
        y = tf.concat([y, tf.nn.relu(x)], axis=-1)
        return tf.math.maximum(y, tf.abs(y) ** 0.5) * tf.nn.tanh(y)

    return functional((6,), body)


def shapes():
    def body(x):
        y = tf.reshape(x, [-1, 4, 6])
        y = tf.transpose(y, [0, 2, 1])
        y = tf.expand_dims(y, -1)
        y = L.Conv2D(3, 3, padding="same")(y)
        z = y[:, 1:5, :, 0]
        mean = tf.reduce_mean(y, [1, 2])
        most = tf.reduce_max(z, axis=1)
        return tf.concat([mean, most, tf.squeeze(y[:, :1, 0, :], 1)], 1)

    return functional((24,), body)


def attention():
    def body(x):
        y = L.MultiHeadAttention(2, 4)(x, x)
        y = L.LayerNormalization()(x + y)
        return L.GlobalAveragePooling1D()(y)

    return functional((6, 8), body)


def embedded():
    x = k.Input((7,), dtype="int32")
    y = L.Embedding(20, 5, input_length=7)(x)
    return k.Model(x, L.Dense(2)(L.Flatten()(y)))


def mixed():
    policy = k.mixed_precision.Policy("mixed_float16")
    x = k.Input((8,))
    return k.Model(x, L.Dense(3, dtype="float32")(L.Dense(8, dtype=policy)(x)))


def regularised():
    return k.Sequential(
        [
            L.Conv1D(4, 3, input_shape=(10, 2), kernel_regularizer=k.regularizers.l2(1e-3)),
            L.Activation(tf.nn.relu),
            L.BatchNormalization(beta_initializer="ones", gamma_constraint="non_neg"),
            L.Dropout(0.3),
            L.AveragePooling1D(2),
            L.Flatten(),
            L.Dense(3, kernel_initializer=k.initializers.TruncatedNormal(stddev=0.1)),
        ]
    )


class Plain(L.Layer):
    def call(self, x):
        return x * 3.0


@k.utils.register_keras_serializable("mine")
class Known(Plain):
    pass


def custom():
    return functional((4,), lambda x: Known()(Plain()(L.Dense(3)(x))))


def code():
    return functional((4,), lambda x: L.Dense(2)(L.Lambda(lambda v: v * 2.0 + 1.0)(x)))


MODELS = [
    nested_sequential, nested_sequential_without_input, nested_functional, several, shared,
    depthwise, recurrent, cells, arithmetic, shapes, attention, embedded, mixed, regularised,
    custom, code,
]  # fmt: skip


def main(folder: Path) -> None:
    for make in MODELS:
        k.backend.clear_session()
        k.utils.set_random_seed(3)
        model = make()
        model.compile("adam", "mse")
        rng = np.random.default_rng(1)
        inputs = [
            rng.integers(0, 20, (5, *t.shape[1:])).astype("int32")
            if t.dtype == tf.int32
            else rng.normal(size=(5, *t.shape[1:])).astype("float32")
            for t in model.inputs
        ]
        for layer in model.layers:
            if isinstance(layer, L.BatchNormalization):
                layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        for suffix in ("h5", "keras"):
            model.save(folder / f"{make.__name__}.{suffix}")
        np.savez(
            folder / f"{make.__name__}.npz",
            **{f"x{i}": x for i, x in enumerate(inputs)},
            **{f"y{i}": y.numpy() for i, y in enumerate(outputs)},
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
