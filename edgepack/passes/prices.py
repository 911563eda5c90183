"""What a network costs as a function of how many of its channels stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.layers import CONVOLUTIONS, DENSE, DEPTHWISE, kind
from edgepack.passes.network import Call, Value
from edgepack.passes.ties import SEPARABLE
from edgepack.passes.units import Units

Of = Literal["macs", "params", "bytes", "arena"]
Counts = NDArray[np.int64]
FLOAT_BYTES = 4
IN_PLACE = ("Activation", "ReLU", "LeakyReLU", "ELU", "BatchNormalization", "Flatten", "Reshape",
            "Dropout", "Identity", "Relu", "Relu6")  # fmt: skip
"""Layers that the exported model fuses or computes where their input lies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prices:
    """The cost of a network: the largest of its ``moments``, each a sum of terms.

    A term is a factor times the widths of one or two values: (moment, factor, value, value);
    the last value's width is always 1. MACs and parameters have one moment, the arena has one
    for each call, where what lives then is counted. A value's width is ``fixed`` plus ``times``
    times how many units of each group stay.
    """

    fixed: Counts
    times: Counts
    terms: tuple[tuple[int, float, int, int], ...]

    def moments(self, counts: Counts) -> NDArray[np.float64]:
        """(moments, candidates) for ``counts`` (groups, candidates)."""
        widths = (self.fixed[:, None] + self.times @ counts).astype(np.float64)
        moment, factor, a, b = (np.array(column) for column in zip(*self.terms, strict=True))
        made = factor[:, None] * widths[a] * widths[b]
        sums = np.zeros((int(moment.max()) + 1, counts.shape[1]))
        np.add.at(sums, moment, made)
        return sums

    def total(self, counts: Counts) -> float:
        """The cost when ``counts`` units of each group stay."""
        return float(self.moments(counts[:, None]).max())

    def excess(self, counts: Counts, limit: float) -> NDArray[np.float64]:
        """By how much each candidate is above the limit, in all its moments together."""
        above: NDArray[np.float64] = np.maximum(self.moments(counts) - limit, 0.0).sum(0)
        return above


def prices(units: Units, of: Of) -> Prices:
    """What the network of ``units`` costs.

    MACs: of convolutions and Dense layers. ``params``: of their kernels and biases; ``bytes``:
    those in float. ``arena``: bytes of the float tensors that live at once.
    """
    values = list(units.of)
    place = {value: index for index, value in enumerate(values)}
    times = np.zeros((len(values) + 1, len(units.groups)), np.int64)
    fixed = np.zeros(len(values) + 1, np.int64)
    fixed[-1] = 1
    free = np.full(units.count, -1)
    for index, group in enumerate(units.groups):
        free[group] = index
    for value, ids in units.of.items():
        groups = free[ids]
        fixed[place[value]] = int((groups < 0).sum())
        found = np.bincount(groups[groups >= 0], minlength=len(units.groups))
        times[place[value]] = found // np.array([max(len(g), 1) for g in units.groups])
    made: list[tuple[int, float, int, int]] = []
    if of == "arena":
        made.extend(_arena(units, place))
    else:
        scale = FLOAT_BYTES if of == "bytes" else 1
        seen: set[int] = set()
        for call in units.network.calls:
            if of == "macs":
                parts = list(_macs(units, call))
            else:
                parts = [] if id(call.layer) in seen else list(_parameters(call))
                seen.add(id(call.layer))
            for factor, a, b in parts:
                made.append(
                    (0, scale * factor, place[a], place[b] if b is not None else len(values))
                )
    return Prices(
        fixed=fixed, times=times, terms=tuple(made) or ((0, 0.0, len(values), len(values)),)
    )


def _positions(shape: tuple[int | None, ...]) -> int:
    """Samples a channel of a tensor holds; open sizes count as 1."""
    return prod(size or 1 for size in shape[1:-1])


def _terms(call: Call, before: int, after: int) -> Iterator[tuple[float, Value, Value | None]]:
    """Factors and widths of a layer's kernel, applied ``before`` or ``after`` times."""
    layer, what = call.layer, kind(call.layer)
    given, out = call.inputs[:1], call.output
    if what in (*CONVOLUTIONS, "Conv3D"):
        turned = what in ("Conv1DTranspose", "Conv2DTranspose")
        groups = getattr(layer, "groups", 1)
        yield prod(layer.kernel_size) * (before if turned else after) / groups, given[0], out
    elif what in DEPTHWISE:
        yield prod(layer.kernel_size) * after, out, None
    elif what in SEPARABLE:
        times = layer.depth_multiplier
        yield prod(layer.kernel_size) * after * times, given[0], None
        yield after * times, given[0], out
    elif what in DENSE:
        yield after, given[0], out


def _macs(units: Units, call: Call) -> Iterator[tuple[float, Value, Value | None]]:
    if call.inputs:
        given = call.inputs[0]
        before = units.network.producer(given).shapes[given.place]
        yield from _terms(call, _positions(before), _positions(call.shapes[0]))


def _parameters(call: Call) -> Iterator[tuple[float, Value, Value | None]]:
    yield from _terms(call, 1, 1)
    if getattr(call.layer, "use_bias", False) or kind(call.layer) == "BatchNormalization":
        yield 1, call.output, None  # a BatchNormalization is exported as a bias


def _arena(units: Units, place: dict[Value, int]) -> Iterator[tuple[int, float, int, int]]:
    """One moment a call: the tensors that are alive then."""
    network = units.network
    home: dict[Value, Value] = {}
    last: dict[Value, int] = {}
    for call in network.calls:
        for value in call.inputs:
            last[home[value]] = call.index
        for index in range(len(call.shapes)):
            value = Value(call.index, index)
            home[value] = home[call.inputs[0]] if kind(call.layer) in IN_PLACE else value
            last.setdefault(home[value], call.index)
    for value in network.ends:
        last[home[value]] = len(network.calls)
    for call in network.calls:
        for value, end in last.items():
            if value.call <= call.index <= end:
                shape = network.producer(value).shapes[value.place]
                size = FLOAT_BYTES * _positions(shape)
                yield call.index, size, place[value], len(place)
