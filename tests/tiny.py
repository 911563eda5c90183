"""A tiny trained-free classifier and its data, for tests of the whole path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLASSES = 4
TOML = 'source = "npz"\npath = "{name}.npz"\nx = "x"\n'


@dataclass(frozen=True)
class Tiny:
    """Where the model and its data descriptions lie."""

    folder: Path
    model: Path
    calibration: Path
    evaluation: Path


def make_tiny(folder: Path) -> Tiny:
    """A small convolutional classifier that labels its own evaluation set, so float is perfect."""
    import keras

    keras.utils.set_random_seed(7)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(8, 3, activation="relu", name="first")(image)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    label = keras.layers.Dense(CLASSES, activation="softmax", name="label")(x)
    model = keras.Model(image, label, name="tiny")
    model.get_layer("label").kernel.assign(6 * model.get_layer("label").kernel)
    model.save(folder / "tiny.keras")
    rng = np.random.default_rng(0)
    x = rng.random((96, 8, 8, 1), np.float32)
    y = model.predict(x, verbose=0).argmax(1)
    write_set(folder, "calibration", x=x[:32])
    write_set(folder, "evaluation", x=x[32:], y=y[32:])
    return Tiny(
        folder, folder / "tiny.keras", folder / "calibration.toml", folder / "evaluation.toml"
    )


def write_set(folder: Path, name: str, **arrays: np.ndarray) -> Path:
    """An npz of arrays and its description."""
    np.savez(folder / f"{name}.npz", **arrays)
    description = folder / f"{name}.toml"
    extra = 'y = "y"\nmetric = "top1"\n' if "y" in arrays else ""
    description.write_text(TOML.format(name=name) + extra)
    return description
