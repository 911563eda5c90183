"""An exported file and its float model side by side: which operator is which, which run alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.errors import ModelError
from edgepack.export import dissect, flatbuffer
from edgepack.export.check import BRIDGES
from edgepack.export.convert import to_float
from edgepack.export.decisive import softmax_inputs
from edgepack.export.failure import layer_names
from edgepack.export.match import UNRELATED, check_related, labels, pairs
from edgepack.graph.parse import FOREIGN, parse
from edgepack.graph.types import Operator, Subgraph
from edgepack.model.load import Model

TOO_FEW = 0.5
"""A file of whose operators less than this share is in the float model is another model's."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An operator of the exported file, its ``twin`` in the float model, and their layer.

    ``reads`` are the layers whose tensors it reads.
    """

    operator: Operator
    twin: Operator
    layer: str
    reads: tuple[str, ...] = ()

    @property
    def index(self) -> int:
        """The exported operator's."""
        return self.operator.index


@dataclass(frozen=True, kw_only=True)
class Two:
    """Both files, and which tensor of the exported one is which of the float one.

    ``places`` are the operators that are looked at, ``lone`` those of them that can be run alone
    and ``twins`` those whose float operator reads the same tensors. ``logits`` are the float
    model's tensors that only a softmax reads.
    """

    model: Model
    runtime: str
    content: bytes
    floats: bytes
    exported: Subgraph
    reference: Subgraph
    same: Mapping[int, int]
    places: tuple[Place, ...]
    lone: tuple[Place, ...]
    twins: tuple[Place, ...]
    logits: frozenset[int]

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The exported operators without a like, by operator and output."""
        matched = {place.index for place in self.places}
        return tuple(
            f"{operator.name} {self.exported.tensors[operator.outputs[0]].name}"
            for operator in _computing(self.exported)
            if operator.index not in matched
        )


def side_by_side(model: Model, content: bytes, name: str, runtime: str) -> Two:
    """Both files, matched. Raises ModelError where ``content`` was not made from ``model``."""
    check_related(content, model, name)
    try:
        content = flatbuffer.completed(content, model)
    except FOREIGN as error:  # the schema's accessors check nothing
        raise ModelError(f"{name}: a damaged model ({error})", UNRELATED) from error
    floats = to_float(model)
    exported, reference = parse(content, name).main, parse(floats, model.name).main
    same = pairs(reference, exported)
    named = labels(reference, layer_names(model))
    makers = {index: o for o in reference.operators for index in o.outputs}
    places, lone, twins = [], [], []
    for operator in _computing(exported):
        other = makers.get(same.get(operator.outputs[0], -1))
        if other is None or reference.tensors[other.outputs[0]].dtype != "float32":
            continue
        reads = [same.get(slot.tensor) for slot in dissect.slots(exported, [operator])]
        place = Place(
            operator=operator,
            twin=other,
            layer=named[other.index],
            reads=tuple(
                dict.fromkeys(
                    named[makers[i].index] for i in reads if i is not None and i in makers
                )
            ),
        )
        places.append(place)
        if None in reads or not dissect.can_stand_alone(exported, operator):
            continue
        lone.append(place)
        theirs = [slot.tensor for slot in dissect.slots(reference, [other])]
        if reads == theirs and dissect.can_stand_alone(reference, other):
            twins.append(place)
    if len(places) < TOO_FEW * len(_computing(exported)):
        raise ModelError(
            f"{name} was not made from {model.path}: of its {len(_computing(exported))} operators "
            f"{len(places)} are in the float model",
            UNRELATED,
        )
    return Two(
        model=model,
        runtime=runtime,
        content=content,
        floats=floats,
        exported=exported,
        reference=reference,
        same=same,
        places=tuple(places),
        lone=tuple(lone),
        twins=tuple(twins),
        logits=frozenset(softmax_inputs(reference)),
    )


def _computing(main: Subgraph) -> list[Operator]:
    """The operators that are more than a change of type."""
    return [o for o in main.operators if o.outputs and o.name not in BRIDGES]
