"""Which constants are weights, whose they are, and in which form an operator gets them."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from edgepack.graph.types import Granularity, Graph, Operator, Subgraph, Tensor

FILTERS = MappingProxyType(
    {
        "BATCH_MATMUL": 1,
        "BIDIRECTIONAL_SEQUENCE_LSTM": 2,
        "BIDIRECTIONAL_SEQUENCE_RNN": 1,
        "CONV_2D": 1,
        "CONV_3D": 1,
        "CONV_3D_TRANSPOSE": 1,
        "DEPTHWISE_CONV_2D": 1,
        "EMBEDDING_LOOKUP": 1,
        "FULLY_CONNECTED": 1,
        "GATHER": 0,
        "LSTM": 2,
        "RNN": 1,
        "STABLEHLO_CONVOLUTION": 1,
        "STABLEHLO_DOT_GENERAL": 1,
        "SVDF": 1,
        "TRANSPOSE_CONV": 1,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": 2,
        "UNIDIRECTIONAL_SEQUENCE_RNN": 1,
    }
)
"""Which input of an operator is its filter."""

UNPACKERS = frozenset({"DEQUANTIZE", "DENSIFY"})
_PLAIN_INTEGERS = frozenset({"int32", "int64", "uint32", "uint64"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The constant behind a tensor, and whether a DEQUANTIZE operator hands it on."""

    tensor: Tensor
    dequantised: bool = False


@dataclass(frozen=True, kw_only=True)
class Form:
    """How an operator computes: dtypes of its activations and weights, and of their scales.

    ``weights`` is ``none`` without a constant filter; ``float16-dequantize`` says that a
    DEQUANTIZE operator hands it over as floats.
    """

    activations: str
    weights: str
    granularity: Granularity


def sources(subgraph: Subgraph) -> dict[int, Source]:
    """The constant behind each tensor that is one, or is unpacked from one by operators."""
    found = {tensor.index: Source(tensor=tensor) for tensor in subgraph.tensors if tensor.constant}
    for operator in subgraph.operators:
        if operator.name not in UNPACKERS or operator.custom:
            continue
        if operator.inputs and operator.outputs and operator.inputs[0] in found:
            source = found[operator.inputs[0]]
            found[operator.outputs[0]] = Source(
                tensor=source.tensor,
                dequantised=source.dequantised or operator.name == "DEQUANTIZE",
            )
    return found


def is_parameter(tensor: Tensor) -> bool:
    """Whether a constant was learned; shapes, axes and paddings are plain integers."""
    if not tensor.constant or tensor.dtype in ("bool", "string", "resource", "variant"):
        return False
    return tensor.dtype not in _PLAIN_INTEGERS or tensor.quantisation is not None


def owned(operator: Operator, known: dict[int, Source]) -> list[Tensor]:
    """The parameters that an operator computes with, each once; unpackers own none."""
    if operator.name in UNPACKERS and not operator.custom:
        return []
    found = {
        known[index].tensor.index: known[index].tensor
        for index in operator.inputs
        if index in known
    }
    return [tensor for tensor in found.values() if is_parameter(tensor)]


def identity(subgraph: Subgraph, tensor: Tensor) -> tuple[int, int]:
    """What two constants have in common when they are the same bytes of the file."""
    return (-1, tensor.buffer) if tensor.buffer else (subgraph.index, tensor.index)


def parameters(graph: Graph) -> list[Tensor]:
    """Every parameter that an operator of the model uses; those that share bytes count once."""
    found: dict[tuple[int, int], Tensor] = {}
    for subgraph in graph.subgraphs:
        known = sources(subgraph)
        for operator in subgraph.operators:
            for tensor in owned(operator, known):
                found.setdefault(identity(subgraph, tensor), tensor)
    return list(found.values())


def filter_of(operator: Operator, known: dict[int, Source]) -> Source | None:
    """The constant filter of an operator, None where it has none."""
    place = FILTERS.get(operator.name)
    if place is None or operator.custom or place >= len(operator.inputs):
        return None
    return known.get(operator.inputs[place])


def form(subgraph: Subgraph, operator: Operator, known: dict[int, Source]) -> Form:
    """The form in which ``operator`` computes."""
    computed = [index for index in operator.inputs if index >= 0 and index not in known]
    shown = computed or list(operator.outputs) or [index for index in operator.inputs if index >= 0]
    activations = subgraph.tensors[shown[0]].dtype if shown else "none"
    source = filter_of(operator, known)
    if source is None:
        return Form(activations=activations, weights="none", granularity="none")
    return Form(
        activations=activations,
        weights=source.tensor.dtype + ("-dequantize" if source.dequantised else ""),
        granularity=source.tensor.granularity,
    )
