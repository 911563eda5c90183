"""Preprocessing: size and channel order first, then value = x * scale + offset, then dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.errors import DataError
from edgepack.spec.data import Preprocess

Array = np.ndarray[Any, Any]
PIXELS = {1: "L", 3: "RGB", 4: "RGBA"}
LUMA = np.array([0.299, 0.587, 0.114])


def shaped(row: Array, preprocess: Preprocess, where: str) -> Array:
    """One sample in the wanted size and channel order.

    An image is (height, width) or (height, width, 1, 3 or 4 channels) in RGB order; sound is
    (samples,) or (samples, channels). Raises DataError for a size that does not suit the sample.
    """
    size, channels = preprocess.size, preprocess.channels
    if size is not None and len(size) == 1:
        return _cut(row, size[0], where)
    if size is None and channels is None:
        return row
    if row.ndim == 2:
        row = row[:, :, None]
    if row.ndim != 3 or row.shape[2] not in PIXELS:
        raise DataError(
            f"{where}: size and channels are for images; a row here is {row.shape}",
            "drop them from [preprocess], or give rows of height × width × channels",
        )
    if size is not None and row.shape[:2] != size:
        row = _resized(row, size, where)
    return _ordered(row, channels)


def valued(batch: Array, preprocess: Preprocess, where: str) -> Array:
    """A batch scaled, offset and cast; integers are rounded and kept within their range."""
    dtype = np.dtype(preprocess.dtype)
    scale, offset = np.asarray(preprocess.scale), np.asarray(preprocess.offset)
    for name, given in (("scale", scale), ("offset", offset)):
        if given.ndim and given.size != batch.shape[-1]:
            raise DataError(
                f"{where}: preprocess.{name} has {given.size} values, but the last dimension of "
                f"{batch.shape[1:]} is {batch.shape[-1]}",
                "give one value, or one for each channel",
            )
    if not (scale == 1).all() or offset.any():
        batch = batch * scale + offset
    if dtype.kind in "iu" and batch.dtype.kind == "f":
        batch = np.rint(batch)
    if dtype.kind in "iu" and batch.dtype != dtype:
        limits = np.iinfo(dtype)
        batch = np.clip(batch, limits.min, limits.max)
    with np.errstate(over="ignore"):
        made: Array = np.ascontiguousarray(batch, dtype=dtype)
    return made


def _cut(row: Array, samples: int, where: str) -> Array:
    if row.ndim == 0:
        raise DataError(f"{where}: size needs rows with samples; a row here is a single number")
    kept = row[:samples]
    missing = samples - len(kept)
    return np.pad(kept, [(0, missing)] + [(0, 0)] * (row.ndim - 1)) if missing else kept


def _resized(row: Array, size: tuple[int, ...], where: str) -> Array:
    from PIL import Image

    if len(size) != 2 or min(size) < 1:
        raise DataError(f"{where}: preprocess.size {size} is not (height, width)")
    wanted = (size[1], size[0])
    if row.dtype == np.uint8:
        picture = Image.fromarray(row[:, :, 0] if row.shape[2] == 1 else row)
        made = np.asarray(picture.resize(wanted, Image.Resampling.BILINEAR))
        return made.reshape(*size, row.shape[2])
    planes = [
        np.asarray(
            Image.fromarray(row[:, :, index].astype(np.float32)).resize(
                wanted, Image.Resampling.BILINEAR
            )
        )
        for index in range(row.shape[2])
    ]
    return np.stack(planes, axis=2)


def _ordered(row: Array, channels: str | None) -> Array:
    if channels is None:
        return row
    colour = row[:, :, :3] if row.shape[2] >= 3 else None
    if channels == "gray":
        if colour is None:
            return row
        gray: Array = (colour @ LUMA)[:, :, None]
        return np.rint(gray).astype(row.dtype) if row.dtype.kind in "iu" else gray
    if colour is None:
        colour = np.repeat(row, 3, axis=2)
    if channels == "bgr":
        colour = colour[:, :, ::-1]
    return np.asarray(colour)
