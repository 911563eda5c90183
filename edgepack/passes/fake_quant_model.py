"""A network with fake-quant layers in it: made, given its first ranges, and finished."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgepack.events import step as progress
from edgepack.model.data import Data
from edgepack.model.keras_file import packed
from edgepack.passes.fake_quant import flattened
from edgepack.passes.fake_quant_layers import LAYERS
from edgepack.passes.fake_quant_range import FakeQuantRange, FreezableBatchNormalization
from edgepack.passes.layers import KERNELS, kind, values, variable
from edgepack.passes.network import Call, Clone, Network, Value, rebuild
from edgepack.passes.placement import FUSED, function, ranged, source

OBSERVED = 512
"""At most so many samples, spread over the data, give the first ranges."""
SHRINKS = np.linspace(1.0, 0.3, 36)


class Wishes(Protocol):
    """The pass's options, as far as they concern the layers."""

    @property
    def ranges(self) -> str:
        """``learned`` or ``moving-average``."""
        ...

    def shares(self, name: str) -> bool:
        """Whether a kernel has one step for the whole tensor."""
        ...


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The model, its range layers by the name of what they round, its kernels, its norms."""

    model: Any
    ranges: dict[str, Any]
    kernels: Sequence[Any]
    norms: Sequence[Any]
    skipped: Sequence[tuple[str, str]]


def placed(
    network: Network,
    wishes: Wishes,
    bits: tuple[int, int],
    *,
    select: Callable[[Any], bool],
    patterned: Collection[str],
    freezes: bool,
) -> Placed:
    """A new model of the network with fake-quant layers.

    ``bits`` are those of weights and activations. The kernels of layers in ``patterned`` have
    palettes: their ranges are not learned, so that all channels round a palette alike.
    """
    placer = _Placer(
        network=network,
        wishes=wishes,
        bits=bits,
        select=select,
        patterned=patterned,
        freezes=freezes,
        places=ranged(network),
        taken={call.name for call in network.calls},
    )
    model = rebuild(network, placer.change)
    for old, new in placer.made.values():
        for weight in old.weights:
            variable(new, weight.name).assign(weight.value)
    kernels = [new for _, new in placer.made.values() if hasattr(new, "weight_bits")]
    for layer in kernels:
        _first_clip(layer)
    norms = [new for _, new in placer.made.values() if isinstance(new, FreezableBatchNormalization)]
    return Placed(
        model=model,
        ranges=placer.ranges,
        kernels=kernels,
        norms=norms,
        skipped=tuple(placer.skipped.items()),
    )


@dataclass(kw_only=True)
class _Placer:
    """``rebuild``'s change; remembers what it made."""

    network: Network
    wishes: Wishes
    bits: tuple[int, int]
    select: Callable[[Any], bool]
    patterned: Collection[str]
    freezes: bool
    places: frozenset[Value]
    taken: set[str]
    ranges: dict[str, Any] = field(default_factory=dict)
    made: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    entries: dict[Value, Any] = field(default_factory=dict)
    layers: dict[Value, Any] = field(default_factory=dict)

    def change(self, call: Call, inputs: Sequence[Any], clone: Clone) -> Any:
        given = {
            value: self._entry(value, tensor)
            for value, tensor in zip(call.inputs, inputs, strict=True)
        }

        def fill(item: Any) -> Any:
            return given[item] if isinstance(item, Value) else item

        layer, last = self._layer(call, clone), function(call.layer)
        args = keras.tree.map_structure(fill, call.args)
        made = layer(*args, **keras.tree.map_structure(fill, dict(call.kwargs)))
        if kind(call.layer) in KERNELS and last not in (None, *FUSED):
            made = self._range(call.name, made)
            own = keras.layers.Activation(call.layer.activation, name=self._name(call.name, last))
            made = own(made)
        flat = keras.tree.flatten(made)
        flat = [
            self._rounded(call, Value(call.index, place), tensor)
            for place, tensor in enumerate(flat)
        ]
        return keras.tree.pack_sequence_as(made, flat)

    def _rounded(self, call: Call, value: Value, tensor: Any) -> Any:
        """A result in its own range, in its source's, or as it is."""
        if value in self.places:
            return self._range(call.name, tensor, value)
        shared = self.layers.get(source(self.network, call, self.places) or value)
        return tensor if shared is None else shared(tensor, follow=False)

    def _entry(self, value: Value, tensor: Any) -> Any:
        """A model's input, rounded once for all its consumers; anything else as it is."""
        call = self.network.producer(value)
        if kind(call.layer) != "InputLayer" or value not in self.places:
            return tensor
        if value not in self.entries:
            self.entries[value] = self._range(call.name, tensor, value)
        return self.entries[value]

    def _range(self, name: str, tensor: Any, value: Value | None = None) -> Any:
        if not str(tensor.dtype).startswith("float"):
            return tensor
        own = self._name(name, "range")
        layer = FakeQuantRange(bits=self.bits[1], learned=self.wishes.ranges == "learned", name=own)
        self.ranges[own] = layer
        if value is not None:
            self.layers[value] = layer
        return layer(tensor)

    def _name(self, name: str, ending: str | None) -> str:
        found, count = f"{name}_{ending}", 1
        while found in self.taken:
            found, count = f"{name}_{ending}_{count}", count + 1
        self.taken.add(found)
        return found

    def _layer(self, call: Call, clone: Clone) -> Any:
        """The new model's layer of a call."""
        old = call.layer
        if id(old) in self.made:
            return self.made[id(old)][1]
        why = self._why_not(old)
        if why:
            self.skipped[call.name] = why
        if kind(old) in KERNELS and (why is None or type(old).__name__ == kind(old)):
            new = self._kernel(call, fake=why is None)
        elif type(old) is keras.layers.BatchNormalization and self.freezes:
            new = FreezableBatchNormalization.from_config({**old.get_config(), "name": call.name})
        else:
            return clone(old)
        self.made[id(old)] = old, new
        return new

    def _kernel(self, call: Call, *, fake: bool) -> Any:
        """A layer with a kernel, without an activation that is no part of its operator."""
        old = call.layer
        config = {**old.get_config(), "name": call.name}
        if function(old) not in (None, *FUSED):
            config["activation"] = "linear"
        if not fake:
            return type(old).from_config(config)
        what = kind(old)
        four = self.bits[0] == 4 and what in ("Conv1D", "Conv2D", "Dense")
        config |= {
            "weight_bits": 4 if four else 8,
            "per_tensor": self.wishes.shares(call.name) or (four and what == "Dense"),
            "learned": self.wishes.ranges == "learned" and call.name not in self.patterned,
        }
        return LAYERS[what].from_config(config)

    def _why_not(self, layer: Any) -> str | None:
        """Why the weights of a layer that has some are not fake-quantised."""
        if not getattr(layer, "weights", None) or kind(layer) == "BatchNormalization":
            return None
        after = "the export quantises its weights as they are"
        if kind(layer) not in LAYERS:
            return f"a {kind(layer)} has no fake-quantised form: {after}"
        if type(layer).__name__ != kind(layer):
            return f"{type(layer).__name__} makes its kernel in its own way: {after}"
        if not self.select(layer):
            return f"not among the step's layers: {after}"
        return None


def observe(made: Placed, data: Data) -> None:
    """Give each range layer the extremes of its input over the data, spread over its length."""
    if len(data) > OBSERVED:
        data = data.select(np.linspace(0, len(data) - 1, OBSERVED).astype(np.int64))
    seen: dict[str, list[float]] = {name: [0.0, 0.0] for name in made.ranges}

    def watcher(name: str) -> Callable[[Any], Any]:
        def watch(inputs: Any) -> Any:
            ends = seen[name]
            ends[0] = min(ends[0], float(tf.reduce_min(inputs)))
            ends[1] = max(ends[1], float(tf.reduce_max(inputs)))
            return inputs

        return watch

    for name, layer in made.ranges.items():
        layer.watcher = watcher(name)
    try:
        with progress("observe ranges", total=len(data)) as advance:
            for batch in data.batches(32):
                made.model(packed(made.model, [tf.constant(x) for x in batch.x]), training=False)
                advance(len(batch.x[0]))
    finally:
        for layer in made.ranges.values():
            layer.watcher = None
    for name, layer in made.ranges.items():
        layer.set_range(*seen[name])


def _first_clip(layer: Any) -> None:
    """The share of its largest weight at which a kernel of few bits has the least error."""
    flat = flattened(layer.kernel.value, layer.edgepack_kind).numpy()
    if layer.weight_bits < 8:
        layer.kernel_clip.assign(least_error_clip(flat, layer.weight_bits, layer.per_tensor))
    if layer.kernel_high is not None:
        learned, layer.kernel_high = layer.kernel_high, None
        learned.assign(layer.top())
        layer.kernel_high = learned


def least_error_clip(flat: NDArray[np.float32], bits: int, per_tensor: bool) -> NDArray[np.float32]:
    """Of each channel (the last axis) or of all, the share of the range worth keeping."""
    steps = 2 ** (bits - 1) - 1
    axes = None if per_tensor else tuple(range(flat.ndim - 1))
    whole = np.maximum(np.abs(flat).max(axes, keepdims=True), 1e-12)
    best = np.ones_like(whole)
    least = np.full_like(whole, np.inf)
    for share in SHRINKS:
        size = whole * share / steps
        rounded = np.clip(np.rint(flat / size), -steps, steps) * size
        error = ((rounded - flat) ** 2).sum(axes, keepdims=True)
        best, least = np.where(error < least, share, best), np.minimum(error, least)
    found: NDArray[np.float32] = best.reshape(() if per_tensor else (-1,)).astype(np.float32)
    return found


def finish(made: Placed) -> list[str]:
    """Round the kernels for good, in place; what was done, a line for each layer.

    Zeros, palettes and signs outlive the rounding: equal weights stay equal.
    """
    lines = []
    for layer in made.kernels:
        layer.kernel.assign(layer.rounded())
        layer.kernel_clip.assign(tf.ones_like(layer.kernel_clip.value))
        distinct = len(np.unique(values(layer)))
        steps = "one step" if layer.per_tensor else f"{layer.top().shape[0]} channels' steps"
        lines.append(
            f"{layer.name}: kernel in {layer.weight_bits} bits, {steps}, {distinct} values"
        )
    for name, layer in made.ranges.items():
        layer.active.assign(1.0)
        low, high = (float(end) for end in layer.ends())
        lines.append(f"{name}: {low:.4g} to {high:.4g} in {layer.bits} bits")
    return lines
