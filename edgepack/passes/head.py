"""A cheaper head: what a Flatten and a Dense layer do, with fewer weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from edgepack.passes import factorise
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.chains import Piece, names, replaced, without
from edgepack.passes.fit import fit, trained
from edgepack.passes.layers import has, values
from edgepack.passes.moments import Linear, regressions
from edgepack.passes.network import Call, Network, read
from edgepack.spec.fields import FORBID, Count

PASSED = ("Dropout", "Identity", "GaussianNoise", "GaussianDropout")
"""Layers between Flatten and Dense that do nothing in inference."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What comes instead of Flatten and Dense.

    ``average``: the mean over a ``grid`` × ``grid`` of fields (1: of the whole image), so that
    the Dense layer has a weight for each field and channel instead of each pixel and channel.
    It forgets where within a field something is: let the step train. ``refit`` solves the new
    Dense weights for the original outputs by least squares on samples, if there are any.
    ``bottleneck``: a 1×1 convolution before Flatten that keeps the share ``energy`` of the
    Dense weights' energy.
    """

    __pydantic_config__ = FORBID
    style: Literal["average", "bottleneck"] = "average"
    grid: Count = 1
    energy: Annotated[float, Interval(gt=0, le=1)] = 0.9
    refit: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A Flatten, the Dense layer after it, and the shape (\\*size, channels) that is flattened."""

    flatten: Call
    dense: Call
    shape: tuple[int, ...]


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Replace each head where that takes fewer weights and MACs, then train if the step trains."""
    network = read(candidate.model)
    heads: list[Head] = []
    chains: dict[str, list[Piece]] = {}
    changed: list[str] = []
    skipped: list[tuple[str, str]] = []
    for call in network.calls:
        if type(call.layer).__name__ != "Flatten":
            continue
        found = _head(network, call, context)
        made = found if isinstance(found, str) else _made(network, found, options)
        if isinstance(found, str) or isinstance(made, str):
            skipped.append((call.name, str(made)))
            continue
        heads.append(found)
        chains |= made
        old, new = found.dense.layer.kernel.shape, made[found.dense.name][0].weights["kernel"]
        before = " → Flatten → Dense, ".join((str(found.shape), f"{math.prod(old)} weights"))
        chain = " → ".join(piece.made_of.__name__ for piece in made[call.name])
        changed.append(f"{found.dense.name}: {before}; now {chain} → Dense, {new.size} weights")
    if heads and options.style == "average" and options.refit:
        if context.samples is None:
            changed.append("Dense weights are sums over fields: there are no samples to refit on")
        else:
            _refit(network, heads, chains, context.samples)
            changed.append("Dense weights refitted on samples")
    model = replaced(network, chains)
    constraints, lost = without(candidate.constraints, chains)
    history = fit(model, context, label="head", constraints=constraints)
    if history is not None:
        lost += trained(history)
    elif heads and options.style == "average":
        lost.append("this needs training to recover, and the step does not train")
    return candidate.then(
        "head", model, changed=[*changed, *lost], skipped=skipped, constraints=constraints
    )


def _head(network: Network, flatten: Call, context: Context) -> Head | str:
    """The head that begins with a Flatten, or why it stays."""
    source = flatten.inputs[0]
    shape = network.producer(source).shapes[source.place][1:]
    if len(shape) not in (2, 3) or None in shape:
        return f"it flattens {shape}, neither an image nor a signal of a known size"
    if getattr(flatten.layer, "data_format", "channels_last") != "channels_last":
        return "its channels come first"
    call = flatten
    while True:
        users = network.consumers.get(call.output, ())
        if len(users) != 1 or call.output in network.ends or network.uses[id(call.layer)] > 1:
            return f"{call.name} feeds or is used in more than one place"
        call = users[0]
        if type(call.layer).__name__ == "Dense":
            break
        if type(call.layer).__name__ not in PASSED:
            return f"{call.name} ({type(call.layer).__name__}) comes before a Dense layer"
    if network.uses[id(call.layer)] > 1:
        return f"{call.name} is used in more than one place"
    if not (context.select(call.layer) and context.select(flatten.layer)):
        return "not selected"
    if math.prod(size for size in shape[:-1] if size) == 1:
        return f"{shape} has one position: nothing to save"
    return Head(flatten=flatten, dense=call, shape=tuple(size or 1 for size in shape))


def _made(network: Network, head: Head, options: Options) -> dict[str, list[Piece]] | str:
    """The pieces instead of Flatten and instead of Dense, or why they would cost more."""
    import keras

    *size, channels = head.shape
    kernel = values(head.dense.layer).astype(np.float64)
    units = kernel.shape[-1]
    flatten = Piece(made_of=keras.layers.Flatten, config=head.flatten.layer.get_config())
    policy = head.dense.layer.get_config()["dtype"]
    one, two = names(network, head.flatten.name, 2)
    flatten = replace(flatten, config={**flatten.config, "name": two})
    kind = f"{len(size)}D"
    if options.style == "average":
        uneven = [n for n in size if n % options.grid]
        if uneven:
            return f"a size of {uneven[0]} has no grid of {options.grid} equal fields"
        if math.prod(size) == options.grid ** len(size):
            return f"a grid of {options.grid} leaves all its {math.prod(size)} positions"
        if options.grid == 1:
            pooling = getattr(keras.layers, f"GlobalAveragePooling{kind}")
            chain = [Piece(made_of=pooling, config={"name": one, "dtype": policy})]
        else:
            pooling = getattr(keras.layers, f"AveragePooling{kind}")
            fields = tuple(n // options.grid for n in size)
            config = {
                "name": one,
                "dtype": policy,
                "pool_size": fields if kind == "2D" else fields[0],
            }
            chain = [Piece(made_of=pooling, config=config), flatten]
        summed = kernel.reshape(*(m for n in size for m in (options.grid, n // options.grid)), -1)
        summed = summed.sum(axis=tuple(range(1, 2 * len(size), 2)))
        return {
            head.flatten.name: chain,
            head.dense.name: [_dense(head, summed.reshape(-1, units))],
        }
    cube = kernel.reshape(-1, channels, units).transpose(1, 0, 2)
    matrix = cube.reshape(channels, -1)
    lost = factorise.tail(factorise.energies(matrix))
    rank = max(int(np.argmax(lost <= 1 - options.energy + 1e-9)), 1)
    left, right = factorise.svd(matrix, rank)
    if rank * (channels + units) >= channels * units:
        return (
            f"{rank} of {channels} channels keep {100 * options.energy:.0f} % of the energy: "
            f"no cheaper for {units} outputs"
        )
    config = {"name": one, "dtype": policy, "filters": rank, "kernel_size": 1, "use_bias": False}
    convolution = getattr(keras.layers, f"Conv{kind}")
    dense = right.reshape(rank, -1, units).transpose(1, 0, 2).reshape(-1, units)
    return {
        head.flatten.name: [
            Piece(made_of=convolution, config=config, weights={"kernel": left}), flatten,
        ],
        head.dense.name: [_dense(head, dense)],
    }  # fmt: skip


def _dense(head: Head, kernel: Any) -> Piece:
    layer = head.dense.layer
    weights = {"kernel": kernel}
    if has(layer, "bias"):
        weights["bias"] = values(layer, "bias")
    return Piece(
        made_of=type(layer), config=layer.get_config() | {"name": head.dense.name}, weights=weights
    )


def _refit(
    network: Network, heads: Sequence[Head], chains: dict[str, list[Piece]], data: Any
) -> None:
    """Solve each new Dense layer for the original's output, given what comes into it."""
    linear = Linear()
    starts = {head.flatten.name: head.dense.name for head in heads}
    pooled: dict[str, Any] = {}

    def tap(call: Call, inputs: Sequence[Any]) -> Any:
        if call.name in starts:
            tensor = inputs[0]
            for piece in chains[call.name]:
                tensor = piece.built()(tensor)
            pooled[starts[call.name]] = tensor
        if call.name in pooled:
            return [pooled[call.name], linear(call, inputs[0])]
        return None

    biased = {name: "bias" in chains[name][0].weights for name in starts.values()}
    for name, (matrix, bias) in regressions(network, tap, linear.load, data, biased).items():
        old = chains[name][0]
        weights = {**old.weights, "kernel": matrix}
        if biased[name]:
            weights["bias"] = old.weights["bias"] + bias
        chains[name] = [replace(old, weights=weights)]
