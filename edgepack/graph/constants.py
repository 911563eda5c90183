"""Constants as arrays: packed integers unpacked, sparse encodings made dense."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError
from edgepack.graph.reading import shown
from edgepack.graph.types import BITS, SparseDimension, SparseEncoding, Tensor
from edgepack.graph.values import carrier

MOST_DENSE_BYTES = 2**30
"""A sparse constant that would unfold to more is refused: a few bytes can claim any shape."""


def values(tensor: Tensor) -> NDArray[Any]:
    """The constant's stored numbers, of ``tensor.shape``, one to an element, dense.

    int4 and int2 come as int8, bfloat16 as float32; nothing is dequantised. Raises ModelError
    where the tensor is computed, lies in another file, holds no numbers, or its encoding is
    damaged.
    """
    stored = stored_values(tensor)
    if tensor.sparse is None:
        return stored[: tensor.elements].reshape(tensor.shape)
    return _densify(tensor, tensor.sparse, stored)


def stored_values(tensor: Tensor) -> NDArray[Any]:
    """The numbers as they lie in the buffer, flat: of a sparse constant only those stored."""
    if tensor.data is None:
        where = "in another file" if tensor.external else "computed, not constant"
        raise ModelError(f"tensor {tensor.index} '{shown(tensor.name)}' is {where}")
    kind, bits = carrier(tensor.dtype), BITS[tensor.dtype]
    raw = np.frombuffer(tensor.data, np.uint8)
    if bits < 8:
        unpacked = _unpack(raw, bits, signed=kind.kind == "i")
        return unpacked if tensor.sparse else unpacked[: tensor.elements]
    if tensor.dtype == "bfloat16":
        halves = raw[: len(raw) // 2 * 2].view("<u2").astype(np.uint32)
        widened: NDArray[np.float32] = (halves << 16).view(np.float32)
        return widened
    usable = raw[: len(raw) // kind.itemsize * kind.itemsize]
    plain: NDArray[Any] = usable.view(kind.newbyteorder("<"))
    return plain


def _unpack(raw: NDArray[np.uint8], bits: int, *, signed: bool) -> NDArray[Any]:
    """Values of ``bits`` bits, the lowest bits of each byte first, sign extended."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts: NDArray[np.uint8] = ((raw[:, None] >> shifts) & (2**bits - 1)).reshape(-1)
    if not signed:
        return parts
    top = 1 << (bits - 1)
    extended: NDArray[np.int8] = (parts.astype(np.int8) ^ np.int8(top)) - np.int8(top)
    return extended


def _densify(tensor: Tensor, encoding: SparseEncoding, stored: NDArray[Any]) -> NDArray[Any]:
    """The dense array of a sparse constant."""
    if tensor.elements * stored.itemsize > MOST_DENSE_BYTES:
        raise _damaged(tensor, f"unfolds to {tensor.elements} values")
    positions = _positions(tensor, encoding)
    if len(positions) > len(stored):
        raise _damaged(tensor, f"places {len(positions)} values and holds {len(stored)}")
    dense = np.zeros(tensor.elements, stored.dtype)
    dense[positions] = stored[: len(positions)]
    return dense.reshape(tensor.shape)


def _positions(tensor: Tensor, encoding: SparseEncoding) -> NDArray[np.int64]:
    """Where each stored value lies in the flat dense array."""
    rank = len(tensor.shape)
    coordinates: dict[int, NDArray[np.int64]] = {}
    count = 1
    for axis, level in zip(encoding.traversal_order, encoding.dimensions, strict=True):
        parents, here = _expand(tensor, level, count)
        coordinates = {key: known[parents] for key, known in coordinates.items()}
        coordinates[axis] = here
        count = len(here)
    sizes = dict(zip(encoding.traversal_order, encoding.dimensions, strict=True))
    for block, axis in enumerate(encoding.block_map):
        inner = rank + block
        coordinates[axis] = coordinates[axis] * sizes[inner].size + coordinates[inner]
    flat = np.zeros(count, np.int64)
    for axis, size in enumerate(tensor.shape):
        if np.any((coordinates[axis] < 0) | (coordinates[axis] >= size)):
            raise _damaged(tensor, f"places values outside axis {axis}, which has {size}")
        flat = flat * size + coordinates[axis]
    return flat


def _expand(
    tensor: Tensor, level: SparseDimension, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(parent, coordinate) of each entry of a level below ``count`` entries of the one above."""
    if level.segments is None or level.indices is None:
        if count * level.size > max(tensor.elements, 1):
            raise _damaged(tensor, "has more entries than its shape")
        return (
            np.repeat(np.arange(count), level.size),
            np.tile(np.arange(level.size), count),
        )
    segments = level.segments.astype(np.int64)
    sizes = np.diff(segments)
    if len(segments) != count + 1 or segments[0] != 0 or np.any(sizes < 0):
        raise _damaged(tensor, "has segments that do not follow one another")
    if segments[-1] > len(level.indices):
        raise _damaged(tensor, f"names {segments[-1]} entries and holds {len(level.indices)}")
    return np.repeat(np.arange(count), sizes), level.indices[: segments[-1]].astype(np.int64)


def _damaged(tensor: Tensor, what: str) -> ModelError:
    return ModelError(
        f"tensor {tensor.index} '{shown(tensor.name)}': its sparse encoding {what}",
        "give a .tflite file as a converter wrote it",
    )
