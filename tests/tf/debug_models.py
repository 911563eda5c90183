"""Models for ``debug``: one with a layer that int8 ruins, and its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.tiny import write_set


@dataclass(frozen=True)
class Ruined:
    """Where the model and its data descriptions lie."""

    model: Path
    calibration: Path
    evaluation: Path


def make_ruined(folder: Path) -> Ruined:
    """A classifier whose layer ``quiet`` reads what int8 cannot hold.

    One channel of ``loud`` is a hundred times louder than the others, so that the scale they
    share leaves nothing of those; and ``quiet`` listens to those alone.
    """
    import keras

    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(8, 3, name="loud")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="quiet")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    label = layers.Dense(3, name="label")(x)
    model = keras.Model(image, label, name="ruined")
    loud, quiet = model.get_layer("loud"), model.get_layer("quiet")
    loud.kernel.assign(loud.kernel * np.where(np.arange(8) == 0, 150, 1))
    quiet.kernel.assign(quiet.kernel * (np.arange(8) > 0)[:, None])
    rng = np.random.default_rng(0)
    x = rng.random((96, 8, 8, 1), np.float32) * rng.random((96, 1, 1, 1), np.float32)
    scores = model.predict(x, verbose=0)
    model.get_layer("label").bias.assign(-np.median(scores, axis=0))
    model.save(folder / "ruined.keras")
    y = model.predict(x, verbose=0).argmax(1)
    return Ruined(
        folder / "ruined.keras",
        write_set(folder, "calibration", x=x[:32]),
        write_set(folder, "evaluation", x=x[32:], y=y[32:]),
    )
