"""Small changes of samples that leave their labels right: shifts, flips, noise.

Images are (height, width, channels), signals (time, channels); all arrays are (n, …).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.model.data import Data
from edgepack.model.rows import Batch
from edgepack.model.training.batches import Augment

Array = NDArray[Any]
FARTHEST = 4
NOISE = 0.05


def built_in(name: str, data: Data) -> Augment:
    """The augmentation ``flip-shift``, ``shift`` or ``noise`` of the inputs that it suits.

    Raises DataError where it suits none, and where labels lie on the places that would move.
    """
    change, ranks = CHANGES[name]
    suited = [
        len(shape) in ranks and (name != "noise" or np.dtype(dtype).kind == "f")
        for shape, dtype in zip(data.x_shapes, data.x_dtypes, strict=True)
    ]
    if not any(suited):
        what = {"flip-shift": "images", "shift": "images or signals", "noise": "floats"}[name]
        raise DataError(
            f"{data.spec.id}: augment '{name}' is for {what}, not for samples of {data.x_shapes}",
            "choose another, or write file.py:function",
        )
    labels = None if name == "noise" else data.labels()
    if labels is not None and labels.shape[1:3] == data.x_shapes[suited.index(True)][:2]:
        raise DataError(
            f"{data.spec.id}: augment '{name}' moves samples, and labels of {labels.shape[1:]} "
            "would not move with them",
            "write augment = file.py:function that moves both",
        )

    def augment(batch: Batch, rng: np.random.Generator) -> Batch:
        x = tuple(
            change(array, rng) if suits else array
            for array, suits in zip(batch.x, suited, strict=True)
        )
        return Batch(x=x, y=batch.y)

    return augment


def flip_shift(images: Array, rng: np.random.Generator) -> Array:
    """Half of the images mirrored left to right, all of them shifted; edges are reflected."""
    flipped = rng.random(len(images)) < 0.5
    return _moved(images, rng, flipped)


def shift(samples: Array, rng: np.random.Generator) -> Array:
    """Up to 4 pixels or samples, and an eighth of the size, along each axis but the last."""
    return _moved(samples, rng, np.zeros(len(samples), bool))


def noise(samples: Array, rng: np.random.Generator) -> Array:
    """Normal noise of a twentieth of the batch's standard deviation."""
    drawn = rng.standard_normal(samples.shape, np.float32)
    noisy: Array = samples + (NOISE * samples.std() * drawn).astype(samples.dtype)
    return noisy


CHANGES = {
    "flip-shift": (flip_shift, (3,)),
    "shift": (shift, (2, 3)),
    "noise": (noise, (1, 2, 3, 4)),
}
"""Each built-in augmentation, and for samples of which ranks it is."""


def _moved(samples: Array, rng: np.random.Generator, flipped: NDArray[np.bool_]) -> Array:
    """Samples at places that are drawn for each: one gather for all axes."""
    axes = samples.shape[1:-1]
    index: list[Array] = [np.arange(len(samples)).reshape(-1, *[1] * len(axes))]
    for axis, size in enumerate(axes):
        reach = min(FARTHEST, size // 8)
        offsets = rng.integers(-reach, reach + 1, len(samples))
        places = np.arange(size) + offsets[:, None]
        if axis == len(axes) - 1:
            places[flipped] = places[flipped, ::-1]
        shape = [1] * len(axes)
        shape[axis] = size
        index.append(_reflected(places, size).reshape(len(samples), *shape))
    moved: Array = samples[tuple(index)]
    return moved


def _reflected(places: Array, size: int) -> Array:
    """Places beyond the first and the last, mirrored back into range."""
    inside: Array = (size - 1) - np.abs((size - 1) - np.abs(places))
    return inside
