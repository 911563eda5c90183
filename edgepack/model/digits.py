"""The demo's model: a small residual CNN for 8×8 digits, trained here in a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepack.events import step
from edgepack.files import replacing
from edgepack.model.data import Data
from edgepack.model.quiet import import_tensorflow

EPOCHS = 12


def train_digits(train: Data, path: Path, seed: int = 0) -> None:
    """Train on ``train`` (x (n, 8, 8, 1) in 0..1, y 0..9) and save the Keras model to ``path``."""
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    batches = list(train.batches(256))
    x = np.concatenate([batch.x[0] for batch in batches])
    y = np.concatenate([batch.y for batch in batches if batch.y is not None])
    model = _network(keras)
    steps = EPOCHS * -(-len(x) // 32)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(4e-3, steps)),
        "sparse_categorical_crossentropy",
    )
    with step("train the demo's model", total=EPOCHS) as advance:
        progress = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: advance(1))
        model.fit(x, y, batch_size=32, epochs=EPOCHS, verbose=0, callbacks=[progress])
    with replacing(path) as temporary:
        whole = temporary.with_suffix(".keras")  # Keras insists on its own suffix
        model.save(whole)
        whole.replace(temporary)


def _network(keras: Any) -> Any:
    layers = keras.layers

    def conv(x: Any, filters: int, name: str) -> Any:
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    image = keras.Input((8, 8, 1), name="image")
    x = conv(image, 24, "stem")
    x = layers.Add(name="residual")([x, conv(conv(x, 24, "block_a"), 24, "block_b")])
    x = layers.MaxPooling2D(name="pool")(x)
    x = conv(x, 48, "wide")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    digit = layers.Dense(10, activation="softmax", name="digit")(x)
    return keras.Model(image, digit, name="digits")
