"""Reshapes in a row, where a fake-quant node between kept the converter from joining them.

A Conv1D is a convolution between two reshapes; of two in a row, those in the middle undo each
other. A tensor that only they pass through costs a copy and its bytes in the arena.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.export import flatbuffer
from edgepack.export.stripping import Stripped

RESHAPES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})


def join(file: Stripped) -> None:
    """Join each reshape with the one before it, in place; what then changes nothing goes."""
    for operator in list(file.graph.operators):
        if _name(file, operator) not in RESHAPES:
            continue
        maker = _maker(file, int(operator.inputs[0]))
        if maker is not None and _name(file, maker) in RESHAPES:
            _join(file, maker, operator)


def _join(file: Stripped, first: Any, second: Any) -> None:
    """Let the second reshape read what the first one reads, where nobody else needs the first."""
    graph = file.graph
    source, middle = int(first.inputs[0]), int(first.outputs[0])
    made = int(second.outputs[0])
    if _is_seen(file, middle) or len(_users(file, middle)) > 1:
        return
    found = [file.ranges[i] for i in (source, middle, made) if i in file.ranges]
    if any(limits != found[0] for limits in found):
        return  # each has a scale of its own: they are no mere reshapes
    undone = _shape(file, source) == _shape(file, made) and not _is_seen(file, made)
    if not undone and _name(file, second) != "RESHAPE":
        return  # its axes are those of the tensor between
    if found:
        file.ranges[source] = found[0]
    file.ranges.pop(middle, None)
    graph.operators.remove(first)
    second.inputs = np.array([source, *second.inputs[1:]], np.int32)
    if undone:
        file.ranges.pop(made, None)
        graph.operators.remove(second)
        for operator in graph.operators:
            operator.inputs = np.where(operator.inputs == made, source, operator.inputs)


def _name(file: Stripped, operator: Any) -> str:
    return flatbuffer.operator_name(file.tree, operator)


def _maker(file: Stripped, index: int) -> Any:
    makers = [o for o in file.graph.operators if index in [int(i) for i in o.outputs]]
    return makers[0] if makers else None


def _users(file: Stripped, index: int) -> list[Any]:
    return [o for o in file.graph.operators if index in [int(i) for i in o.inputs]]


def _is_seen(file: Stripped, index: int) -> bool:
    """Whether the graph's caller reads or writes the tensor."""
    return index in [int(i) for i in (*file.graph.inputs, *file.graph.outputs)]


def _shape(file: Stripped, index: int) -> list[int]:
    return [int(size) for size in file.graph.tensors[index].shape]
