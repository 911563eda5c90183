"""Real numbers to a model's own numbers and back, as the QUANTIZE and DEQUANTIZE operators do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError
from edgepack.records import TensorSpec

_RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1)}
_CARRIERS = {"int4": "int8", "uint4": "uint8", "int2": "int8", "bfloat16": "float32"}


def carrier(dtype: str) -> np.dtype[Any]:
    """The NumPy type that holds values of ``dtype``: its own, or the next one up.

    4- and 2-bit values travel one to a byte. Raises ModelError for types that hold no numbers.
    """
    try:
        return np.dtype(_CARRIERS.get(dtype, dtype))
    except TypeError as error:
        raise ModelError(
            f"tensors of type {dtype} hold no numbers that NumPy knows",
            "give a model with numeric inputs and outputs",
        ) from error


def quantise(real: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """``real`` values, of any shape, as ``spec`` stores them, in ``carrier(spec.dtype)``.

    Rounds half away from zero, as TensorFlow Lite's reference kernel does, in float32, and
    saturates; NaN becomes the zero point. Where ``spec`` has no scale only the type changes;
    integers saturate then too.
    """
    kind = carrier(spec.dtype)
    if kind.kind not in "iu":
        return np.asarray(real).astype(kind)
    if spec.scale is None:
        if np.asarray(real).dtype == kind and spec.dtype not in _RANGES:
            return np.asarray(real)
        steps = np.asarray(real, np.float64)
    else:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            steps = (np.asarray(real, np.float32) / np.float32(spec.scale)).astype(np.float64)
    # 1e19 is beyond every integer type and, unlike infinity, has a fraction to round.
    steps = np.clip(np.where(np.isnan(steps), 0.0, steps), -1e19, 1e19)
    whole = np.trunc(steps) + np.where(np.abs(steps - np.trunc(steps)) >= 0.5, np.sign(steps), 0)
    low, high = _RANGES.get(spec.dtype, (np.iinfo(kind).min, np.iinfo(kind).max))
    shifted = whole + (spec.zero_point or 0)
    # float64 cannot hold the ends of the 64-bit ranges: clip there by comparison.
    inside = np.clip(shifted, float(low), float(high))
    stored = np.where(inside >= high, 0, inside).astype(kind)
    return np.where(inside >= high, kind.type(high), stored)


def quantised(spec: TensorSpec) -> bool:
    """Whether a tensor holds steps of a scale; floats do not, even where a file gives them one."""
    return spec.scale is not None and not spec.dtype.startswith(("float", "bfloat"))


def dequantise(stored: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """``stored`` values, of any shape, as real float32: (stored - zero_point) * scale."""
    if spec.scale is None or not quantised(spec):
        return np.asarray(stored).astype(np.float32)
    steps = np.asarray(stored, np.float64) - (spec.zero_point or 0)
    real: NDArray[np.float32] = (steps * np.float64(np.float32(spec.scale))).astype(np.float32)
    return real


def unstacked(stored: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Stacked values (N, *tensor shape) as real float32 (N, …), without a batch dimension of 1."""
    real = dequantise(stored, spec)
    return real[:, 0] if real.ndim > 1 and real.shape[1] == 1 else real
