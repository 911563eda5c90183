"""What an inference costs: parameters, multiply-accumulates, bytes moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

from edgepack.graph.types import Graph, Operator, Subgraph, Tensor
from edgepack.graph.weights import Source, owned, parameters
from edgepack.records import Cost

_Operands = list[Tensor | None]
_LOOKUPS = MappingProxyType({"GATHER": 0, "EMBEDDING_LOOKUP": 1, "GATHER_ND": 0})
"""Operators that read of one input only what they write."""


@dataclass(frozen=True, kw_only=True)
class OperatorCost:
    """One run of one operator. ``macs`` is 0 where it multiplies nothing, or is custom."""

    params: int
    macs: int
    bytes_moved: int
    weight_bytes: int


def cost(graph: Graph) -> Cost:
    """The cost of one inference of the main subgraph; parameters and weights of the whole file.

    Constants that share bytes count once. A loop's body counts once, of branches the dearest,
    initialisation (CALL_ONCE) not at all: how often they run is not in the file.
    """
    learned = parameters(graph)
    macs, moved = _inference(graph)
    return Cost(
        params=sum(tensor.elements for tensor in learned),
        macs=macs,
        bytes_moved=moved,
        weight_bytes=sum(tensor.stored_bytes for tensor in learned),
    )


def operator_cost(subgraph: Subgraph, operator: Operator, known: dict[int, Source]) -> OperatorCost:
    """The cost of one run of ``operator``; ``known`` are the subgraph's ``sources``."""
    learned = owned(operator, known)
    return OperatorCost(
        params=sum(tensor.elements for tensor in learned),
        macs=macs(subgraph, operator),
        bytes_moved=_bytes_moved(subgraph, operator),
        weight_bytes=sum(tensor.stored_bytes for tensor in learned),
    )


def macs(subgraph: Subgraph, operator: Operator) -> int:
    """Multiply-accumulates of one run; 0 where operands are missing or of another rank."""
    count = _MACS.get(operator.name)
    if count is None or (operator.custom and operator.name not in _CUSTOM):
        return 0
    inputs: _Operands = [
        subgraph.tensors[index] if index >= 0 else None for index in operator.inputs
    ]
    outputs: _Operands = [subgraph.tensors[index] for index in operator.outputs]
    return count(inputs, outputs, operator.options)


def _inference(graph: Graph) -> tuple[int, int]:
    """(MACs, bytes moved) of the main subgraph with all that it calls; parse forbids circles."""
    totals: dict[int, tuple[int, int]] = {}

    def total(index: int) -> tuple[int, int]:
        if index not in totals:
            parts = [
                (
                    macs(graph.subgraphs[index], operator),
                    _bytes_moved(graph.subgraphs[index], operator),
                )
                for operator in graph.subgraphs[index].operators
            ]
            parts += [called(operator) for operator in graph.subgraphs[index].operators]
            totals[index] = (sum(part[0] for part in parts), sum(part[1] for part in parts))
        return totals[index]

    def called(operator: Operator) -> tuple[int, int]:
        if operator.name == "CALL_ONCE" or not operator.calls:
            return (0, 0)
        parts = [total(index) for index in operator.calls]
        if operator.name in ("IF", "STABLEHLO_CASE"):
            return max(parts)
        return (sum(part[0] for part in parts), sum(part[1] for part in parts))

    return total(0)


def _bytes_moved(subgraph: Subgraph, operator: Operator) -> int:
    """Bytes that one run reads and writes; constants as stored."""
    written = sum(subgraph.tensors[index].size_bytes for index in operator.outputs)
    lookup = None if operator.custom else _LOOKUPS.get(operator.name)
    read = 0
    for place, index in enumerate(operator.inputs):
        if index >= 0:
            tensor = subgraph.tensors[index]
            size = tensor.stored_bytes if tensor.constant else tensor.size_bytes
            read += min(size, written) if place == lookup else size
    return read + written


def _dims(tensors: _Operands, place: int, rank: int) -> tuple[int, ...]:
    """The shape of an operand; zeros where it is missing or has another rank."""
    tensor = tensors[place] if place < len(tensors) else None
    return tensor.shape if tensor is not None and len(tensor.shape) == rank else (0,) * rank


def _elements(tensors: _Operands, *places: int) -> int:
    """How many values the operands hold together; 0 for missing ones."""
    known = [tensors[place] for place in places if place < len(tensors)]
    return sum(tensor.elements for tensor in known if tensor is not None)


def _conv_2d(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    _, height, width, channels = _dims(inputs, 1, 4)
    return _elements(outputs, 0) * height * width * channels


def _depthwise_conv_2d(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    _, height, width, _ = _dims(inputs, 1, 4)
    return _elements(outputs, 0) * height * width


def _transpose_conv(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    filters, height, width, _ = _dims(inputs, 1, 4)
    return _elements(inputs, 2) * height * width * filters


def _transpose_conv_bias(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    filters, height, width, _ = _dims(inputs, 1, 4)
    return _elements(inputs, 0) * height * width * filters


def _conv_3d(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    return _elements(outputs, 0) * prod(_dims(inputs, 1, 5)[:4])


def _conv_3d_transpose(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    return _elements(inputs, 2) * prod(_dims(inputs, 1, 5)[:4])


def _fully_connected(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    return _elements(outputs, 0) * _dims(inputs, 1, 2)[1]


def _batch_matmul(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    left = inputs[0] if inputs else None
    if left is None or len(left.shape) < 2:
        return 0
    return _elements(outputs, 0) * left.shape[-2 if options.get("adj_x") else -1]


def _svdf(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    return _dims(inputs, 0, 2)[0] * _elements(inputs, 1, 2)


def _steps(inputs: _Operands) -> int:
    """Batch times steps of a recurrent operator's input (…, features)."""
    data = inputs[0] if inputs else None
    return prod(data.shape[:-1]) if data is not None else 0


def _lstm(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    if options.get("kernel_type") == "BASIC":
        return _steps(inputs) * _elements(inputs, 2)
    return _steps(inputs) * _elements(inputs, *range(1, 12), 16)


def _bidirectional_lstm(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    forward, backward = (*range(1, 12), 16), (*range(18, 29), 33)
    return _steps(inputs) * _elements(inputs, *forward, *backward)


def _rnn(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    return _steps(inputs) * _elements(inputs, 1, 2)


def _bidirectional_rnn(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    return _steps(inputs) * _elements(inputs, 1, 2, 5, 6)


def _dot_general(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    left = inputs[0] if inputs else None
    axes: tuple[int, ...] = options.get("lhs_contracting_dimensions") or ()
    if left is None or any(not 0 <= axis < len(left.shape) for axis in axes):
        return 0
    return _elements(outputs, 0) * prod(left.shape[axis] for axis in axes)


def _convolution(inputs: _Operands, outputs: _Operands, options: dict[str, Any]) -> int:
    right = inputs[1] if len(inputs) > 1 else None
    axis = options.get("kernel_output_feature_dimension", -1)
    if right is None or not 0 <= axis < len(right.shape):
        return 0
    return _elements(outputs, 0) * prod(right.shape[:axis] + right.shape[axis + 1 :])


_MACS: MappingProxyType[str, Callable[[_Operands, _Operands, dict[str, Any]], int]] = (
    MappingProxyType(
        {
            "BATCH_MATMUL": _batch_matmul,
            "BIDIRECTIONAL_SEQUENCE_LSTM": _bidirectional_lstm,
            "BIDIRECTIONAL_SEQUENCE_RNN": _bidirectional_rnn,
            "CONV_2D": _conv_2d,
            "CONV_3D": _conv_3d,
            "CONV_3D_TRANSPOSE": _conv_3d_transpose,
            "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
            "FULLY_CONNECTED": _fully_connected,
            "LSTM": _lstm,
            "RNN": _rnn,
            "STABLEHLO_CONVOLUTION": _convolution,
            "STABLEHLO_DOT_GENERAL": _dot_general,
            "SVDF": _svdf,
            "TRANSPOSE_CONV": _transpose_conv,
            "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
            "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
            "Convolution2DTransposeBias": _transpose_conv_bias,
        }
    )
)
_CUSTOM = frozenset({"Convolution2DTransposeBias"})
