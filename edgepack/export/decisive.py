"""The tensors that an export is judged by while it is made: outputs, or a softmax's logits."""

from __future__ import annotations

from edgepack.graph.types import Subgraph

NORMALISERS = frozenset({"SOFTMAX", "LOG_SOFTMAX"})


def decisive(main: Subgraph) -> list[int]:
    """The tensors by which an export is judged: each output, but what enters a final softmax.

    After a softmax nearly all error is that of a few undecided samples, which says little;
    before it every sample speaks.
    """
    makers = {index: operator for operator in main.operators for index in operator.outputs}
    found = []
    for output in main.outputs:
        while output in makers and makers[output].name in ("DEQUANTIZE", "QUANTIZE"):
            output = makers[output].inputs[0]
        maker = makers.get(output)
        found.append(maker.inputs[0] if maker and maker.name in NORMALISERS else output)
    return found


def softmax_inputs(main: Subgraph) -> list[int]:
    """Tensors that only a softmax reads, and that are no outputs."""
    readers: dict[int, list[str]] = {}
    for operator in main.operators:
        for index in operator.inputs:
            readers.setdefault(index, []).append(operator.name)
    return [i for i, names in readers.items() if names == ["SOFTMAX"] and i not in main.outputs]
