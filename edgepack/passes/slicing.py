"""Cutting channels out of a network: the layers' sizes, their weights, constraints on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.constraints import Constraint, Mask, Palette, Signs
from edgepack.passes.layers import CONVOLUTIONS, DENSE, DEPTHWISE, kind, variable
from edgepack.passes.network import Call, Value, rebuild
from edgepack.passes.ties import MAKERS, SEPARABLE
from edgepack.passes.units import Units

Kept = NDArray[np.bool_]
Weights = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""Values in place of a layer's own, before they are cut: layer name → weight name → values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """Which places of one layer's weights stay.

    ``places`` holds, by weight name, one array of indices for each axis that is cut.
    """

    layer: Any
    name: str
    width: int
    places: Mapping[str, Mapping[int, NDArray[np.int64]]]

    def of(self, weight: str, values: NDArray[Any]) -> NDArray[Any]:
        """The values of the weight that stay."""
        for axis, places in self.places.get(weight, {}).items():
            values = np.take(values, places, axis)
        return values

    @property
    def whole(self) -> bool:
        """Whether nothing at all is cut."""
        return all(
            len(places) == variable.shape[axis]
            for variable in self.layer.weights
            for axis, places in self.places.get(variable.name, {}).items()
        )


def cuts(units: Units, kept: Kept) -> dict[int, Cut]:
    """By ``id``, how each layer with weights is cut where only the units ``kept`` stay."""
    found: dict[int, Cut] = {}
    for call in units.network.calls:
        layer = call.layer
        if id(layer) in found or not call.inputs or not getattr(layer, "weights", ()):
            continue
        into, out = kept[units.of[call.inputs[0]]], kept[units.of[call.output]]
        if into.all() and out.all():
            continue
        places = {
            variable.name: dict(_axes(layer, variable, into, out)) for variable in layer.weights
        }
        found[id(layer)] = Cut(layer=layer, name=call.name, width=int(out.sum()), places=places)
    return found


def _axes(
    layer: Any, variable: Any, into: Kept, out: Kept
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(axis, indices that stay) of a weight, for the axes that number channels."""
    rank, name, what = len(variable.shape), variable.name, kind(layer)
    if not rank:
        return
    if name == "kernel" and what in (*CONVOLUTIONS, "Conv3D", *DENSE):
        turned = what in ("Conv1DTranspose", "Conv2DTranspose")
        reading, making = (rank - 1, rank - 2) if turned else (rank - 2, rank - 1)
        yield reading, np.flatnonzero(into[: variable.shape[reading]])  # of a group: its own
        yield making, np.flatnonzero(out)
    elif name == "pointwise_kernel":
        times = variable.shape[rank - 2] // len(into)
        yield rank - 2, np.flatnonzero(np.repeat(into, times))
        yield rank - 1, np.flatnonzero(out)
    elif name == "depthwise_kernel" or (name == "kernel" and what in DEPTHWISE):
        yield rank - 2, np.flatnonzero(into)
    elif variable.shape[-1] == len(out):  # bias, alpha, and what BatchNormalization has
        yield rank - 1, np.flatnonzero(out)


def reading_weight(layer: Any) -> str:
    """The weight through which a layer that makes channels reads those of its input."""
    return "depthwise_kernel" if kind(layer) in SEPARABLE else "kernel"


def reading_axis(layer: Any) -> int:
    """The axis of that weight which numbers the input's channels, those of a group if it has."""
    rank = len(variable(layer, reading_weight(layer)).shape)
    return rank - 1 if kind(layer) in ("Conv1DTranspose", "Conv2DTranspose") else rank - 2


def cut_model(units: Units, kept: Kept, weights: Weights | None = None) -> Any:
    """A new model without the channels of the units that are not ``kept``.

    It computes what the given one would if each layer that reads those channels had zeros in
    their place. ``weights`` replace those of the given model.
    """
    import keras

    found = cuts(units, kept)
    made: dict[int, Any] = {}

    def change(call: Call, inputs: Sequence[Any], clone: Any) -> Any:
        layer = call.layer
        reshaped = kind(layer) == "Reshape" and not kept[units.of[call.output]].all()
        if id(layer) not in found and not reshaped:
            return None
        if id(layer) not in made:
            made[id(layer)] = _copy(call, int(kept[units.of[call.output]].sum()))
        fed = dict(zip(call.inputs, inputs, strict=True))
        args, kwargs = keras.tree.map_structure(
            lambda item: fed[item] if isinstance(item, Value) else item,
            (list(call.args), dict(call.kwargs)),
        )
        return made[id(layer)](*args, **kwargs)

    model = rebuild(units.network, change)
    for key, cut in found.items():
        given = (weights or {}).get(cut.name, {})
        made[key].set_weights(
            [
                cut.of(weight.name, given.get(weight.name, weight.numpy()))
                for weight in cut.layer.weights
            ]
        )
    cut_names = {cut.name for cut in found.values()}
    for name, given in (weights or {}).items():
        for weight, values in given.items() if name not in cut_names else ():
            variable(model.get_layer(name), weight).assign(values)
    return model


def _copy(call: Call, width: int) -> Any:
    layer = call.layer
    config = layer.get_config()
    config["name"] = call.name
    if kind(layer) in DENSE:
        config["units"] = width
    elif kind(layer) in MAKERS:
        config["filters"] = width
    elif kind(layer) == "Reshape":
        config["target_shape"] = (*call.shapes[0][1:-1], width)
    return type(layer).from_config(config)


def cut_constraints(
    constraints: Sequence[Constraint], units: Units, kept: Kept
) -> tuple[tuple[Constraint, ...], list[str]]:
    """The constraints on what stays, and a word on each that can hold no longer."""
    by_name = {cut.name: cut for cut in cuts(units, kept).values()}
    found: list[Constraint] = []
    words: list[str] = []
    for constraint in constraints:
        cut = by_name.get(constraint.layer)
        made = constraint if cut is None or cut.whole else _cut(constraint, cut)
        if made is None:
            words.append(
                f"{constraint.layer}: its {type(constraint).__name__.lower()} on "
                f"{constraint.weight} is given up: cutting took the ends of its scale"
            )
        else:
            found.append(made)
    return tuple(found), words


def _cut(constraint: Constraint, cut: Cut) -> Constraint | None:
    if isinstance(constraint, Mask):
        return replace(constraint, keep=cut.of(constraint.weight, constraint.keep))
    if isinstance(constraint, Signs):
        return replace(constraint, signs=cut.of(constraint.weight, constraint.signs))
    if isinstance(constraint, Palette):
        index = cut.of(constraint.weight, constraint.index)
        if constraint.axes is not None and not _scaled(constraint, index):
            return None
        return replace(constraint, index=index)
    return None


def _scaled(palette: Palette, index: NDArray[np.int32]) -> bool:
    """Whether each channel still has a weight at an end of its scale, or is all zero."""
    ends = (index == 0) | (index == 1)
    empty = (index < 0).all(palette.axes)
    return bool((ends.any(palette.axes) | empty).all())
