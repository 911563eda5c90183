"""Run an export in its target's own runtime and hold its outputs against the source model's.

A runtime that loads a file has not said that it computes it: some answer wrongly without an
error. So every export is run, in a child process, on inputs whose answers are known.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError
from edgepack.graph.facts import tensor_spec
from edgepack.graph.parse import parse
from edgepack.graph.values import quantise, unstacked
from edgepack.model.load import Model
from edgepack.records import Check
from edgepack.runtimes import child
from edgepack.runtimes.tables import Runtime
from edgepack.spec.recipe import Recipe

FLOORS_DB: Mapping[str, float] = MappingProxyType(
    {"float32": 60.0, "float16": 25.0, "int16x8": 6.0, "dynamic": 3.0, "int8": 0.0, "int4": -6.0}
)
"""The least signal-to-noise ratio that a sound export of each scheme has.

Well below what the reference models reach: garbage is caught here, a loss of accuracy is
judged by the evaluation set.
"""


def compare(
    content: bytes | Path,
    inputs: Sequence[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
    model: Model,
    recipe: Recipe,
    runtime: Runtime,
) -> Check:
    """The export's outputs against the source model's, in ``runtime``, on this host.

    ``inputs`` and ``outputs`` are the source model's, in its order, each (N, …) in real units.
    The check is ``unchecked`` where the runtime cannot run here, ``failed`` where it refuses
    the file, answers something that is not finite, or is off by more than quantisation can be.
    """
    why = child.available(runtime.id)
    if why is not None:
        return Check(status="unchecked", runtime=runtime.id, why=why)
    name = str(content) if isinstance(content, Path) else model.name
    whole = content.read_bytes() if isinstance(content, Path) else content
    try:
        found = run(whole, inputs, model, runtime.id)
    except ModelError as error:
        return Check(status="failed", runtime=runtime.id, why=error.message)
    floor = min(FLOORS_DB[scheme] for scheme in recipe.schemes)
    return judged(found, list(outputs), runtime.id, floor, name)


def run(
    content: bytes, inputs: Sequence[NDArray[Any]], model: Model, runtime_id: str
) -> list[NDArray[np.float32]]:
    """An export's outputs in real units, each (N, *shape without the batch), in its order.

    Raises ModelError where the runtime refuses, crashes or hangs.
    """
    main = parse(content, model.name).main
    takes = [tensor_spec(main.tensors[index]) for index in main.inputs]
    gives = [tensor_spec(main.tensors[index]) for index in main.outputs]
    stored = [
        quantise(np.asarray(values).reshape(len(values), *spec.shape), spec)
        for values, spec in zip(inputs, takes, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        path = Path(folder) / f"{model.name}.tflite"
        path.write_bytes(content)
        answers = child.infer(path, stored, runtime_id)
    return [unstacked(answer, spec) for answer, spec in zip(answers, gives, strict=True)]


def judged(
    found: Sequence[NDArray[Any]],
    wanted: Sequence[NDArray[Any]],
    runtime: str,
    floor_db: float,
    name: str = "the export",
) -> Check:
    """The verdict on outputs in real units. ``sqnr_db`` is None where the error is zero."""
    pairs = [
        (np.asarray(f, np.float64).reshape(-1), np.asarray(w, np.float64).reshape(-1))
        for f, w in zip(found, wanted, strict=True)
    ]
    samples = len(wanted[0])
    if not all(np.isfinite(f).all() for f, _ in pairs):
        why = f"{name} answers NaN or infinity"
        return Check(status="failed", runtime=runtime, samples=samples, why=why)
    error = np.concatenate([f - w for f, w in pairs])
    signal = np.concatenate([w for _, w in pairs])
    mse = float(np.mean(error**2))
    power = float(np.mean(signal**2))
    sqnr = 10 * math.log10(power / mse) if mse > 0 and power > 0 else None
    low = sqnr is not None and sqnr < floor_db
    why = (
        f"its outputs are {sqnr:.1f} dB above their error; {floor_db:g} dB is sound" if low else ""
    )
    return Check(
        status="failed" if low else "ok",
        runtime=runtime,
        samples=samples,
        mse=mse,
        max_abs=float(np.abs(error).max(initial=0.0)),
        sqnr_db=sqnr,
        why=why,
    )
