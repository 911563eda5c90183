"""A flatbuffer as a function of real-valued arrays, in a runtime on this host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.events import step
from edgepack.graph.values import carrier, quantise, unstacked
from edgepack.model.data import Data
from edgepack.model.metrics import Metric
from edgepack.records import Signature, TensorSpec
from edgepack.runtimes import child

Arrays = list[NDArray[Any]]
CHUNK = 512  # samples that one child process gets: bounds memory, amortises its start
BLOCK = 32


def to_stored(samples: Arrays, specs: Sequence[TensorSpec]) -> Arrays:
    """Real samples, each (N, …), as the model stores them, each (N, *tensor shape).

    Raises DataError where the sizes do not suit.
    """
    stored = []
    for array, spec in zip(samples, specs, strict=True):
        try:
            shaped = array.reshape((len(array), *spec.shape))
        except ValueError as error:
            raise DataError(
                f"samples of shape {array.shape[1:]} do not suit input '{spec.name}' {spec.shape}",
                "set size or choose other columns in the data description",
            ) from error
        found = np.empty(shaped.shape, carrier(spec.dtype))
        for start in range(0, len(shaped), BLOCK):  # quantising passes through float64
            found[start : start + BLOCK] = quantise(shaped[start : start + BLOCK], spec)
        stored.append(found)
    return stored


def to_real(stored: Arrays, specs: Sequence[TensorSpec]) -> Arrays:
    """What a model stored, each (N, 1, …), in real units, each (N, …)."""
    return [unstacked(array, spec) for array, spec in zip(stored, specs, strict=True)]


def function(path: Path, signature: Signature, runtime_id: str) -> Callable[[Arrays], Arrays]:
    """The file at ``path`` as a function from real samples to real outputs, each (N, …).

    Export keeps the source model's order of inputs and outputs.
    """

    def run(samples: Arrays) -> Arrays:
        stored = to_stored(samples, signature.inputs)
        return to_real(child.infer(path, stored, runtime_id), signature.outputs)

    return run


def score(predict: Callable[[Arrays], Arrays], data: Data, metric: Metric, name: str) -> float:
    """The metric of ``predict`` over a data set, a chunk at a time."""
    with step(name, total=len(data)) as advance:
        for batch in data.batches(CHUNK):
            metric.update(predict(list(batch.x)), batch.truth)
            advance(len(batch.x[0]))
    value = metric.compute()
    if value is None or not np.isfinite(value):
        raise DataError(
            f"the metric '{metric.name}' has no value on this data",
            "choose another metric in the data description",
        )
    return float(value)
