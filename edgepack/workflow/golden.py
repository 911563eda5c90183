"""Golden inputs of a measurement, and what the device's outputs for them are held against."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError, EdgepackError, MeasureError
from edgepack.export.compare import judged
from edgepack.measuring import take
from edgepack.measuring.inputs import smooth_inputs
from edgepack.records import Signature
from edgepack.runtimes import child
from edgepack.spec.target import Target
from edgepack.workflow import store
from edgepack.workflow.artefact import Arrays, to_real, to_stored

log = logging.getLogger(__name__)
GARBAGE_DB = 0.0  # an error as strong as the signal: no quantisation does that to a sound model


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model to measure: its file, and its pack where it has one."""

    path: Path
    signature: Signature
    digest: str
    stored: store.StoredPack | None = None


class Goldens:
    """Golden samples of each subject, made once and one at a time, whoever asks for them."""

    def __init__(self, given: Path | None, seed: int) -> None:
        self._given, self._seed = given, seed
        self._made: dict[tuple[object, ...], tuple[take.Golden, tuple[str, ...]]] = {}
        self._lock = threading.Lock()

    def of(self, subject: Subject, target: Target) -> tuple[take.Golden, tuple[str, ...]]:
        """See ``golden_of``."""
        count = target.measure.golden_samples
        key = (subject.path, target.runtimes, count)
        with self._lock:
            if key not in self._made:
                self._made[key] = golden_of(
                    subject, target, given=self._given, count=count, seed=self._seed
                )
            return self._made[key]


def golden_of(
    subject: Subject, target: Target, *, given: Path | None, count: int, seed: int
) -> tuple[take.Golden, tuple[str, ...]]:
    """The inputs to measure with, the host's outputs for them, and what is to be noted."""
    kept = store.read_golden(subject.stored.folder) if subject.stored else None
    specs, verify = subject.signature.inputs, None
    if given is not None:
        inputs = _stored(_given(given, [spec.name for spec in specs]), subject)
    elif kept is not None:
        inputs = to_stored([array[:count] for array in kept.inputs], specs)
        if subject.stored is not None and subject.stored.pack.status == "unchecked":
            verify = partial(_verified, [array[:count] for array in kept.outputs], subject)
    else:
        inputs = smooth_inputs(specs, count, seed)
    golden = take.Golden(
        inputs=inputs, expected=None, outputs=subject.signature.outputs, verify=verify
    )
    here = (name for name in target.runtimes if child.available(name) is None)
    try:
        expected = child.infer(subject.path, inputs, next(here, child.HOST))
    except EdgepackError as error:
        log.debug("no outputs on this host", exc_info=True)
        return golden, (f"on this host: {error.message}",)
    return replace(golden, expected=expected), ()


def _verified(reference: Arrays, subject: Subject, outputs: Sequence[NDArray[Any]]) -> str:
    """Hold the device's outputs against the source model's, which the host could not do.

    Raises MeasureError where they are off by more than any quantisation is.
    """
    found = to_real(list(outputs), subject.signature.outputs)
    check = judged(found, reference, "the device", GARBAGE_DB, subject.path.name)
    if check.status != "ok":
        raise MeasureError(
            f"the device computes something else than the source model: {check.why}",
            "choose another scheme or another runtime for this device",
        )
    if check.sqnr_db is None:
        return "verified on the device: its outputs equal the source model's"
    return f"verified on the device: {check.sqnr_db:.1f} dB between source model and error"


def _stored(arrays: Arrays, subject: Subject) -> Arrays:
    """A user's arrays as the model stores them; those that have its dtype already stay."""
    return [
        array.reshape((len(array), *spec.shape))
        if array.dtype.name == spec.dtype and array[0].size == math.prod(spec.shape)
        else to_stored([array], [spec])[0]
        for array, spec in zip(arrays, subject.signature.inputs, strict=True)
    ]


def _given(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """The arrays of a user's ``.npz`` by the inputs' names, else in their order in the file.

    Raises DataError.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            named = set(archive.files) == set(names)
            arrays = [archive[name] for name in (names if named else archive.files)]
    except store.DAMAGED as error:
        raise DataError(
            f"{path}: not a readable .npz: {error}", "write it with numpy.savez"
        ) from error
    if len(arrays) != len(names) or not all(array.ndim and len(array) for array in arrays):
        raise DataError(
            f"{path}: holds {len(arrays)} arrays, the model takes {len(names)}",
            "give one array for each input, samples first",
        )
    for array in arrays:
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: holds {array.dtype}, not numbers", "give real numbers")
    with np.errstate(over="ignore"):
        finite = all(np.isfinite(array.astype(np.float32)).all() for array in arrays)
    if not finite:
        raise DataError(f"{path}: holds NaN, infinity or what float32 cannot", "give finite inputs")
    if len({len(array) for array in arrays}) > 1:
        raise DataError(f"{path}: its arrays differ in their number of samples", "make them equal")
    return arrays
