"""Tensors and buffers of a flatbuffer, checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from edgepack.graph.reading import Budget, Malformed, schema, shown, words
from edgepack.graph.types import (
    BITS,
    Quantisation,
    SparseDimension,
    SparseEncoding,
    Tensor,
)

MOST_BYTES = 2**40
"""No device holds such a tensor; and the sizes of all together still fit 64 bits."""

MOST_DIMENSIONS = 16
"""Far beyond what kernels take; the product of a million dimensions would not end."""


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """Stored bytes; ``data`` None where there are none."""

    data: memoryview | None = None
    external: bool = False


@cache
def dtypes() -> dict[int, str]:
    """The schema's tensor types as edgepack names them."""
    return {code: name.lower() for code, name in words("TensorType").items()}


def read_buffers(model: Any, content: bytes, budget: Budget) -> tuple[Buffer, ...]:
    """Every buffer of the model, as views of ``content``."""
    whole = memoryview(content)
    found = []
    for index in budget.range(model.BuffersLength(), "buffers"):
        table = model.Buffers(index)
        if table.DataLength():
            found.append(Buffer(data=memoryview(table.DataAsNumpy())))
        elif table.Offset() > 1:
            start, end = table.Offset(), table.Offset() + table.Size()
            if end > len(content):
                raise Malformed(f"buffer {index} ends at byte {end}, the file at {len(content)}")
            found.append(Buffer(data=whole[start:end], external=True))
        else:
            found.append(Buffer())
    return tuple(found)


def read_tensor(
    index: int, table: Any, buffers: tuple[Buffer, ...], where: str, budget: Budget
) -> Tensor:
    """One tensor. Raises Malformed where its shape, type and buffer do not agree."""
    dtype = dtypes().get(table.Type())
    if dtype is None or dtype not in BITS:
        raise Malformed(f"{where}: unknown type {table.Type()}")
    signature = _shape(budget.numbers(table, "Shape", "dimensions"), where)
    shape = tuple(1 if size < 0 else size for size in signature)
    declared = _shape(budget.numbers(table, "ShapeSignature", "dimensions"), where)
    if len(declared) == len(signature):
        signature = declared
    if prod(shape) * BITS[dtype] // 8 > MOST_BYTES:
        raise Malformed(f"{where}: shape {list(shape)} is larger than any memory")
    number = table.Buffer()
    if number and number >= len(buffers):
        raise Malformed(f"{where}: no buffer {number} (there are {len(buffers)})")
    buffer = buffers[number] if number else Buffer()
    tensor = Tensor(
        index=index,
        name=budget.text(table.Name()),
        shape=shape,
        shape_signature=signature,
        dtype=dtype,
        buffer=number,
        data=buffer.data,
        external=buffer.external or bool(table.ExternalBuffer()),
        quantisation=_read_quantisation(table.Quantization(), shape, where, budget),
        sparse=_read_sparse(table.Sparsity(), len(shape), where, budget),
        is_variable=bool(table.IsVariable()),
    )
    if tensor.data is not None and tensor.sparse is None and len(tensor.data) < tensor.size_bytes:
        raise Malformed(
            f"{where} '{shown(tensor.name)}': needs {tensor.size_bytes} bytes, "
            f"its buffer holds {len(tensor.data)}"
        )
    return tensor


def _shape(sizes: tuple[int, ...], where: str) -> tuple[int, ...]:
    if len(sizes) > MOST_DIMENSIONS:
        raise Malformed(f"{where}: {len(sizes)} dimensions; no runtime has more than 8")
    if any(size < -1 for size in sizes):
        raise Malformed(f"{where}: negative dimension in shape {list(sizes)}")
    return sizes


def _read_quantisation(
    table: Any, shape: tuple[int, ...], where: str, budget: Budget
) -> Quantisation | None:
    """The scales; None where the table holds at most a range from training."""
    if table is None:
        return None
    scales = budget.vector(table, "Scale")
    zero_points = budget.vector(table, "ZeroPoint")
    block, scale_tensor, zero_point_tensor = 0, None, None
    if table.DetailsType() == schema().QuantizationDetails.BlockwiseQuantization:
        details, raw = schema().BlockwiseQuantization(), table.Details()
        details.Init(raw.Bytes, raw.Pos)
        block, scale_tensor = details.BlockSize(), details.Scales()
        zero_point_tensor = details.ZeroPoints() if details.ZeroPoints() > 0 else None
    if not len(scales) and block <= 0:
        return None
    axis = table.QuantizedDimension()
    if len(scales) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise Malformed(f"{where}: {len(scales)} scales on axis {axis} of shape {list(shape)}")
    if len(zero_points) not in (0, 1, len(scales)):
        raise Malformed(f"{where}: {len(zero_points)} zero points for {len(scales)} scales")
    if not len(zero_points):
        zero_points = np.zeros(1, np.int64)
    return Quantisation(
        scales=scales.astype(np.float32, copy=False),
        zero_points=zero_points.astype(np.int64, copy=False),
        axis=axis,
        block_size=max(block, 0),
        scale_tensor=scale_tensor,
        zero_point_tensor=zero_point_tensor,
    )


def _read_sparse(table: Any, rank: int, where: str, budget: Budget) -> SparseEncoding | None:
    if table is None:
        return None
    dimensions = []
    for index in budget.range(table.DimMetadataLength(), "sparse dimensions"):
        level = table.DimMetadata(index)
        if level.Format() == schema().DimensionType.DENSE:
            dimensions.append(SparseDimension(size=max(level.DenseSize(), 0)))
        else:
            dimensions.append(
                SparseDimension(
                    size=0,
                    segments=_index_vector(
                        level.ArraySegmentsType(), level.ArraySegments(), where, budget
                    ),
                    indices=_index_vector(
                        level.ArrayIndicesType(), level.ArrayIndices(), where, budget
                    ),
                )
            )
    encoding = SparseEncoding(
        traversal_order=budget.numbers(table, "TraversalOrder", "dimensions"),
        block_map=budget.numbers(table, "BlockMap", "dimensions"),
        dimensions=tuple(dimensions),
    )
    levels = rank + len(encoding.block_map)
    if sorted(encoding.traversal_order) != list(range(levels)) or len(dimensions) != levels:
        raise Malformed(f"{where}: its sparse encoding does not fit its {rank} dimensions")
    if any(not 0 <= blocked < rank for blocked in encoding.block_map):
        raise Malformed(f"{where}: its sparse blocks lie outside its {rank} dimensions")
    return encoding


def _index_vector(kind: int, raw: Any, where: str, budget: Budget) -> Any:
    name = words("SparseIndexVector").get(kind, "NONE")
    if name == "NONE" or raw is None:
        raise Malformed(f"{where}: a sparse dimension without indices")
    vector = getattr(schema(), name)()
    vector.Init(raw.Bytes, raw.Pos)
    return budget.vector(vector, "Values")
