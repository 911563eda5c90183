"""The device's outputs against the host's, on the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import MeasureError
from edgepack.graph.values import quantised
from edgepack.records import Agreement, TensorSpec


def agreement(
    device_outputs: Sequence[NDArray[Any]],
    host_outputs: Sequence[NDArray[Any]],
    specs: Sequence[TensorSpec],
) -> Agreement:
    """How far stacked outputs, each (N, *full tensor shape) in its own dtype, are apart.

    Where only one side is not a number, the difference is infinite. Raises MeasureError where
    the outputs do not have the same shapes and dtypes.
    """
    found = [(output.shape, output.dtype) for output in device_outputs]
    expected = [(output.shape, output.dtype) for output in host_outputs]
    if found != expected or len(found) != len(specs):
        raise MeasureError(
            f"the device's outputs {_described(device_outputs)} are not the host's "
            f"{_described(host_outputs)}",
            "the device's runtime reads the model differently: try another one with --runner",
        )
    samples = len(host_outputs[0]) if host_outputs else 0
    steps = [difference(*pair) for pair in zip(device_outputs, host_outputs, strict=True)]
    worst = [float(step.max(initial=0.0)) for step in steps]
    scales = [(spec.scale or 1.0) if quantised(spec) else 1.0 for spec in specs]
    in_lsb = [size for size, spec in zip(worst, specs, strict=True) if quantised(spec)]
    return Agreement(
        samples=samples,
        max_abs=max(
            (size * scale for size, scale in zip(worst, scales, strict=True)), default=None
        ),
        max_abs_lsb=max(in_lsb, default=None),
        top1_match=_top1(device_outputs, host_outputs),
        first_divergence=_first(device_outputs, host_outputs, steps, specs),
    )


def difference(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """The absolute difference in stored units; 0 where both are the same or both are NaN."""
    one, other = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    apart[(one == other) | (np.isnan(one) & np.isnan(other))] = 0.0
    return np.nan_to_num(apart, nan=np.inf, posinf=np.inf)


def _top1(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float | None:
    """The share of samples with the same arg max of the first output that has several values."""
    for one, other in zip(found, expected, strict=True):
        if one.size > len(one) > 0:
            flat = (array.reshape(len(array), -1).argmax(axis=1) for array in (one, other))
            return float(np.mean(np.equal(*flat)))
    return None


def _first(
    found: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
    steps: Sequence[NDArray[np.float64]],
    specs: Sequence[TensorSpec],
) -> str | None:
    """The first value that differs, by sample, then by output; None where all are the same."""
    places = []
    for index, step in enumerate(steps):
        apart = np.argwhere(step)
        if len(apart):
            places.append((int(apart[0][0]), index, tuple(int(part) for part in apart[0])))
    if not places:
        return None
    sample, index, place = min(places)
    one, other = found[index][place], expected[index][place]
    where = f"output '{specs[index].name}' at {list(place[1:])}"
    return f"sample {sample}, {where}: {one:g} on the device, {other:g} on the host"


def _described(outputs: Sequence[NDArray[Any]]) -> str:
    return "[" + ", ".join(f"{array.dtype}{list(array.shape)}" for array in outputs) + "]"
