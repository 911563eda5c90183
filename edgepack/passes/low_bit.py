"""Weights of one or two bits: a sign pattern times a scale, trained straight through.

What ``binary`` and ``ternary`` share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Constraint, Mask, Palette, Signs
from edgepack.passes.fit import fit, told
from edgepack.passes.latent import Latent, Shadow
from edgepack.passes.layers import is_depthwise, kind, shared_axes, values, variable, weights
from edgepack.passes.network import Network, read, rebuild
from edgepack.spec.fields import FORBID, Fraction

Coarse = Callable[[Any, Any, tuple[int, ...]], Any]
"""(weights, 1 where they may be other than 0, axes that share a scale) → pattern times scale."""
STEPS = 20
"""In which the share of coarse weights grows, so that the training settles in between."""


@dataclass(frozen=True, kw_only=True)
class LowBit:
    """Which layers, and how they get there.

    The weighted layers next to the model's inputs and outputs stay as they are unless ``first``
    and ``last`` are true, depthwise ones unless ``depthwise`` is. ``scales``: one for each output
    ``channel`` or one a ``tensor``, for runtimes whose Dense layers have no more. During the first
    fraction ``ramp`` of the training ever more of the weights are coarse: ``gradual`` ``weights``
    takes the largest of every layer first (Zhou et al. 2017), ``layers`` one layer after another
    from the input on, ``blend`` mixes both kinds of weights, ``none`` makes all coarse at once.
    """

    __pydantic_config__ = FORBID
    first: bool = False
    last: bool = False
    depthwise: bool = False
    scales: Literal["channel", "tensor"] = "channel"
    gradual: Literal["none", "layers", "weights", "blend"] = "blend"
    ramp: Fraction = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A weight to make coarse: its Keras layer and name, the axes of those with one scale, and 1
    where an earlier mask keeps it, else 0."""

    layer: Any
    weight: str
    axes: tuple[int, ...]
    keep: NDArray[np.float32]


def run(
    name: str,
    candidate: Candidate,
    options: LowBit,
    context: Context,
    coarse: Coarse,
    *,
    zeros: bool,
) -> Candidate:
    """A copy of the model with coarse weights and ``Signs`` that keep them.

    ``zeros`` says whether ``coarse`` knows zeros, so that masked layers can have it.
    """
    import tensorflow as tf

    model = rebuild(read(candidate.model))
    skipped: list[tuple[str, str]] = []
    targets = list(_targets(model, options, context, candidate.constraints, skipped, zeros))
    shadows = []
    for target in targets:

        def made(values: Any, target: Target = target) -> Any:
            return coarse(values, tf.constant(target.keep), target.axes)

        shadows.append(Shadow(variable=variable(target.layer, target.weight), coarse=made))
    names = {(target.layer.name, target.weight) for target in targets}
    others = [c for c in candidate.constraints if (c.layer, c.weight) not in names]
    guide = Latent(
        shadows, _share(options, len(shadows)), MIXES[options.gradual], identity=repr(options)
    )
    history = fit(model, context, label=name, constraints=others, guides=[guide])
    guide.finish()
    signs = [_signs(target) for target in targets]
    return candidate.then(
        name,
        model,
        changed=[*(_described(found) for found in signs), *told(history)],
        skipped=skipped,
        constraints=[*others, *signs],
    )


def _targets(
    model: Any,
    options: LowBit,
    context: Context,
    constraints: Sequence[Constraint],
    skipped: list[tuple[str, str]],
    zeros: bool,
) -> Iterator[Target]:
    """The weights to make coarse; the layers that are left go to ``skipped``."""
    edge = edges(read(model))
    for layer in model.layers:
        found = [c for c in constraints if c.layer == layer.name]
        if not weights(layer):
            if any(len(weight.shape) > 1 for weight in layer.trainable_weights):
                skipped.append((layer.name, f"{kind(layer)} keeps its weights"))
            continue
        ends = [end for end in edge.get(layer.name, ()) if not getattr(options, end)]
        if not context.select(layer):
            skipped.append((layer.name, "not selected"))
        elif ends:
            skipped.append((layer.name, f"the {ends[0]} weighted layer: set {ends[0]} = true"))
        else:
            for name in weights(layer):
                bound = [c for c in found if c.weight == name]
                if why := _reason(layer, name, bound, options, zeros):
                    skipped.append((layer.name, why))
                    continue
                shape = variable(layer, name).shape
                whole = options.scales == "tensor"
                masks = [c.keep for c in bound if isinstance(c, Mask)]
                yield Target(
                    layer=layer,
                    weight=name,
                    axes=tuple(range(len(shape))) if whole else shared_axes(layer, name),
                    keep=np.asarray(masks[0] if masks else np.ones(shape), np.float32),
                )


def _reason(
    layer: Any, name: str, bound: Sequence[Constraint], options: LowBit, zeros: bool
) -> str | None:
    """Why a weight stays as it is."""
    if is_depthwise(layer, name) and not options.depthwise:
        return "depthwise weights are few and each counts: set depthwise = true"
    if any(isinstance(c, Palette) for c in bound):
        return "its weights share a palette, which signs would undo"
    if not zeros and any(isinstance(c, Mask) for c in bound):
        return "its pruned weights are zero, which binary ones cannot be: use ternary"
    if not zeros and any(isinstance(c, Signs) and not c.signs.all() for c in bound):
        return "it is ternary already"
    return None


def edges(network: Network) -> dict[str, list[str]]:
    """Weighted layers' names → ``first`` where no weighted one is before it, ``last`` if behind."""
    weighted = {call.index for call in network.calls if weights(call.layer)}
    before: dict[int, bool] = {}
    for call in network.calls:
        before[call.index] = any(
            value.call in weighted or before[value.call] for value in call.inputs
        )
    behind: dict[int, bool] = {call.index: False for call in network.calls}
    for call in reversed(network.calls):
        for value in call.inputs:
            behind[value.call] |= call.index in weighted or behind[call.index]
    found: dict[str, list[str]] = {}
    for call in network.calls:
        if call.index in weighted:
            ends = [("first", before), ("last", behind)]
            found.setdefault(call.name, []).extend(n for n, has in ends if not has[call.index])
    return found


def _share(options: LowBit, count: int) -> Callable[[int, int], list[float]]:
    """How much of each of ``count`` weights is coarse after ``done`` of ``total`` updates."""

    def share(done: int, total: int) -> list[float]:
        ramp = options.ramp * total
        whole = 1.0 if options.gradual == "none" or done >= ramp else done / ramp
        if options.gradual == "layers":
            return [float(whole * count >= place + 1) for place in range(count)]
        return [math.floor(whole * STEPS) / STEPS] * count

    return share


def _largest_first(latent: Any, coarse: Any, share: Any) -> Any:
    """Coarse where the latent weights are the ``share`` largest of their tensor."""
    import tensorflow as tf

    found = tf.sort(tf.reshape(tf.abs(latent), [-1]))
    size = tf.size(found)
    left = tf.cast(tf.round((1.0 - share) * tf.cast(size, share.dtype)), tf.int32)
    bound = tf.where(left > 0, found[tf.maximum(left - 1, 0)], -1.0)
    return tf.where(tf.abs(latent) > bound, coarse, latent)


def _blended(latent: Any, coarse: Any, share: Any) -> Any:
    return latent + share * (coarse - latent)


def _whole(latent: Any, coarse: Any, share: Any) -> Any:
    import tensorflow as tf

    return tf.where(share >= 1.0, coarse, latent)


MIXES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "none": _whole,
    "layers": _whole,
    "weights": _largest_first,
    "blend": _blended,
}


def _signs(target: Target) -> Signs:
    signs = np.sign(values(target.layer, target.weight)).astype(np.int8)
    return Signs(layer=target.layer.name, weight=target.weight, signs=signs, axes=target.axes)


def _described(signs: Signs) -> str:
    name = signs.layer if signs.weight == "kernel" else f"{signs.layer} {signs.weight}"
    size, zeros = signs.signs.size, int((signs.signs == 0).sum())
    count = size // math.prod(signs.signs.shape[axis] for axis in signs.axes)
    scales = "one scale" if count == 1 else f"{count} scales"
    rest = f", {100 * zeros / size:.1f} % of them zero" if zeros else ""
    return f"{name}: {size} weights are signs times {scales}{rest}"
