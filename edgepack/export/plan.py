"""Which scheme each operator gets: one for all, or by the recipe's layer selections.

A selection's regular expression must match the whole of one of an operator's tags: the names of
the Keras layers in its scope (``conv2d_1``), each part of its output tensors' names, its
operator (``@CONV_2D``), and ``@first`` and ``@last`` for the first and the last operator that
has weights. The first selection that matches wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgepack.errors import SpecError
from edgepack.export.failure import layer_of, suffixed
from edgepack.graph.types import Operator, Subgraph
from edgepack.spec.recipe import Recipe

CARRIERS = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"}
)


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """One operator of the float model and its scheme; ``scope`` as litert-quantizer names it."""

    op: str
    scope: str
    scheme: str


def assigned(main: Subgraph, recipe: Recipe, layers: Mapping[str, str]) -> list[Assigned]:
    """The scheme of each operator of a float subgraph; ``layers`` are the Keras layers' names.

    Raises SpecError for a selection that selects nothing.
    """
    if recipe.scheme != "mixed":
        return [_one(main, operator, recipe.scheme) for operator in main.operators]
    patterns = [re.compile(selection.layers) for selection in recipe.mixed]
    used: set[int] = set()
    made = []
    labels = tags(main, layers)
    for operator in main.operators:
        hits = [
            place
            for place, pattern in enumerate(patterns)
            if any(pattern.fullmatch(tag) for tag in labels[operator.index])
        ]
        used |= set(hits)
        scheme = recipe.mixed[hits[0]].scheme if hits else recipe.otherwise
        made.append(_one(main, operator, scheme))
    for place, selection in enumerate(recipe.mixed):
        if place not in used:
            known = ", ".join(sorted(layers)) or ", ".join(sorted(set().union(*labels.values())))
            raise SpecError(
                f"recipe {recipe.id}: the selection '{selection.layers}' matches no layer",
                f"it must match a whole name; there are: {known[:300]}",
            )
    return made


def tags(main: Subgraph, layers: Mapping[str, str]) -> dict[int, set[str]]:
    """What each operator can be selected by."""
    heavy = [o.index for o in main.operators if _has_weights(main, o)]
    known = dict(layers)
    renamed = suffixed((name for o in main.operators for name in _names(main, o)), known)
    found: dict[int, set[str]] = {}
    for operator in main.operators:
        parts = re.split(r"[/;:]", ";".join(_names(main, operator)))
        made_by = {part: layer_of(part, known, renamed=renamed) for part in parts if part}
        # Where scopes were renamed, one may be called as another layer is.
        own = {part for part, layer in made_by.items() if part not in known or part == layer}
        own |= {layer for layer in made_by.values() if layer} | {f"@{operator.name}"}
        if heavy and operator.index == heavy[0]:
            own.add("@first")
        if heavy and operator.index == heavy[-1]:
            own.add("@last")
        found[operator.index] = own
    return found


def _has_weights(main: Subgraph, operator: Operator) -> bool:
    constants = [main.tensors[i] for i in operator.inputs[1:] if i >= 0]
    return operator.name in CARRIERS and any(tensor.constant for tensor in constants)


def _names(main: Subgraph, operator: Operator) -> list[str]:
    return [main.tensors[index].name for index in operator.outputs if index >= 0]


def _one(main: Subgraph, operator: Operator, scheme: str) -> Assigned:
    scope = "".join(f"{name};" for name in _names(main, operator))
    return Assigned(op=operator.name, scope=scope, scheme=scheme)
