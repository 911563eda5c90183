"""Whose a constant is, and in which form its operator gets it."""

from __future__ import annotations

import numpy as np

from edgepack.graph.cost import cost, operator_cost
from edgepack.graph.parse import parse
from edgepack.graph.weights import form, is_parameter, owned, sources
from tests.unit.graph.flatbuffers import constant, model, operator, subgraph, tensor


def test_weights_behind_an_unpacker_belong_to_its_reader():
    tensors = [
        tensor("x", (1, 4)),
        constant("w", np.ones((3, 4), np.float16)),
        tensor("wf", (3, 4)),
        tensor("y", (1, 3)),
        tensor("q", (1, 4), "int8"),
    ]
    operators = [
        operator("DEQUANTIZE", [1], [2]),
        operator("FULLY_CONNECTED", [0, 2, -1], [3]),
        operator("QUANTIZE", [0], [4]),
        operator("DEQUANTIZE", [], []),
    ]
    graph = parse(model(subgraph(tensors, operators, [0], [3])), "m")
    known = sources(graph.main)
    unpack, dense, quantise, nothing = graph.main.operators
    assert operator_cost(graph.main, unpack, known).params == 0
    assert operator_cost(graph.main, dense, known).params == 12
    assert operator_cost(graph.main, dense, known).weight_bytes == 24
    assert cost(graph).params == 12
    shape = form(graph.main, dense, known)
    assert (shape.activations, shape.weights, shape.granularity) == (
        "float32",
        "float16-dequantize",
        "none",
    )
    assert form(graph.main, unpack, known).activations == "float32"
    assert form(graph.main, quantise, known).weights == "none"
    assert form(graph.main, nothing, known).activations == "none"


def test_a_chain_of_unpackers_leads_to_the_constant():
    tensors = [
        constant("w", np.ones((3, 4), np.int8), scales=[0.5]),
        tensor("dense", (3, 4), "int8"),
        tensor("real", (3, 4)),
        tensor("x", (1, 4)),
        tensor("y", (1, 3)),
    ]
    operators = [
        operator("DENSIFY", [0], [1]),
        operator("DEQUANTIZE", [1], [2]),
        operator("FULLY_CONNECTED", [3, 2, -1], [4]),
    ]
    graph = parse(model(subgraph(tensors, operators, [3], [4])), "m")
    known = sources(graph.main)
    assert known[2].tensor.name == "w"
    assert known[2].dequantised
    assert [item.name for item in owned(graph.main.operators[2], known)] == ["w"]
    assert form(graph.main, graph.main.operators[2], known).weights == "int8-dequantize"


def test_what_holds_no_numbers_is_no_parameter():
    def learned(values, **fields):
        content = model(subgraph([constant("c", values, **fields)], [], [], []))
        return is_parameter(parse(content, "m").main.tensors[0])

    assert learned(np.ones(2, np.float32))
    assert learned(np.ones(2, np.uint8))
    assert not learned(np.ones(2, np.int64))
    assert learned(np.ones(2, np.int64), scales=[1.0])
    assert not learned(np.ones(2, np.bool_))
