"""A flatbuffer as frozen values: subgraphs, tensors, operators, all indices checked.

Shapes are tuples of ints, tensor and subgraph references are indices. Constants stay views of
the file; ``edgepack.graph.constants`` turns them into arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BITS = MappingProxyType(
    {
        "bool": 8,
        "int2": 2,
        "int4": 4,
        "uint4": 4,
        "int8": 8,
        "uint8": 8,
        "int16": 16,
        "uint16": 16,
        "int32": 32,
        "uint32": 32,
        "int64": 64,
        "uint64": 64,
        "float8_e4m3fn": 8,
        "float8_e5m2": 8,
        "float16": 16,
        "bfloat16": 16,
        "float32": 32,
        "float64": 64,
        "complex64": 64,
        "complex128": 128,
        "resource": 32,
        "variant": 64,
        "string": 0,
    }
)
"""Bits of one element; 0 for strings, whose size only the run knows."""

Granularity = Literal["none", "per-tensor", "per-channel", "blockwise"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantisation:
    """Real value = (stored - zero_point) * scale, along ``axis`` where there are several.

    Blockwise: ``scale_tensor`` is the tensor that holds one scale for each ``block_size``
    neighbours, ``zero_point_tensor`` its zero points or None.
    """

    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int = 0
    block_size: int = 0
    scale_tensor: int | None = None
    zero_point_tensor: int | None = None

    @property
    def granularity(self) -> Granularity:
        """How many values share a scale."""
        if self.block_size:
            return "blockwise"
        return "per-channel" if len(self.scales) > 1 else "per-tensor"


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseDimension:
    """One level of a sparse encoding: ``segments`` None means dense, of ``size`` entries."""

    size: int
    segments: NDArray[np.integer[Any]] | None = None
    indices: NDArray[np.integer[Any]] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseEncoding:
    """How a sparse constant lies in its buffer: levels in ``traversal_order``, blocks last."""

    traversal_order: tuple[int, ...]
    block_map: tuple[int, ...]
    dimensions: tuple[SparseDimension, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    ``shape_signature`` is the shape with -1 where a dimension is dynamic; equal to ``shape``
    where none is. ``data`` are the stored bytes of a constant (packed below 8 bits, encoded
    where ``sparse``), None where the tensor is computed; ``external`` says that they lie behind
    the flatbuffer in the file, or in another file.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    buffer: int = 0
    data: memoryview | None = None
    external: bool = False
    quantisation: Quantisation | None = None
    sparse: SparseEncoding | None = None
    is_variable: bool = False

    @property
    def constant(self) -> bool:
        """Whether the file holds the tensor's values."""
        return self.data is not None or self.external

    @property
    def dynamic(self) -> bool:
        """Whether only the run knows the shape."""
        return -1 in self.shape_signature

    @property
    def elements(self) -> int:
        """How many values the tensor has."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense tensor in memory."""
        return (self.elements * BITS[self.dtype] + 7) // 8

    @property
    def stored_bytes(self) -> int:
        """Bytes that a constant takes in the file; 0 for a computed tensor."""
        if self.data is not None:
            return len(self.data)
        return self.size_bytes if self.external else 0

    @property
    def granularity(self) -> Granularity:
        """How many values share a scale; ``none`` without quantisation."""
        return self.quantisation.granularity if self.quantisation else "none"


@dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """One operator. ``name`` is the schema's (``CONV_2D``) or, where ``custom``, its own.

    An input of -1 is one that was left out. ``options`` holds the builtin options under the
    schema's names, padding and activation as words; ``calls`` the subgraphs that it runs.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    custom: bool = False
    custom_options: bytes = b""
    intermediates: tuple[int, ...] = ()
    calls: tuple[int, ...] = ()

    @property
    def flex(self) -> bool:
        """Whether TensorFlow itself must run it."""
        return self.custom and self.name.startswith("Flex")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subgraph:
    """Tensors and the operators over them, in the order in which they run."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SignatureDef:
    """A named entry point: names of its inputs and outputs with their tensor indices."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A whole model. ``size_bytes`` is the file's; ``metadata`` maps names to stored bytes."""

    name: str
    size_bytes: int
    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[SignatureDef, ...] = ()
    metadata: dict[str, memoryview] = field(default_factory=dict)

    @property
    def main(self) -> Subgraph:
        """The subgraph that a plain inference runs."""
        return self.subgraphs[0]
