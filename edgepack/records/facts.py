"""Facts: what a flatbuffer is, read without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepack.records.shared import Cost, Fit, Record, Signature


@dataclass(frozen=True, kw_only=True)
class Operator(Record):
    """One operator of a flatbuffer: a row of the per-layer table.

    ``name`` is the schema's operator (``CONV_2D``) or the custom operator's own name;
    ``layer`` the name of its first output tensor. ``weights`` is the dtype of its constant
    filter where it has one, ``granularity`` how that is quantised.
    """

    index: int
    subgraph: int
    name: str
    version: int
    layer: str
    dtype: str
    weights: str | None
    granularity: Literal["none", "per-tensor", "per-channel", "blockwise"]
    output_shape: tuple[int, ...]
    params: int
    macs: int
    bytes_moved: int
    weight_bytes: int


@dataclass(frozen=True, kw_only=True)
class Tensors(Record):
    """Counts of tensors by dtype, and bytes of constants by dtype."""

    count: int
    dtypes: dict[str, int]
    weight_bytes: dict[str, int]
    dynamic: bool


@dataclass(frozen=True, kw_only=True)
class Sparsity(Record):
    """Zeros among the weights, and how many bytes are stored in a sparse encoding."""

    zeros: int
    weights: int
    fraction: float
    encoded_bytes: int


@dataclass(frozen=True, kw_only=True)
class FactsMemory(Record):
    """Activation memory: the greedy plan's arena, and what no plan can go below."""

    arena_bytes: int
    lower_bound_bytes: int


@dataclass(frozen=True, kw_only=True)
class Facts(Record):
    """What a flatbuffer is, read without running it."""

    file: str
    size_bytes: int
    gzip_bytes: int
    sha256: str
    signatures: tuple[Signature, ...]
    operators: tuple[Operator, ...]
    tensors: Tensors
    cost: Cost
    memory: FactsMemory
    sparsity: Sparsity
    custom_ops: tuple[str, ...]
    subgraphs: int = 1
    fit: Fit | None = None
    schema: Literal["edgepack.facts/1"] = "edgepack.facts/1"
