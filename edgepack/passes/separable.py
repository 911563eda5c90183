"""Standard convolutions become depthwise-separable ones, which cost a fraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgepack.passes import factorise
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.chains import Piece, names, replaced, without
from edgepack.passes.fit import fit, trained
from edgepack.passes.layers import has, values, variable
from edgepack.passes.moments import Linear, regressions
from edgepack.passes.network import Call, Network, read
from edgepack.passes.splits import refusal
from edgepack.spec.fields import FORBID, Count


@dataclass(frozen=True, kw_only=True)
class Options:
    """How near to the standard convolutions.

    ``multiplier``: depthwise filters for each input channel. ``least_inputs``: convolutions of
    fewer input channels stay, because there is little to gain and much to lose. ``refit``: solve
    the pointwise weights for the original outputs by least squares on samples, if there are any.
    The approximation is coarse: let the step train, with the teacher's help.
    """

    __pydantic_config__ = FORBID
    multiplier: Count = 1
    least_inputs: Count = 8
    refit: bool = True


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Replace convolutions by the nearest separable ones, then train if the step trains."""
    network = read(candidate.model)
    chains: dict[str, list[Piece]] = {}
    calls: dict[str, Call] = {}
    changed: list[str] = []
    skipped: dict[str, str] = {}
    for call in network.calls:
        if "Conv" not in type(call.layer).__name__ or call.name in chains:
            continue
        why = "not selected" if not context.select(call.layer) else _refusal(call.layer, options)
        if why is not None:
            skipped[call.name] = why
            continue
        calls[call.name] = call
        chains[call.name], words = _separated(call.layer, names(network, call.name, 2), options)
        changed.append(f"{call.name}: {words}")
    if options.refit and chains:
        if context.samples is None:
            changed.append("pointwise weights not refitted: there are no samples")
        else:
            _refit(network, chains, calls, context.samples)
            changed.append("pointwise weights refitted on samples")
    model = replaced(network, chains)
    constraints, words_lost = without(candidate.constraints, chains)
    history = fit(model, context, label="separable", constraints=constraints)
    return candidate.then(
        "separable",
        model,
        changed=[*changed, *words_lost, *trained(history)],
        skipped=skipped.items(),
        constraints=constraints,
    )


def _refusal(layer: Any, options: Options) -> str | None:
    """Why a convolution stays as it is, or None."""
    why = refusal(layer)
    if why is not None:
        return why.replace("factorised: only Dense, Conv1D, Conv2D are", "a standard convolution")
    *size, inputs, outputs = variable(layer).shape
    area = int(np.prod(size))
    if area == 1:
        return "a pointwise convolution already"
    if inputs < options.least_inputs:
        return f"{inputs} input channels only, least_inputs is {options.least_inputs}"
    if len(set(layer.strides)) > 1:
        return f"its strides {tuple(layer.strides)} differ, a depthwise convolution's cannot"
    if layer.padding == "causal":
        return "causal padding, which a depthwise convolution has not"
    multiplier = min(options.multiplier, area, outputs)
    before, after = area * inputs * outputs, multiplier * inputs * (area + outputs)
    if after >= before:
        return f"a separable one would take {after} MACs a position instead of {before}"
    return None


def _separated(layer: Any, named: Sequence[str], options: Options) -> tuple[list[Piece], str]:
    """The two pieces of a convolution, and what they are in words."""
    import keras

    kernel = values(layer)
    *size, inputs, outputs = kernel.shape
    area = int(np.prod(size))
    multiplier = min(options.multiplier, area, outputs)
    depth, point = factorise.depthwise_pointwise(
        kernel.reshape(area, 1, inputs, outputs), multiplier
    )
    made = np.einsum(
        "kim,imo->kio", depth[:, 0], point.reshape(inputs, multiplier, outputs), optimize=True
    )
    lost = np.square(made - kernel.reshape(made.shape)).sum() / np.square(kernel).sum().clip(1e-12)
    config = layer.get_config()
    kept = ("dtype", "trainable", "kernel_size", "strides", "padding", "dilation_rate")
    first = {key: config[key] for key in kept} | {
        "name": named[0], "depth_multiplier": multiplier, "use_bias": False,
    }  # fmt: skip
    ones = (1,) * len(size)
    second = {
        **config, "name": named[1], "kernel_size": ones, "strides": ones, "padding": "valid",
        "dilation_rate": ones, "kernel_constraint": None,
    }  # fmt: skip
    weights = {"kernel": point} | ({"bias": values(layer, "bias")} if has(layer, "bias") else {})
    depthwise = keras.layers.DepthwiseConv1D if len(size) == 1 else keras.layers.DepthwiseConv2D
    words = (
        f"depthwise ×{multiplier} and pointwise, {kernel.size} → {depth.size + point.size} "
        f"MACs a position, {100 * (1 - lost):.1f} % of the energy kept"
    )
    return [
        Piece(made_of=depthwise, config=first, weights={"kernel": depth}),
        Piece(made_of=type(layer), config=second, weights=weights),
    ], words


def _refit(
    network: Network, chains: dict[str, list[Piece]], calls: Mapping[str, Call], data: Any
) -> None:
    """Solve each pointwise convolution for the original's output, given its depthwise part."""
    linear = Linear()
    depths: dict[str, Any] = {}

    def tap(call: Call, inputs: Sequence[Any]) -> Any:
        if call.name not in chains:
            return None
        piece = chains[call.name][0]
        if call.name not in depths:
            depths[call.name] = piece.built()
        return [depths[call.name](inputs[0]), linear(call, inputs[0])]

    def load() -> None:
        linear.load()
        for name, layer in depths.items():
            chains[name][0].load(layer)

    biased = {name: "bias" in chains[name][1].weights for name in chains}
    for name, (matrix, bias) in regressions(network, tap, load, data, biased).items():
        old = chains[name][1]
        weights = {**old.weights, "kernel": matrix}
        if biased[name]:
            weights["bias"] = old.weights["bias"] + bias
        chains[name][1] = replace(old, weights=weights)
