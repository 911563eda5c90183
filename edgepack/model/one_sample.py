"""One file of a user's as a model's input: a picture, a sound or an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from edgepack.errors import DataError
from edgepack.model.preprocess import shaped, valued
from edgepack.model.rows import Array
from edgepack.model.sources.image_folder import SUFFIXES as PICTURES
from edgepack.model.sources.image_folder import picture
from edgepack.model.sources.wav_folder import SUFFIXES as SOUNDS
from edgepack.model.sources.wav_folder import decode
from edgepack.model.taking import Taking
from edgepack.spec.data import Preprocess

SAY = "give --evaluation D, a description of such files, or a .npy like the data's rows"


def sample(path: Path, shape: Sequence[int], taking: Taking | None) -> tuple[Array, str]:
    """(the input in real units, (1, *shape); what was done to the file).

    ``shape`` is the model's, without the batch. ``taking`` is how the model's data became inputs;
    without it values are taken as they are, and the file must have that very shape. Raises
    DataError where the file cannot be read or does not suit.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", "give a picture, a .wav or a .npy file")
    kind = path.suffix.lower()
    if kind in PICTURES:
        row, preprocess = _picture(path, shape, taking)
    elif kind in SOUNDS:
        row, preprocess = _sound(path, taking)
    elif kind == ".npy":
        row, preprocess = _array(path, shape), taking.preprocess if taking else Preprocess()
        row = shaped(row, preprocess, str(path))
    else:
        known = ", ".join(sorted({*PICTURES, *SOUNDS, ".npy"}))
        raise DataError(f"{path}: files of this kind are not understood", f"known: {known}")
    before = row.shape
    batch = valued(row[None], preprocess, str(path)) if taking else row[None]
    if batch.dtype.kind not in "biuf" or not np.isfinite(batch).all():
        raise DataError(f"{path}: holds NaN, infinity or no numbers", "give finite numbers")
    if math.prod(before) != math.prod(shape):
        raise DataError(
            f"{path}: is {_by(before)}, the model takes {_by(shape)}",
            "give a file of that shape" if taking is None else SAY,
        )
    return batch.reshape(1, *shape), _described(path, before, taking)


def _picture(path: Path, shape: Sequence[int], taking: Taking | None) -> tuple[Array, Preprocess]:
    """Pixels in the size and colours of the data description, else of the model."""
    *size, channels = shape if len(shape) == 3 else (*shape, 1)
    if len(size) != 2 or channels not in (1, 3):
        raise DataError(f"{path}: the model takes {_by(shape)}, which is no picture", SAY)
    colours: Literal["gray", "rgb"] = "gray" if channels == 1 else "rgb"
    if taking is None:
        return picture(path, Preprocess(channels=colours)), Preprocess()
    if taking.source != "image-folder" and taking.row_dtype != "uint8":
        raise DataError(
            f"{path}: the data '{taking.data}' holds {taking.row_dtype} values, not pixels of 8 "
            "bits: how a picture becomes such values is not known",
            SAY,
        )
    wanted = taking.preprocess
    preprocess = replace(
        wanted, size=wanted.size or tuple(size), channels=wanted.channels or colours
    )
    return picture(path, preprocess), preprocess


def _sound(path: Path, taking: Taking | None) -> tuple[Array, Preprocess]:
    """Sound as the model's data has it, cut or padded to its length."""
    sound, rate = decode(path)
    if taking is None:
        return sound, Preprocess()
    if taking.source != "wav-folder":
        raise DataError(
            f"{path}: the data '{taking.data}' comes from {taking.source}: how sound becomes such "
            "values is not known",
            SAY,
        )
    if taking.rate_hz not in (None, rate):
        raise DataError(
            f"{path}: has {rate} Hz, the data '{taking.data}' {taking.rate_hz} Hz", "resample it"
        )
    return shaped(sound, taking.preprocess, str(path)), taking.preprocess


def _array(path: Path, shape: Sequence[int]) -> Array:
    """The array in a file: one sample, with or without a first dimension of 1."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = (str(error).splitlines() or ["it is damaged"])[0]
        raise DataError(
            f"{path}: not a NumPy array: {reason}", "write it with numpy.save"
        ) from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds no array of numbers", "write one sample with numpy.save")
    if found.ndim and len(found) == 1 and found.ndim > len(shape):
        found = found[0]
    return np.asarray(found)


def _described(path: Path, before: Sequence[int], taking: Taking | None) -> str:
    if taking is None:
        return f"{path.name} taken as it is, {_by(before)}"
    return f"{path.name} as {_by(before)}, then the preprocessing of {taking.data}"


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"
