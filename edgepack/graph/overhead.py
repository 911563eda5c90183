"""What a runtime keeps in RAM for a model beside its activations: an estimate, by counting."""

from __future__ import annotations

from types import MappingProxyType

from edgepack.graph.types import Graph, Operator, Subgraph
from edgepack.runtimes.tables import Runtime

CHANNEL_AXES = MappingProxyType({"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0})
"""The axis of an operator's filter along which its output channels lie."""


def runtime_ram_bytes(graph: Graph, runtime: Runtime) -> int:
    """RAM that ``runtime`` takes for ``graph`` beside the activations, resource variables with it.

    Kernels' own scratch memory is not in it: only the runtime's kernels know it.
    """
    tensors = sum(len(subgraph.tensors) for subgraph in graph.subgraphs)
    operators = sum(len(subgraph.operators) for subgraph in graph.subgraphs)
    channels = sum(
        _channels(subgraph, operator)
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
    )
    return (
        runtime.ram_bytes
        + tensors * runtime.ram_per_tensor_bytes
        + operators * runtime.ram_per_operator_bytes
        + channels * runtime.ram_per_channel_bytes
        + resource_bytes(graph)
    )


def resource_bytes(graph: Graph) -> int:
    """Bytes of the variables that VAR_HANDLE operators name: state between inferences.

    A variable is as large as the largest value that is assigned to it or read from it.
    """
    sizes: dict[tuple[str, str], int] = {}
    for subgraph in graph.subgraphs:
        names: dict[int, tuple[str, str]] = {}
        for operator in subgraph.operators:
            if operator.name == "VAR_HANDLE" and operator.outputs:
                shared = operator.options.get("shared_name") or ""
                names[operator.outputs[0]] = (operator.options.get("container") or "", shared)
            value = _value(operator)
            if value is not None and operator.inputs[0] in names:
                name, size = names[operator.inputs[0]], subgraph.tensors[value].size_bytes
                sizes[name] = max(size, sizes.get(name, 0))
    return sum(sizes.values())


def _value(operator: Operator) -> int | None:
    """The tensor that is assigned to, or read from, the variable of the first input."""
    if operator.name == "ASSIGN_VARIABLE" and len(operator.inputs) > 1:
        return operator.inputs[1] if operator.inputs[1] >= 0 else None
    if operator.name == "READ_VARIABLE" and operator.inputs and operator.outputs:
        return operator.outputs[0]
    return None


def _channels(subgraph: Subgraph, operator: Operator) -> int:
    """Output channels of a convolution, for each of which a runtime keeps a multiplier."""
    axis = CHANNEL_AXES.get(operator.name)
    if axis is None or operator.custom or len(operator.inputs) < 2 or operator.inputs[1] < 0:
        return 0
    shape = subgraph.tensors[operator.inputs[1]].shape
    return shape[axis] if axis < len(shape) else 0
