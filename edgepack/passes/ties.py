"""How channels go through a network: what layers make, pass on, join, reorder, read or pin.

A rule for each kind of layer gives the channels (along the last axis) of its output from those of
its inputs. Whatever is not known here pins its channels, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgepack.passes.layers import CONVOLUTIONS, DENSE, DEPTHWISE, kind
from edgepack.passes.network import Call, Network, Value
from edgepack.passes.units import Atoms, Ids, Units

SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
MAKERS = (*CONVOLUTIONS, "Conv3D", *SEPARABLE, *DENSE)
"""Layers that read all channels of their input and make new ones."""

LEARNED_PASSING = ("BatchNormalization", "PReLU")
POOLINGS = ("Max", "Average", "GlobalMax", "GlobalAverage")
SPATIAL = ("ZeroPadding", "Cropping", "UpSampling", "SpatialDropout")
PASSING = frozenset(
    {
        *(f"{what}Pooling{rank}D" for what in POOLINGS for rank in (1, 2, 3)),
        *(f"{what}{rank}D" for what in SPATIAL for rank in (1, 2, 3)),
        *("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
        *("ActivityRegularization", "Identity", "RepeatVector"),
        *("ReLU", "LeakyReLU", "ELU", "Resizing"),
        *LEARNED_PASSING,
        # operations between layers: one value at a time
        *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Sigmoid", "Tanh"),
        *("HardSigmoid", "HardSilu", "HardTanh", "LogSigmoid", "Softplus", "Softsign", "Mish"),
        *("Absolute", "Abs", "Negative", "Square", "Sqrt", "Rsqrt", "Exp", "Log"),
    }
)  # fmt: skip
JOINING = frozenset(
    {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Divide", "TrueDivide"}
)
SINGLE = frozenset(
    {
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish"),
        *("sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "tanh", "hard_tanh", "log_sigmoid"),
        *("softplus", "softsign", "exponential", "mish", "tanh_shrink", "hard_shrink", "threshold"),
        *("soft_shrink", "squareplus", "sparse_plus", "sparse_sigmoid"),
    }
)
"""Activations that look at one channel at a time."""
WEIGHTS = frozenset(
    {
        *("kernel", "bias", "depthwise_kernel", "pointwise_kernel", "alpha"),
        *("gamma", "beta", "moving_mean", "moving_variance"),
    }
)


def trace(network: Network, may_cut: Callable[[Any], bool]) -> Units:
    """The units of a network; the channels that layers make stay unless ``may_cut`` (layer)."""
    return _Walk(network, may_cut).units()


class _Walk:
    """One walk through a network, in the order of its calls."""

    def __init__(self, network: Network, may_cut: Callable[[Any], bool]) -> None:
        self.network, self.may_cut = network, may_cut
        self.atoms = Atoms()
        self.of: dict[Value, Ids] = {}
        self.seen: dict[int, tuple[Ids, Ids]] = {}
        self.makers: list[Call] = []

    def units(self) -> Units:
        """Walk, pin what the model returns, and number the units."""
        for call in self.network.calls:
            given = [self.of[value] for value in call.inputs]
            if not call.inputs:
                made = [self.fresh(shape, "they are the model's input") for shape in call.shapes]
            else:
                made = self.rule(call)(call, given)
                if any(
                    len(ids) != (_width(shape))
                    for ids, shape in zip(made, call.shapes, strict=True)
                ):
                    made = self.unknown(call, given)
            for place, ids in enumerate(made):
                self.of[Value(call.index, place)] = ids
        for value in self.network.ends:
            name = self.network.producer(value).name
            self.atoms.pin(self.of[value], f"its channels are the model's output '{name}'")
        return self.atoms.units(self.network, self.of, tuple(self.makers))

    def rule(self, call: Call) -> Callable[[Call, Sequence[Ids]], list[Ids]]:
        """How the call's output channels come from its inputs'."""
        layer, what = call.layer, kind(call.layer)
        if len(call.shapes) > 1 or not _plain(call):
            return self.unknown
        if what in MAKERS:
            return self.make
        if what in DEPTHWISE:
            return self.deepen
        if what in PASSING or (what == "Activation" and _single(layer)):
            return self.keep
        if what == "Rescaling" and np.ndim(layer.scale) == np.ndim(layer.offset) == 0:
            return self.keep
        if what in JOINING and (len(call.inputs) > 1 or len(call.args) > 1):
            return self.join
        if what == "Concatenate":
            return self.concatenate
        if what in ("Flatten", "Reshape", "Permute") and hasattr(layer, "trainable"):
            return self.reorder
        if what in ("Mean", "Max") and _spatial(layer, call):
            return self.keep
        return self.unknown

    def unknown(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """Everything stays."""
        why = f"{call.name} ({kind(call.layer)}) needs all its channels as they are"
        for ids in given:
            self.atoms.pin(ids, why)
        return [self.fresh(shape, why) for shape in call.shapes]

    def make(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """New channels; in a grouped convolution those at one place of each group are tied."""
        layer, (ids,) = call.layer, given
        groups = getattr(layer, "groups", 1)
        if not len(ids):
            return self.unknown(call, given)
        if id(layer) in self.seen:
            return self.again(call, given)
        for group in ids.reshape(groups, -1):
            self.atoms.tie(ids[: len(group)], group)
        out = np.tile(self.atoms.new(call.shapes[0][-1] // groups), groups)  # type: ignore[operator]
        self.seen[id(layer)] = (ids, out)
        self.makers.append(call)
        if not self.may_cut(layer):
            self.atoms.pin(out, "the step's selection leaves it out")
        if not _single(layer) and call.output not in self.network.ends:
            self.atoms.pin(out, "its activation mixes its channels")
        return [out]

    def deepen(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """A depthwise convolution: each channel becomes ``depth_multiplier`` ones."""
        if not _single(call.layer):
            return self.unknown(call, given)
        return self.learned(call, given, int(call.layer.depth_multiplier))

    def keep(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """The same channels."""
        if len(given) > 1:
            return self.unknown(call, given)
        if kind(call.layer) in LEARNED_PASSING:
            axis = getattr(call.layer, "axis", -1)
            if axis not in (-1, len(call.shapes[0]) - 1):
                return self.unknown(call, given)
            return self.learned(call, given, 1)
        return [given[0]]

    def learned(self, call: Call, given: Sequence[Ids], times: int) -> list[Ids]:
        """The same channels, each ``times``, with weights of their own."""
        if id(call.layer) in self.seen:
            return self.again(call, given)
        out = np.repeat(given[0], times)
        self.seen[id(call.layer)] = (given[0], out)
        return [out]

    def again(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """A shared layer: its input's channels are tied to those of its first use."""
        ids, out = self.seen[id(call.layer)]
        self.atoms.tie(ids, given[0])
        return [out]

    def join(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """Value by value: channels at the same place are tied; one that is spread stays."""
        width = max(len(ids) for ids in given)
        spread = [ids for ids in given if len(ids) != width]
        if not width or any(len(ids) != 1 for ids in spread):
            return self.unknown(call, given)
        for ids in spread:
            self.atoms.pin(ids, f"{call.name} spreads it over {width} channels")
        full = [ids for ids in given if len(ids) == width]
        for ids in full[1:]:
            self.atoms.tie(full[0], ids)
        return [full[0]]

    def concatenate(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """Channels one after the other; along another axis they are tied."""
        rank = len(call.shapes[0])
        if not all(len(ids) for ids in given):
            return self.unknown(call, given)
        if call.layer.axis in (-1, rank - 1):
            return [np.concatenate(list(given))]
        return self.join(call, given)

    def reorder(self, call: Call, given: Sequence[Ids]) -> list[Ids]:
        """Flatten, Reshape, Permute: works where each last index still is one channel."""
        before, after = self.network.producer(call.inputs[0]), call.shapes[0][1:]
        shape = before.shapes[call.inputs[0].place][1:]
        if None in shape or None in after or not len(given[0]) or not after:
            return self.unknown(call, given)
        full = np.broadcast_to(given[0], shape)  # type: ignore[arg-type]
        if kind(call.layer) == "Permute":
            full = full.transpose([axis - 1 for axis in call.layer.dims])
        rows = full.reshape(-1, after[-1])  # type: ignore[arg-type]
        if not (rows == rows[0]).all():
            return self.unknown(call, given)
        if kind(call.layer) == "Reshape" and self.network.uses[id(call.layer)] > 1:
            self.atoms.tie_all(given[0])  # one target shape for all uses
        return [np.array(rows[0])]

    def fresh(self, shape: Sequence[int | None], why: str) -> Ids:
        """Channels that stay."""
        return self.atoms.pin(self.atoms.new(_width(shape)), why)


def _width(shape: Sequence[int | None]) -> int:
    """Channels of a tensor: 0 where it has no last axis, or an open one."""
    return (shape[-1] or 0) if len(shape) > 1 else 0


def _plain(call: Call) -> bool:
    """Whether channels are last, weights are known and constant arguments are single numbers."""
    layer = call.layer
    if getattr(layer, "data_format", None) == "channels_first":
        return False
    weights = getattr(layer, "weights", ())
    if any(weight.name not in WEIGHTS and np.prod(weight.shape) > 1 for weight in weights):
        return False
    extras = [item for item in (*call.args, *call.kwargs.values()) if not isinstance(item, Value)]
    return all(np.ndim(item) == 0 or _values_only(item) for item in extras if item is not None)


def _values_only(item: Any) -> bool:
    return isinstance(item, list | tuple) and all(isinstance(part, Value) for part in item)


def _single(layer: Any) -> bool:
    """Whether the layer's activation looks at one channel at a time."""
    found = layer.activation
    return getattr(found, "__name__", "") in SINGLE or kind(found) in ("ReLU", "LeakyReLU", "ELU")


def _spatial(layer: Any, call: Call) -> bool:
    """Whether a reduction leaves the last axis alone."""
    rank = len(call.shapes[0]) + (0 if layer.keepdims else np.size(layer.axis))
    axes = np.atleast_1d(layer.axis if layer.axis is not None else -1)
    return bool(all(0 < axis % rank < rank - 1 for axis in axes))
