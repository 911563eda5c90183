"""Models of a few operators whose results are plain to see."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.unit.graph.flatbuffers import constant, model, operator, subgraph, tensor


def reshape(dtype: str) -> bytes:
    """(2, 3) → (3, 2) of any type: what comes out are the values that went in."""
    options = schema.ReshapeOptionsT()
    options.newShape = [3, 2]
    tensors = [
        tensor("x", (2, 3), dtype),
        constant("s", np.array([3, 2], np.int32)),
        tensor("y", (3, 2), dtype),
    ]
    return model(subgraph(tensors, [operator("RESHAPE", [0, 1], [2], options)], [0], [2]))


def two_in_three_out(inputs: list[int], outputs: list[int], **more: Any) -> bytes:
    """a → relu(a), -a; b → -b, in any order; tensors 0 and 1 come in, 2, 3 and 4 go out."""
    tensors = [
        tensor("a", (1, 2)),
        tensor("b", (1, 3), "int32"),
        tensor("relu_a", (1, 2)),
        tensor("neg_b", (1, 3), "int32"),
        tensor("neg_a", (1, 2)),
    ]
    steps = [operator("RELU", [0], [2]), operator("NEG", [1], [3]), operator("NEG", [0], [4])]
    return model(subgraph(tensors, steps, inputs, outputs), **more)


def counter() -> bytes:
    """Adds its input to a variable that it sets to zero once, and returns the sum."""
    handle = schema.VarHandleOptionsT()
    handle.container, handle.sharedName = "", "sum"
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    main = subgraph(
        [
            tensor("x", (1, 2)),
            tensor("h", (), "resource"),
            tensor("r", (1, 2)),
            tensor("s", (1, 2)),
        ],
        [
            operator("CALL_ONCE", [], [], once),
            operator("VAR_HANDLE", [], [1], handle),
            operator("READ_VARIABLE", [1], [2]),
            operator("ADD", [0, 2], [3], schema.AddOptionsT()),
            operator("ASSIGN_VARIABLE", [1, 3], []),
        ],
        [0],
        [3],
    )
    start = subgraph(
        [tensor("h", (), "resource"), constant("zero", np.zeros((1, 2), np.float32))],
        [operator("VAR_HANDLE", [], [0], handle), operator("ASSIGN_VARIABLE", [0, 1], [])],
        [],
        [],
        "start",
    )
    return model(main, start)
