"""Reshapes in a row: joined where nothing depends on the tensor between them."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.export import flatbuffer
from edgepack.export.reshaping import join
from edgepack.export.stripping import Stripped
from tests.unit.graph.flatbuffers import constant, model, operator, subgraph, tensor


def row(second: str, shape: tuple[int, ...], *, seen: bool = False) -> Stripped:
    """(1, 4) → RELU → RESHAPE to (1, 1, 4) → ``second`` to ``shape`` → RELU."""
    content = model(
        subgraph(
            [
                tensor("in", (1, 4)),
                tensor("source", (1, 4)),
                constant("sizes", np.array([1, 1, 4], np.int32)),
                tensor("middle", (1, 1, 4)),
                tensor("made", shape),
                tensor("out", shape),
            ],
            [
                operator("RELU", [0], [1]),
                operator("RESHAPE", [1, 2], [3]),
                operator(second, [3], [4]),
                operator("RELU", [4], [5]),
            ],
            [0],
            [5, 3] if seen else [5],
        )
    )
    return Stripped(tree=flatbuffer.unpacked(content))


def names(file: Stripped) -> list[str]:
    return [flatbuffer.operator_name(file.tree, operator) for operator in file.graph.operators]


@pytest.mark.parametrize("second", ["RESHAPE", "SQUEEZE"])
def test_two_that_undo_each_other_go(second):
    file = row(second, (1, 4))
    file.ranges = {3: (0.0, 2.0)}
    join(file)
    assert names(file) == ["RELU", "RELU"]
    assert [int(i) for i in file.graph.operators[1].inputs] == [1]
    assert file.ranges == {1: (0.0, 2.0)}


def test_two_that_do_not_become_one():
    file = row("RESHAPE", (2, 2))
    join(file)
    assert names(file) == ["RELU", "RESHAPE", "RELU"]
    assert int(file.graph.operators[1].inputs[0]) == 1


def test_what_names_axes_of_the_tensor_between_stays():
    file = row("SQUEEZE", (4,))
    join(file)
    assert names(file) == ["RELU", "RESHAPE", "SQUEEZE", "RELU"]


def test_what_somebody_else_reads_or_scales_stays():
    for file in (row("RESHAPE", (1, 4), seen=True), row("RESHAPE", (1, 4))):
        file.ranges = {1: (0.0, 1.0), 3: (0.0, 2.0)} if len(file.graph.outputs) == 1 else {}
        join(file)
        assert names(file) == ["RELU", "RESHAPE", "RESHAPE", "RELU"]
