"""A layer replaced by a chain of new ones: how factorisations and rewrites enter a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.constraints import Constraint
from edgepack.passes.network import Network, rebuild

LETTERS = "abcdefgh"


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One layer of a chain: a Keras class, its config (with a name), its weights by name."""

    made_of: type
    config: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def built(self) -> Any:
        """A new layer, without its weights as long as it was not called."""
        return self.made_of.from_config(dict(self.config))  # type: ignore[attr-defined]

    def load(self, layer: Any) -> None:
        """Give a layer that was called its weights; those that the piece has not stay."""
        for weight in layer.weights:
            if weight.name in self.weights:
                given = np.asarray(self.weights[weight.name], np.float32)
                weight.assign(given.reshape(weight.shape))


def replaced(network: Network, chains: Mapping[str, Sequence[Piece]]) -> Any:
    """The model with each layer named in ``chains`` replaced; shared ones stay shared.

    An empty chain takes the layer away.
    """
    built: dict[str, list[Any]] = {}

    def change(call: Any, inputs: Sequence[Any], clone: Any) -> Any:
        if call.name not in chains:
            return None
        if call.name not in built:
            built[call.name] = [piece.built() for piece in chains[call.name]]
        tensor = inputs[0]
        for layer in built[call.name]:
            tensor = layer(tensor)
        return tensor

    model = rebuild(network, change)
    for name, layers in built.items():
        for piece, layer in zip(chains[name], layers, strict=True):
            piece.load(layer)
    return model


def names(network: Network, name: str, count: int) -> list[str]:
    """NAME_a, NAME_b, …: names of a chain that no layer bears yet.

    The last of a chain that gives an output of the model is NAME: outputs are named after it.
    """
    taken = {call.name for call in network.calls}
    stem = name
    while any(f"{stem}_{letter}" in taken for letter in LETTERS[:count]):
        stem += "_"
    given = [f"{stem}_{letter}" for letter in LETTERS[:count]]
    ends = any(network.producer(value).name == name for value in network.ends)
    return [*given[:-1], name] if ends else given


def without(
    constraints: Iterable[Constraint], gone: Iterable[str]
) -> tuple[tuple[Constraint, ...], list[str]]:
    """The constraints of layers that are still there, and words for those that were dropped."""
    gone = set(gone)
    kept = tuple(c for c in constraints if c.layer not in gone)
    lost = [c for c in constraints if c.layer in gone]
    words = [
        f"{c.layer}: its {type(c).__name__.lower()} of {c.weight} ended with the layer"
        for c in lost
    ]
    return kept, words
