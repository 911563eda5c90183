"""Which tensor of an exported file is which of the float model's, and what layer made it.

First by name, for the quantiser keeps names; then through QUANTIZE and DEQUANTIZE, which change a
tensor's type alone; what is left by the order of like operators, since converters fuse and rename.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping

from edgepack.errors import ModelError
from edgepack.export.check import BRIDGES
from edgepack.export.plan import tags
from edgepack.graph.parse import parse
from edgepack.graph.types import Operator, Subgraph
from edgepack.model.load import Model

NO_NUMBERS = frozenset({"string", "resource", "variant", "complex64", "complex128"})
FUSED = frozenset(
    {"Activation", "BatchNormalization", "Dropout", "Functional", "LeakyReLU", "ReLU", "Sequential"}
    | {"Softmax", "ZeroPadding1D", "ZeroPadding2D"}
)
"""Classes of layers that the converter fuses with the one before or behind, and of models."""
UNRELATED = "give the model that the file was exported from"


def pairs(reference: Subgraph, exported: Subgraph) -> dict[int, int]:
    """Exported tensor → the float model's; both computed or fed, as many values, one meaning."""
    known = {
        reference.tensors[index].name: index
        for index in _alive(reference)
        if reference.tensors[index].dtype not in NO_NUMBERS and not reference.tensors[index].dynamic
    }
    wanted = set(known.values())
    found = dict(zip(exported.inputs, reference.inputs, strict=False))
    found |= dict(zip(exported.outputs, reference.outputs, strict=False))
    for index in _alive(exported):
        if (same := known.get(exported.tensors[index].name)) is not None:
            found.setdefault(index, same)
    _cross_bridges(exported, found)
    _by_order(reference, exported, found, wanted)
    _cross_bridges(exported, found)
    return {
        index: other
        for index, other in found.items()
        if other in wanted
        and exported.tensors[index].elements == reference.tensors[other].elements
        and not exported.tensors[index].constant
    }


def _alive(main: Subgraph) -> list[int]:
    """The tensors that are fed or computed."""
    return [*main.inputs, *(index for operator in main.operators for index in operator.outputs)]


def _cross_bridges(exported: Subgraph, found: dict[int, int]) -> None:
    """Both sides of a change of type mean the same tensor."""
    bridges = [operator for operator in exported.operators if operator.name in BRIDGES]
    for operator in bridges:
        if operator.inputs[0] in found:
            found.setdefault(operator.outputs[0], found[operator.inputs[0]])
    for operator in reversed(bridges):
        if operator.outputs[0] in found and not exported.tensors[operator.inputs[0]].constant:
            found.setdefault(operator.inputs[0], found[operator.outputs[0]])


def _by_order(
    reference: Subgraph, exported: Subgraph, found: dict[int, int], wanted: set[int]
) -> None:
    """Operators of one kind and shape, in one order, that are not matched by name."""
    taken = set(found.values())
    ours = [o for o in _computing(exported) if o.outputs[0] not in found]
    theirs = [
        o for o in _computing(reference) if o.outputs[0] in wanted and o.outputs[0] not in taken
    ]
    matcher = difflib.SequenceMatcher(
        a=[_kind(exported, operator) for operator in ours],
        b=[_kind(reference, operator) for operator in theirs],
        autojunk=False,
    )
    for start, other, size in matcher.get_matching_blocks():
        for step in range(size):
            found[ours[start + step].outputs[0]] = theirs[other + step].outputs[0]


def _kind(main: Subgraph, operator: Operator) -> tuple[object, ...]:
    return (operator.name, main.tensors[operator.outputs[0]].shape)


def _computing(main: Subgraph) -> list[Operator]:
    return [o for o in main.operators if o.outputs and o.name not in BRIDGES]


def labels(main: Subgraph, layers: Mapping[str, str]) -> dict[int, str]:
    """What each operator of the float model is called: its Keras layer, else its own best name.

    Each name is one that a recipe's selection can match. A fused operator is called after the
    layer that computes, not after its activation; where there is no Keras layer the rarest of an
    operator's names wins.
    """
    tagged = tags(main, layers)
    counts = Counter(tag for own in tagged.values() for tag in own)

    def merit(tag: str) -> tuple[bool, bool, int, int, str]:
        fused = layers.get(tag, "") in FUSED
        return tag not in layers, fused, counts[tag], -len(tag), tag

    return {
        index: min((t for t in own if not t.startswith("@")), key=merit, default=min(own))
        for index, own in tagged.items()
    }


def check_related(content: bytes, model: Model, name: str) -> None:
    """Raises ModelError where a file's inputs and outputs cannot be the model's."""
    main = parse(content, name).main
    for what, indices, specs in (
        ("inputs", main.inputs, model.inputs),
        ("outputs", main.outputs, model.outputs),
    ):
        ours = sorted(tuple(abs(s) for s in main.tensors[i].shape[1:]) for i in indices)
        theirs = sorted(tuple(spec.shape[1:]) for spec in specs)
        if ours != theirs:
            raise ModelError(
                f"{name} was not made from {model.path}: its {what} are {_told(ours)}, "
                f"the model's {_told(theirs)}",
                UNRELATED,
            )


def _told(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("×".join(map(str, shape)) or "scalar" for shape in shapes) or "none"
