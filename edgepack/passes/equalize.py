"""Channels of unlike size made alike: a scale moves from one layer into the next.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction". The
float answers stay the same, but the ranges that integers must cover get narrower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.model.data import Data
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.channels import kernel_name, over_channels
from edgepack.passes.fold import folded
from edgepack.passes.layers import has, is_depthwise, values, variable
from edgepack.passes.network import Call, Network, read, rebuild
from edgepack.passes.pairs import Pair, by_input, entry, outputs, pairs
from edgepack.passes.taps import Tapped
from edgepack.passes.walk import BATCH, Batches, samples_of, side_by_side
from edgepack.spec.fields import FORBID, Count, Fraction

LEAST = 1 / 64
CLOSE = 1e-3
SIX = 6 - 1e-6
MOST_BATCHES = 8
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Options:
    """``by`` says what is made alike.

    ``weights``: the largest weight of a channel in both layers (Nagel et al.), which helps where
    layers share one scale. ``activations``: the largest value that passes between the layers,
    seen on samples, against the weights that it meets (Xiao et al. 2022), which helps where
    weights have a scale per channel. ``rounds`` limits the passes over all pairs.

    ``relu6 = "replace"`` makes a ReLU of a ReLU6 that stands between two layers, if at most
    ``clipped`` of the values on samples are cut at 6; the answers then change a little.
    """

    __pydantic_config__ = FORBID
    by: Literal["weights", "activations"] = "activations"
    rounds: Count = 20
    relu6: Literal["keep", "replace"] = "keep"
    clipped: Fraction = 0.001


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What passes between two layers: the largest magnitude per channel that enters the second.

    ``cut`` is the largest share of values that a ReLU6 between them cuts.
    """

    largest: Floats
    cut: float = 0.0


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Fold, then equalise every pair of selected layers."""
    made = folded(candidate, context.select)
    network = read(made.model)
    found, skipped = pairs(network, context.select, made.constraints)
    changed = list(made.changed)
    skipped = [*made.skipped, *skipped]
    seen: dict[str, Seen] = {}
    if found and (options.by == "activations" or options.relu6 == "replace"):
        seen = _seen(network, found, context)
    straight, cuts = [], set()
    for pair in found:
        if pair.cuts and options.relu6 == "keep":
            skipped.append((pair.first.name, "ReLU6 follows; it may be replaced by option relu6"))
        elif pair.cuts and seen[pair.second.name].cut > options.clipped:
            share = seen[pair.second.name].cut
            skipped.append((pair.first.name, f"ReLU6 follows and cuts {share:.2%} of the values"))
        else:
            straight.append(pair)
            cuts |= {id(call.layer) for call in pair.cuts}
            changed.extend(f"{call.name}: ReLU6 → ReLU" for call in pair.cuts)
    model = rebuild(network, _uncut(cuts))
    factors = _equalised(model, straight, seen if options.by == "activations" else {}, options)
    for pair, factor in zip(straight, factors, strict=True):
        changed.append(
            f"{pair.first.name} → {pair.second.name}: {len(factor)} channels scaled by "
            f"{factor.min():.3g} to {factor.max():.3g}"
        )
    # positive scales per output channel keep zeros, signs and palettes in units of a channel
    return candidate.then(
        "equalize", model, changed=changed, skipped=skipped, constraints=made.constraints
    )


def _seen(network: Network, found: Sequence[Pair], context: Context) -> dict[str, Seen]:
    """What enters the second layer of each pair, by its name."""
    channels = {pair.second.name: outputs(pair.first.layer) for pair in found}
    seen: dict[str, Seen] = {}
    model, samples = rebuild(network), samples_of(context, "equalize")
    shares = _cut(model, [call.name for pair in found for call in pair.cuts], samples)
    cuts = {
        pair.second.name: max((shares[call.name] for call in pair.cuts), default=0.0)
        for pair in found
    }

    def visit(call: Call, exact: Batches, _: Batches) -> None:
        if call.name in channels:
            parts = [np.abs(np.asarray(x)).reshape(-1, channels[call.name]) for x in exact]
            largest = np.max([part.max(0) for part in parts], 0).astype(np.float64)
            seen[call.name] = Seen(largest=largest, cut=cuts[call.name])

    side_by_side(network, model, samples, visit, "equalize")
    return seen


def _cut(model: Any, names: Sequence[str], samples: Data) -> dict[str, float]:
    """The share of each layer's values that are at 6 or more, before any pooling after it."""
    if not names:
        return {}
    tapped = Tapped(model, names)
    batches = islice(samples.batches(BATCH), MOST_BATCHES)
    counts = [
        [(float((np.asarray(x) >= SIX).sum()), x.shape.num_elements()) for x in made]
        for made in (tapped(batch.x, training=False)[1] for batch in batches)
    ]
    return {
        name: sum(row[place][0] for row in counts) / sum(row[place][1] for row in counts)
        for place, name in enumerate(names)
    }


def _uncut(cuts: set[int]) -> Callable[[Call, Sequence[Any], Callable[[Any], Any]], Any]:
    """The change that makes ReLU of the ReLU6 layers with these ids."""

    def change(call: Call, inputs: Sequence[Any], clone: Callable[[Any], Any]) -> Any:
        if id(call.layer) not in cuts:
            return None
        layer = clone(call.layer)
        if hasattr(layer, "max_value"):
            layer.max_value = None
        else:
            import keras

            layer.activation = keras.activations.relu
        return layer(inputs[0])

    return change


def _equalised(
    model: Any, found: Sequence[Pair], seen: Mapping[str, Seen], options: Options
) -> list[Floats]:
    """Each pair's factors per channel, after the model's weights were scaled by them."""
    factors = [np.ones(outputs(pair.first.layer)) for pair in found]
    kernels = _Kernels(model)
    for _ in range(options.rounds):
        most = 0.0
        for place, pair in enumerate(found):
            known = seen.get(pair.second.name)
            if known is None:
                factor = kernels.by_weights(pair)
            else:
                factor = kernels.by_activations(pair, known.largest / factors[place])
            kernels.move(pair, factor)
            factors[place] = factors[place] * factor
            most = max(most, float(np.abs(np.log(factor)).max()))
        if most < CLOSE:
            break
    kernels.store()
    return factors


class _Kernels:
    """The weights of a model's layers while scales move between them, in double precision."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.held: dict[tuple[str, str], Floats] = {}

    def get(self, call: Call, name: str) -> Floats:
        key = (call.name, name)
        if key not in self.held:
            self.held[key] = values(self.model.get_layer(call.name), name).astype(np.float64)
        return self.held[key]

    def entering(self, pair: Pair) -> Floats:
        """The second layer's weights, its input channels on axis 1."""
        kernel = self.get(pair.second, entry(pair.second.layer))
        return by_input(pair.second.layer, kernel, outputs(pair.first.layer))

    def by_weights(self, pair: Pair) -> Floats:
        """sqrt(r1 / r2) of both layers' largest weights per channel; 1 for dead channels."""
        name = kernel_name(pair.first.layer)
        channel = over_channels(
            pair.first.layer, np.arange(outputs(pair.first.layer), dtype=np.float64)
        )
        kernel = np.abs(self.get(pair.first, name))
        numbers = np.broadcast_to(channel, kernel.shape).astype(np.int64)
        first = np.zeros(channel.size)
        np.maximum.at(first, numbers.reshape(-1), kernel.reshape(-1))
        second = np.abs(self.entering(pair)).max((0, 2))
        alive = (first > 0) & (second > 0)
        made: Floats = np.where(alive, np.sqrt(first / np.where(alive, second, 1.0)), 1.0)
        return made

    def by_activations(self, pair: Pair, largest: Floats) -> Floats:
        """The root of what passes over what it meets; all of it where that has its own scale."""
        size = np.maximum(largest, LEAST * max(float(largest.max()), 1e-30))
        factor = size
        if not is_depthwise(pair.second.layer, entry(pair.second.layer)):
            kernel = np.abs(self.entering(pair))
            whole = np.maximum(kernel.max((0, 1), keepdims=True), 1e-30)
            meets = (kernel / whole).max((0, 2))
            factor = np.sqrt(size / np.maximum(meets, LEAST))
        made: Floats = factor / np.exp(np.log(factor).mean())
        return made

    def move(self, pair: Pair, factor: Floats) -> None:
        """Divide the first layer's outputs, multiply the second's inputs."""
        name = kernel_name(pair.first.layer)
        self.get(pair.first, name)[...] /= over_channels(pair.first.layer, factor)
        if has(pair.first.layer, "bias"):
            self.get(pair.first, "bias")[...] /= factor
        self.entering(pair)[...] *= factor[:, None]

    def store(self) -> None:
        """Write the weights into the model."""
        for (layer, name), kernel in self.held.items():
            variable(self.model.get_layer(layer), name).assign(kernel.astype(np.float32))
