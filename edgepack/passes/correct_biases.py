"""Biases that make up for rounded weights: each layer's mean answer stays what it was.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", with
means seen on samples. Weights are rounded to the grid that the export uses, so that what the
biases make up for is what the export does, and the export need not correct once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.passes import grid
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.channels import biased
from edgepack.passes.constraints import Constraint
from edgepack.passes.fold import folded, plain
from edgepack.passes.layers import kind, shared_axes, values, variable, weights
from edgepack.passes.network import Call, Network, read
from edgepack.passes.walk import Batches, samples_of, side_by_side
from edgepack.spec.fields import FORBID

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Options:
    """``bits`` that weights are rounded to: by default what the scheme gives each layer."""

    __pydantic_config__ = FORBID
    bits: Literal[4, 8] | None = None


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Fold, round to nearest, correct layer after layer; needs samples, no labels."""
    samples = samples_of(context, "correct-biases")
    made = folded(candidate, context.select)
    network = read(made.model)
    changed, skipped = list(made.changed), list(made.skipped)
    rounded: dict[str, dict[str, NDArray[np.float32]]] = {}
    for layer in (layer for layer in network.layers() if weights(layer)):
        name = next(call.name for call in network.calls if call.layer is layer)
        own = [c for c in made.constraints if c.layer == name]
        found = {} if not plain(layer) else _rounded(layer, options.bits, context)
        why = _refusal(network, layer, found, own, context)
        if why:
            skipped.append((name, why))
        else:
            rounded[name] = found
    other = biased(network, rounded)
    for name, found in rounded.items():
        for weight, kernel in found.items():
            variable(other.get_layer(name), weight).assign(kernel)

    def visit(call: Call, exact: Batches, others: Batches) -> None:
        if call.name not in rounded:
            return
        twin = other.get_layer(call.name)
        before, _ = _moments(call.layer, exact)
        after, spread = _moments(twin, others)
        twin.bias.assign(values(twin, "bias") + (before - after))
        most = float(np.max(np.abs(before - after) / np.maximum(spread, 1e-12)))
        bits = options.bits or grid.bits_of(call.layer, context.scheme)
        changed.append(
            f"{call.name}: weights rounded to {bits} bits, biases moved by up to "
            f"{most:.2g} of their channel's deviation"
        )

    side_by_side(network, other, samples, visit, "correct-biases")
    return candidate.then(
        "correct-biases", other, changed=changed, skipped=skipped, constraints=made.constraints
    )


def _rounded(layer: Any, bits: int | None, context: Context) -> dict[str, NDArray[np.float32]]:
    """The layer's weights on their grids."""
    found = {}
    for name in weights(layer):
        wide = bits or grid.bits_of(layer, context.scheme, name)
        stored = values(layer, name).astype(np.float64)
        step = grid.steps(stored, shared_axes(layer, name, context.alike), wide)
        found[name] = grid.on_grid(stored, step, wide).astype(np.float32)
    return found


def _refusal(
    network: Network,
    layer: Any,
    found: dict[str, NDArray[np.float32]],
    constraints: Sequence[Constraint],
    context: Context,
) -> str:
    """Why a layer is left as it is; empty where it is corrected."""
    if not context.select(layer):
        return "it is not selected"
    if not found:
        return f"{kind(layer)} quantises by itself"
    if network.uses[id(layer)] > 1:
        return "it is shared: its calls would need different biases"
    for constraint in constraints:
        kernel = found[constraint.weight]
        if not np.allclose(np.asarray(constraint.project(kernel)), kernel, rtol=1e-4, atol=0):
            return f"rounding would break its {type(constraint).__name__.lower()}"
    return ""


def _moments(layer: Any, batches: Batches) -> tuple[Floats, Floats]:
    """(mean, standard deviation) of each output channel before the activation."""
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    linear.build(batches[0].shape)
    linear.set_weights(layer.get_weights())
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    total: Any = 0.0
    square: Any = 0.0
    count = 0
    for x in batches:
        out = np.moveaxis(np.asarray(linear(x), np.float64), 1 if first else -1, -1)
        flat = out.reshape(-1, out.shape[-1])
        total, square, count = total + flat.sum(0), square + (flat**2).sum(0), count + len(flat)
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 0.0))
