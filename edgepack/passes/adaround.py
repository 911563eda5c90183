"""Weights rounded up or down by what each layer answers, not by the nearest integer.

Nagel et al. 2020. Layer by layer, from what the layers already rounded pass on to what the float
layer answers after its activation. The weights come to lie on the grid that the export uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from edgepack.passes import grid, patches, rounding
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.channels import biased
from edgepack.passes.constraints import Mask
from edgepack.passes.fold import folded, plain
from edgepack.passes.layers import has, kind, operator, values, variable, weights
from edgepack.passes.network import Call, Network, read
from edgepack.passes.walk import Batches, samples_of, side_by_side
from edgepack.spec.fields import FORBID, Count, NotNegative, Positive

MOST_BYTES = 1 << 26
MOST_PRODUCTS = 10**12
BENDS = ("relu", "relu6", "leaky_relu", "elu", "silu", "gelu", "hard_silu")
ACTIVATIONS = ("ReLU", "LeakyReLU", "ELU", "Activation")


@dataclass(frozen=True, kw_only=True)
class Options:
    """``bits`` of the weights: by default what the scheme gives each layer, 8 of a mixed one.

    Each layer is learned in ``iterations`` updates, fewer where it has millions of weights, of
    ``batch`` rows, drawn from ``rows`` positions of its output, at a ``learning_rate``; ``pull``
    weighs how strongly undecided weights are drawn to up or down.
    """

    __pydantic_config__ = FORBID
    bits: Literal[4, 8] | None = None
    iterations: Count = 1000
    rows: Count = 16384
    batch: Count = 256
    learning_rate: Positive = 0.1
    pull: NotNegative = 10.0


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Fold, then round each selected layer; needs samples, no labels."""
    samples = samples_of(context, "adaround")
    made = folded(candidate, context.select)
    network = read(made.model)
    bound = {c.layer for c in made.constraints if not isinstance(c, Mask)}
    changed, skipped = list(made.changed), list(made.skipped)
    why = {
        call.name: _refusal(call, context, bound) for call in network.calls if weights(call.layer)
    }
    skipped += [(name, reason) for name, reason in why.items() if reason]
    other = biased(network, {name for name, reason in why.items() if not reason})

    def visit(call: Call, exact: Batches, rounded: Batches) -> None:
        if why[call.name]:
            return
        bits = options.bits or grid.bits_of(call.layer, context.scheme)
        task = _task(network, call, exact, rounded, bits, options, context)
        affordable = MOST_PRODUCTS // (options.batch * task.weights.size)
        effort = rounding.Effort(
            iterations=max(min(options.iterations, affordable), 1),
            rate=options.learning_rate,
            pull=options.pull,
            batch=options.batch,
            seed=context.seed,
        )
        found = rounding.learned(task, effort)
        kernel = (found.integers * task.step).astype(np.float32)
        twin = other.get_layer(call.name)
        variable(twin).assign(patches.kernel_of(call.layer, kernel, variable(twin).shape))
        twin.bias.assign(found.bias)
        moved = np.count_nonzero(found.integers != rounding.nearest(task))
        changed.append(
            f"{call.name}: {bits} bits, {moved / kernel.size:.1%} of its weights not to the nearest"
            f" integer, output error {found.nearest:.3g} → {found.learned:.3g}"
        )

    side_by_side(network, other, samples, visit, "adaround")
    return candidate.then(
        "adaround", other, changed=changed, skipped=skipped, constraints=made.constraints
    )


def _refusal(call: Call, context: Context, bound: set[str]) -> str:
    """Why a layer is left as it is; empty where it is rounded."""
    if not context.select(call.layer):
        return "it is not selected"
    if not plain(call.layer):
        return f"{kind(call.layer)} quantises by itself"
    if call.name in bound:
        return "it has a palette or signs, which rounding would break"
    return patches.refusal(call.layer)


def _task(
    network: Network,
    call: Call,
    exact: Batches,
    rounded: Batches,
    bits: int,
    options: Options,
    context: Context,
) -> rounding.Task:
    """What the layer is to answer, at positions drawn from all samples alike."""
    layer = call.layer
    kernel = values(layer)
    made = patches.matrices(layer, kernel)
    bias = (
        values(layer, "bias")
        if has(layer, "bias")
        else np.zeros(made.shape[0] * made.shape[2], np.float32)
    )
    most = max(MOST_BYTES // (4 * made.shape[0] * made.shape[1]), options.batch)
    each = -(-min(options.rows, most) // len(exact))
    rng = np.random.default_rng((context.seed, 11, call.index))
    taken: tuple[list[Any], list[Any]] = ([], [])
    for one, two in zip(exact, rounded, strict=True):
        chosen = patches.positions(layer, one.shape, each, rng)
        for part, x in zip(taken, (one, two), strict=True):
            part.append(patches.rows(layer, np.asarray(x, np.float32), chosen))
    before, after = (np.concatenate(part) for part in taken)
    axes = (0, 1, 2) if operator(layer) in context.alike else (1,)
    return rounding.Task(
        weights=made,
        step=grid.steps(made.astype(np.float64), axes, bits).astype(np.float32),
        top=grid.largest_integer(bits),
        bias=bias,
        inputs=after,
        answers=rounding.linear(before, made, bias),
        activation=bend(network, call),
    )


def bend(network: Network, call: Call) -> Callable[[Any], Any]:
    """The activation that a layer's answers are compared after: its own, or the next layer's.

    None for a softmax or sigmoid, whose small errors hide large ones.
    """
    import keras

    straight: Callable[[Any], Any] = keras.activations.linear
    own: Callable[[Any], Any] = call.layer.activation
    if own is not straight:
        return own if getattr(own, "__name__", "") in BENDS else straight
    users = network.consumers.get(call.output, ())
    if len(users) == 1 and call.output not in network.ends and kind(users[0].layer) in ACTIVATIONS:
        after: Any = users[0].layer
        if kind(after) != "Activation" or getattr(after.activation, "__name__", "") in BENDS:
            return cast("Callable[[Any], Any]", after)
    return straight
