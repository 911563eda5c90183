"""Two rewritings of a flatbuffer: its inner tensors as outputs, and its operators each alone.

Both are run in a child process like any other file, so that a foreign one can do no harm; and
both run every operator as the runtime runs it, with its kernels and its roundings.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepack.export import flatbuffer
from edgepack.graph.parse import parse
from edgepack.graph.reading import schema
from edgepack.graph.types import Operator, Subgraph
from edgepack.graph.weights import UNPACKERS, sources


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One input of a file of lone operators: what operator, which of its inputs, what tensor."""

    operator: int
    place: int
    tensor: int


def exposed(content: bytes, tensors: Sequence[int]) -> bytes:
    """``content`` with these computed tensors of its first subgraph as its outputs."""
    tree = flatbuffer.unpacked(content)
    tree.subgraphs[0].outputs = np.array(tensors, np.int32)
    tree.signatureDefs = None
    return flatbuffer.packed(tree)


def slots(main: Subgraph, operators: Sequence[Operator]) -> list[Slot]:
    """What lone operators must be fed, in the order of the inputs of ``apart``."""
    constant = sources(main)
    return [
        Slot(operator=operator.index, place=place, tensor=index)
        for operator in operators
        for place, index in enumerate(operator.inputs)
        if index >= 0 and index not in constant
    ]


def can_stand_alone(main: Subgraph, operator: Operator) -> bool:
    """Whether an operator's output follows from its inputs alone: no state, no subgraphs."""
    touched = [main.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    return (
        not operator.calls
        and not any(tensor.is_variable or tensor.dtype == "resource" for tensor in touched)
        and not any(tensor.dynamic for tensor in touched)
    )


def apart(content: bytes, operators: Sequence[int]) -> bytes:
    """A file in which each of these operators reads inputs of its own.

    Its inputs are as ``slots`` lists them, its outputs the first output of each operator, in the
    order given. What unpacks constants stays.
    """
    main, tree = parse(content, "model").main, flatbuffer.unpacked(content)
    graph, constant = tree.subgraphs[0], sources(main)
    chosen = [main.operators[index] for index in operators]
    tree.buffers.append(schema().BufferT())
    fed = []
    for slot in slots(main, chosen):
        tensor = copy.copy(graph.tensors[slot.tensor])
        tensor.name = f"{slot.operator}:{slot.place}"
        tensor.buffer = len(tree.buffers) - 1
        fed.append(len(graph.tensors))
        graph.tensors.append(tensor)
        inputs = np.array(graph.operators[slot.operator].inputs, np.int32)
        inputs[slot.place] = fed[-1]
        graph.operators[slot.operator].inputs = inputs
    unpackers = [
        o.index for o in main.operators if o.name in UNPACKERS and o.outputs[0] in constant
    ]
    keep = [*unpackers, *(index for index in operators if index not in unpackers)]
    outputs = [main.operators[index].outputs[0] for index in operators]
    graph.operators = [graph.operators[index] for index in keep]
    graph.inputs, graph.outputs = np.array(fed, np.int32), np.array(outputs, np.int32)
    tree.signatureDefs = None
    return flatbuffer.packed(tree)
