"""What the removed channels told their readers, told by those that stay, and by biases.

Each removed channel is about a constant plus a linear combination of the channels that stay at
the same position, fitted by least squares on data (as ThiNet's reconstruction, Luo et al. 2017,
but of the input). The combination goes into the reader's kernel, the constant into its bias, or
into the mean of the BatchNormalization that follows. At padded edges it is not exact.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.model.data import Data
from edgepack.passes.importance import batches
from edgepack.passes.layers import has, kind, values
from edgepack.passes.network import Call, rebuild
from edgepack.passes.taps import forward
from edgepack.passes.units import Units

Repair = Literal["none", "mean", "regress"]
READERS = ("Conv1D", "Conv2D", "Conv3D", "Dense")
BATCH = 32
MOST_CHANNELS = 2048
ROWS_A_CHANNEL = 4
RIDGE = 1e-4


@dataclass(eq=False)
class _Seen:
    """Sums over samples and positions of a reader's input channels and of their products."""

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]


def compensated(
    units: Units,
    kept: NDArray[np.bool_],
    repair: Repair,
    data: Data,
    samples: int,
    bound: Collection[str] = (),
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """New weights, by layer and weight name, whole: to be cut with the model's own.

    Kernels of the layers named in ``bound`` keep constraints, so only their biases are mended.
    """
    taps: list[tuple[Call, Any]] = []

    def change(call: Call, inputs: Sequence[Any], clone: Any) -> None:
        if _suits(units, call) and not kept[units.of[call.inputs[0]]].all():
            taps.append((call, inputs[0]))

    model = rebuild(units.network, change)
    if repair == "none" or not taps:
        return {}
    seen = _look(model, taps, data, samples)
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for call, _ in taps:
        if call.name in found:
            continue
        stays = kept[units.of[call.inputs[0]]]
        way = "mean" if call.name in bound else repair
        mixing, constant = _explain(seen[call.name], stays, way, _place(units, call) is not None)
        kernel = values(call.layer).astype(np.float64)
        lost = kernel[..., ~stays, :]
        kernel[..., stays, :] += np.einsum("...ro,rk->...ko", lost, mixing)
        made = found.setdefault(call.name, {})
        made["kernel"] = kernel.astype(np.float32)
        shift = constant @ lost.reshape(-1, *lost.shape[-2:]).sum(0)
        place = _place(units, call)
        if place is not None:
            layer, weight, sign = place
            old = found.get(layer.name, {}).get(weight, values(layer.layer, weight))
            found.setdefault(layer.name, {})[weight] = (old + sign * shift).astype(np.float32)
    return found


def _suits(units: Units, call: Call) -> bool:
    """Whether a call reads all channels of its input at once, and not too many."""
    return (
        kind(call.layer) in READERS
        and getattr(call.layer, "groups", 1) == 1
        and len(units.of[call.inputs[0]]) <= MOST_CHANNELS
    )


def _look(
    model: Any, taps: Sequence[tuple[Call, Any]], data: Data, samples: int
) -> dict[str, _Seen]:
    """What the readers see; a shared one over all its uses."""
    import keras
    import tensorflow as tf

    inputs = keras.Model(model.inputs, [tensor for _, tensor in taps])
    seen: dict[str, _Seen] = {}
    for x, _ in batches(data, samples, BATCH):
        outputs = forward(inputs, [tf.constant(array) for array in x], training=False)
        for (call, _), output in zip(taps, outputs, strict=True):
            rows = output.numpy().reshape(-1, output.shape[-1]).astype(np.float64)
            width = rows.shape[1]
            found = seen.setdefault(call.name, _Seen(0, np.zeros(width), np.zeros((width, width))))
            found.count += len(rows)
            found.total += rows.sum(0)
            found.products += rows.T @ rows
    return seen


def _explain(
    seen: _Seen, stays: NDArray[np.bool_], repair: Repair, constants: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mixing, constant): removed channels ≈ mixing @ kept ones + constant.

    Without ``constants`` there is no place for them.
    """
    mean = seen.total / seen.count if constants else np.zeros(len(stays))
    none = np.zeros((int((~stays).sum()), int(stays.sum())))
    if repair == "mean" or seen.count < ROWS_A_CHANNEL * stays.sum():
        return none, mean[~stays]
    spread = seen.products / seen.count - np.outer(mean, mean)
    inner = spread[np.ix_(stays, stays)]
    scale = np.trace(inner) / len(inner)
    if scale <= 0:
        return none, mean[~stays]
    inner = inner + RIDGE * scale * np.eye(len(inner))
    mixing = np.linalg.solve(inner, spread[np.ix_(stays, ~stays)]).T
    return mixing, mean[~stays] - mixing @ mean[stays]


def _place(units: Units, call: Call) -> tuple[Call, str, float] | None:
    """Where a constant goes that is added to the call's linear output: (call, weight, sign)."""
    if has(call.layer, "bias"):
        return call, "bias", 1.0
    network = units.network
    after = [
        reader
        for use in network.calls
        if use.layer is call.layer
        for reader in network.consumers.get(use.output, ())
    ]
    norm = after[0] if after else None
    if (
        norm is None
        or kind(norm.layer) != "BatchNormalization"
        or getattr(call.layer.activation, "__name__", "") != "linear"
        or any(reader.layer is not norm.layer for reader in after)
        or len(after) != network.uses[id(norm.layer)]
        or any(use.output in network.ends for use in network.calls if use.layer is call.layer)
    ):
        return None
    return norm, "moving_mean", -1.0
