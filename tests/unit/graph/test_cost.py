"""Parameters, multiply-accumulates and bytes, each against a figure worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgepack.graph.cost import cost, macs, operator_cost
from edgepack.graph.parse import parse
from edgepack.graph.weights import filter_of, sources
from tests.unit.graph.flatbuffers import constant, convolution, model, operator, subgraph, tensor


def zeros(*shape):
    return constant("w", np.zeros(shape, np.float32))


def lstm_inputs(count: int, matrices: dict[int, tuple[int, ...]], data: tuple[int, ...]):
    """Tensors and input indices of a recurrent operator; places without a matrix are left out."""
    tensors, inputs = [tensor("x", data)], [0] + [-1] * (count - 1)
    for place, shape in matrices.items():
        inputs[place] = len(tensors)
        tensors.append(zeros(*shape))
    return tensors, inputs


def one(name, tensors, inputs, output, options=None):
    """The only operator of a model and its subgraph."""
    content = model(
        subgraph(
            [*tensors, tensor("out", output)],
            [operator(name, inputs, [len(tensors)], options)],
            [0],
            [len(tensors)],
        )
    )
    graph = parse(content, "m")
    return graph.main, graph.main.operators[0]


def gates(first, cells, inputs):
    """Places of four input and four recurrent matrices from ``first``."""
    found = {first + index: (cells, inputs) for index in range(4)}
    return found | {first + 4 + index: (cells, cells) for index in range(4)}


def options(kind, **fields):
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


X = tensor("x", (1, 8, 8, 3))
LSTM = lstm_inputs(24, gates(1, 6, 5) | {16: (2, 6)}, (2, 7, 5))
BOTH = lstm_inputs(48, gates(1, 6, 5) | gates(18, 6, 5), (2, 7, 5))
BASIC = lstm_inputs(5, {2: (24, 11)}, (2, 5))
CASES = {
    "CONV_2D": ([X, zeros(4, 3, 3, 3)], [0, 1], (1, 6, 6, 4), None, 36 * 4 * 27),
    "DEPTHWISE_CONV_2D": ([X, zeros(1, 3, 3, 6)], [0, 1], (1, 8, 8, 6), None, 64 * 6 * 9),
    "TRANSPOSE_CONV": (
        [constant("s", np.array([1, 16, 16, 4], np.int32)), zeros(4, 2, 2, 3), X],
        [0, 1, 2],
        (1, 16, 16, 4),
        None,
        64 * 3 * 4 * 4,
    ),
    "Convolution2DTransposeBias": (
        [X, zeros(4, 2, 2, 3), zeros(4)],
        [0, 1, 2],
        (1, 16, 16, 4),
        None,
        64 * 3 * 4 * 4,
    ),
    "CONV_3D": (
        [tensor("x", (1, 4, 4, 4, 3)), zeros(2, 2, 2, 3, 5)],
        [0, 1],
        (1, 3, 3, 3, 5),
        None,
        27 * 5 * 8 * 3,
    ),
    "CONV_3D_TRANSPOSE": (
        [
            constant("s", np.array([1, 8, 8, 8, 5], np.int32)),
            zeros(2, 2, 2, 5, 3),
            tensor("x", (1, 4, 4, 4, 3)),
        ],
        [0, 1, 2],
        (1, 8, 8, 8, 5),
        None,
        64 * 3 * 8 * 5,
    ),
    "FULLY_CONNECTED": ([tensor("x", (5, 10)), zeros(7, 10)], [0, 1, -1], (5, 7), None, 350),
    "BATCH_MATMUL": (
        [tensor("x", (2, 3, 4)), tensor("y", (2, 4, 5))],
        [0, 1],
        (2, 3, 5),
        None,
        2 * 3 * 4 * 5,
    ),
    "BATCH_MATMUL adjoint": (
        [tensor("x", (2, 4, 3)), tensor("y", (2, 4, 5))],
        [0, 1],
        (2, 3, 5),
        options("BatchMatMul", adjX=True),
        2 * 3 * 4 * 5,
    ),
    "SVDF": (
        [tensor("x", (2, 10)), zeros(6, 10), zeros(6, 8)],
        [0, 1, 2],
        (2, 6),
        None,
        2 * (60 + 48),
    ),
    "RNN": (
        [tensor("x", (2, 10)), zeros(6, 10), zeros(6, 6)],
        [0, 1, 2],
        (2, 6),
        None,
        2 * 96,
    ),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (
        [tensor("x", (2, 9, 10)), zeros(6, 10), zeros(6, 6)],
        [0, 1, 2],
        (2, 9, 6),
        None,
        18 * 96,
    ),
    "BIDIRECTIONAL_SEQUENCE_RNN": (
        [
            tensor("x", (1, 9, 10)),
            zeros(6, 10),
            zeros(6, 6),
            zeros(6),
            tensor("h", (1, 6)),
            zeros(6, 10),
            zeros(6, 6),
        ],
        [0, 1, 2, 3, 4, 5, 6],
        (1, 9, 12),
        None,
        9 * 192,
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*LSTM, (2, 7, 2), None, 14 * (120 + 144 + 12)),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*BOTH, (2, 7, 12), None, 14 * 2 * (120 + 144)),
    "LSTM": (*BASIC, (2, 6), options("LSTM", kernelType=1), 2 * 24 * 11),
    "STABLEHLO_DOT_GENERAL": (
        [tensor("x", (3, 4)), tensor("y", (4, 5))],
        [0, 1],
        (3, 5),
        options("StablehloDotGeneral", lhsContractingDimensions=[1]),
        60,
    ),
    "STABLEHLO_CONVOLUTION": (
        [X, zeros(3, 3, 3, 4)],
        [0, 1],
        (1, 6, 6, 4),
        options("StablehloConvolution", kernelOutputFeatureDimension=3),
        36 * 4 * 27,
    ),
    "STABLEHLO_CONVOLUTION outside": (
        [X, zeros(3, 3, 3, 4)],
        [0, 1],
        (1, 6, 6, 4),
        options("StablehloConvolution", kernelOutputFeatureDimension=-9),
        0,
    ),
    "MAX_POOL_2D": ([X], [0], (1, 4, 4, 3), None, 0),
    "FancyCustom": ([X], [0], (1, 4, 4, 3), None, 0),
    "CONV_2D without a filter": ([X], [0], (1, 4, 4, 3), None, 0),
    "FULLY_CONNECTED of rank 3": ([X, zeros(2, 2, 2)], [0, 1], (1, 4), None, 0),
    "BATCH_MATMUL of vectors": ([tensor("x", (3,))], [0], (3,), None, 0),
    "RNN without an input": ([X, zeros(2, 2)], [-1, 1, 1], (1, 2), None, 0),
    "STABLEHLO_DOT_GENERAL outside": (
        [tensor("x", (3, 4))],
        [0],
        (3, 5),
        options("StablehloDotGeneral", lhsContractingDimensions=[9]),
        0,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_multiply_accumulates(case):
    tensors, inputs, output, extra, wanted = CASES[case]
    assert macs(*one(case.split()[0], tensors, inputs, output, extra)) == wanted


def test_a_custom_operator_with_a_builtin_name_is_not_that_operator():
    def edit(made):
        made.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
        made.operatorCodes[0].customCode = "CONV_2D"

    graph = parse(convolution(edit), "m")
    assert macs(graph.main, graph.main.operators[0]) == 0
    assert filter_of(graph.main.operators[0], sources(graph.main)) is None


def test_the_whole_cost_of_a_convolution():
    graph = parse(convolution(), "m")
    found = cost(graph)
    assert found.macs == 64 * 4 * 27
    assert found.params == 108 + 4
    assert found.weight_bytes == 108 + 16
    assert found.bytes_moved == 192 + 108 + 16 + 256
    known = sources(graph.main)
    row = operator_cost(graph.main, graph.main.operators[0], known)
    assert (row.params, row.macs, row.bytes_moved) == (112, found.macs, found.bytes_moved)


def test_shared_constants_count_once():
    weights = zeros(4, 4)

    def dense(name):
        return subgraph(
            [tensor("x", (1, 4)), {**weights, "data": name}, tensor("y", (1, 4))],
            [operator("FULLY_CONNECTED", [0, 1, -1], [2])],
            [0],
            [2],
        )

    content = model(dense(weights["data"]), dense(("buffer", 1)))
    found = cost(parse(content, "m"))
    assert (found.params, found.weight_bytes, found.macs) == (16, 64, 16)


def test_shapes_are_no_parameters_and_quantised_biases_are():
    tensors = [
        tensor("x", (1, 4)),
        constant("shape", np.array([4, 1], np.int32)),
        tensor("y", (4, 1)),
        constant("b", np.array([[1], [2], [3], [4]], np.int32), scales=[0.1]),
        tensor("z", (4, 1)),
    ]
    operators = [operator("RESHAPE", [0, 1], [2]), operator("ADD", [2, 3], [4])]
    assert cost(parse(model(subgraph(tensors, operators, [0], [4])), "m")).params == 4


def test_a_lookup_reads_only_what_it_writes():
    tensors = [zeros(1000, 8), tensor("ids", (3,), "int32"), tensor("rows", (3, 8))]
    graph = parse(model(subgraph(tensors, [operator("GATHER", [0, 1], [2])], [1], [2])), "m")
    assert cost(graph).bytes_moved == 96 + 12 + 96


def test_what_an_operator_calls_is_part_of_the_inference():
    def dense(outputs):
        return subgraph(
            [tensor("x", (1, 4)), zeros(outputs, 4), tensor("y", (1, outputs))],
            [operator("FULLY_CONNECTED", [0, 1, -1], [2])],
            [0],
            [2],
        )

    def calling(name, option):
        return subgraph(
            [tensor("x", (1, 4)), tensor("y", (1, 4))],
            [operator(name, [0], [1], option)],
            [0],
            [1],
        )

    loop = options("While", condSubgraphIndex=1, bodySubgraphIndex=2)
    branch = options("If", thenSubgraphIndex=1, elseSubgraphIndex=2)
    once = options("CallOnce", initSubgraphIndex=1)
    for name, option, wanted in (
        ("WHILE", loop, 4 + 12),
        ("IF", branch, 12),
        ("CALL_ONCE", once, 0),
    ):
        graph = parse(model(calling(name, option), dense(1), dense(3)), "m")
        assert cost(graph).macs == wanted
        assert cost(graph).params == 16


def test_a_subgraph_that_several_call_costs_each_of_them():
    def calling(first, second):
        option = options("While", condSubgraphIndex=first, bodySubgraphIndex=second)
        return subgraph(
            [tensor("x", (1, 4)), tensor("y", (1, 4))],
            [operator("WHILE", [0], [1], option)],
            [0],
            [1],
        )

    leaf = subgraph(
        [tensor("x", (1, 4)), zeros(2, 4), tensor("y", (1, 2))],
        [operator("FULLY_CONNECTED", [0, 1, -1], [2])],
        [0],
        [2],
    )
    graph = parse(model(calling(1, 2), calling(2, 2), leaf), "m")
    assert cost(graph).macs == 3 * 8
