"""try: one real input on this host and on a device, their answers side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.bench.hold import holding
from edgepack.errors import DataError, SpecError
from edgepack.events import step
from edgepack.graph.values import quantised
from edgepack.measuring.agreement import agreement
from edgepack.model import taking as takings
from edgepack.model.data import open_data
from edgepack.model.one_sample import sample
from edgepack.model.taking import Taking
from edgepack.records import Agreement, Pack, RuntimeRecord, TensorSpec
from edgepack.runners.runner import session
from edgepack.runtimes import child
from edgepack.spec.device import Device
from edgepack.spec.target import Protocol
from edgepack.workflow import ask, store
from edgepack.workflow.artefact import Arrays, to_real, to_stored
from edgepack.workflow.golden import Subject
from edgepack.workflow.subjects import artefact_of, subject

ONE_RUN = Protocol(warmup_runs=0, warmup_seconds=0, runs=1, min_seconds=0)
FLOAT_TOLERANCE = 1e-4
"""Of an output's range: what another processor's order of additions may cost."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One value of the output: which, what it is called, and the value in real units."""

    index: int
    label: str | None
    score: float


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Answers, best first, of the first output with several values; ``latency_us`` of one run.

    ``ok``: the outputs differ by no more than ``tolerance``, both in real units.
    """

    model: str
    recipe: str
    artefact_sha256: str
    input: str
    output: str
    device: Device
    runtime: RuntimeRecord | None
    host: tuple[Answer, ...]
    there: tuple[Answer, ...]
    latency_us: float | None
    first_us: float | None
    agreement: Agreement
    tolerance: float
    ok: bool


def try_one(
    source: Path,
    given: Path,
    device: Device,
    *,
    top: int = 5,
    evaluation: str | None = None,
    runner: str | None = None,
    targets_folders: tuple[Path, ...] = (),
) -> Tried:
    """Run the file ``given`` through a pack, or a bare ``.tflite``, here and on the device.

    ``evaluation`` names a data description whose preprocessing and labels count, in place of the
    pack's own. Raises SpecError, ModelError, DataError for a file that does not suit, LinkError
    and MeasureError.
    """
    chosen = subject_of(source)
    taking = taking_of(chosen, evaluation)
    specs = chosen.signature.inputs
    if len(specs) != 1:
        raise DataError(
            f"{chosen.path}: takes {len(specs)} inputs, and one file was given",
            "`edgepack measure` with --inputs FILE.npz gives several",
        )
    real, described = sample(given, specs[0].shape[1:] or specs[0].shape, taking)
    stored = _stored(real, specs[0], taking)
    out = (store.folder_of(chosen.stored) if chosen.stored else None) or source
    target = store.find_target(out, device.target, targets_folders)
    here = next((name for name in target.runtimes if child.available(name) is None), child.HOST)
    with step("run on this host"):
        expected = child.infer(chosen.path, stored, here)
    with (
        holding(device) as reached,
        step(f"run on {device.id}"),
        session(reached(), chosen.path, runner) as running,
    ):
        burst = running.burst(stored, ONE_RUN)
    if burst.failure is not None:
        raise burst.failure
    outputs, pack = chosen.signature.outputs, chosen.stored.pack if chosen.stored else None
    found = agreement(burst.outputs, expected, outputs)
    host = to_real(expected, outputs)
    allowed = tolerance(host, outputs, pack)
    place = next((i for i, array in enumerate(host) if array.size > 1), 0)
    labels = taking.labels if taking else ()
    there = to_real(list(burst.outputs), outputs)
    return Tried(
        model=pack.model if pack else chosen.path.stem,
        recipe=pack.recipe if pack else "",
        artefact_sha256=chosen.digest,
        input=described,
        output=outputs[place].name,
        device=device,
        runtime=burst.runtime,
        host=answers(host[place], labels, top),
        there=answers(there[place], labels, top),
        latency_us=burst.samples_us[0] if burst.samples_us else None,
        first_us=burst.first_us,
        agreement=found,
        tolerance=allowed,
        ok=found.max_abs is not None and found.max_abs <= allowed,
    )


def subject_of(source: Path) -> Subject:
    """The model in a file, in a pack's folder, or in an output folder that holds one pack alone."""
    if (source / "pack.json").is_file():
        stored = store.read_pack(source / "pack.json")
    elif source.is_dir():
        packs = [one for one in store.read_packs(source)[0] if one.pack.artefact is not None]
        if len(packs) != 1:
            names = ", ".join(str(one.folder) for one in packs) or "pack a model first"
            raise SpecError(f"{source}: holds {len(packs)} packs, name one", names)
        stored = packs[0]
    else:
        owner = store.pack_of(source)
        if owner is None:
            return subject(source, None)
        stored = owner
    return subject(artefact_of(stored), stored)


def taking_of(chosen: Subject, evaluation: str | None) -> Taking | None:
    """How files become inputs: by a data description, else as the pack's own data; None: as is."""
    if (spec := ask.dataset(evaluation)) is not None:
        return takings.of_data(open_data(spec))
    if chosen.stored is None:
        return None
    kept = takings.read(chosen.stored.folder)
    if kept is None:
        raise DataError(
            f"{chosen.stored.folder}: does not say how files become inputs",
            "give --evaluation D, or pack it again with calibration or evaluation data",
        )
    return kept


def _stored(real: NDArray[Any], spec: TensorSpec, taking: Taking | None) -> Arrays:
    """The sample as the model stores it; a bare file's model may be given stored values as is."""
    if taking is None and real.dtype.name == spec.dtype:
        return [real.reshape(1, *spec.shape)]
    return to_stored([real], [spec])


def tolerance(host: Arrays, specs: tuple[TensorSpec, ...], pack: Pack | None) -> float:
    """How far outputs may be apart, in real units, to be the same answer.

    A step of a quantised output, or 1e-4 of a float's range: what runtimes/*.toml calls exact.
    Where the pack's own check found a greater error against the source model, that: a device that
    is off by less costs less than the packing did.
    """
    allowed = [pack.check.max_abs or 0.0] if pack is not None and pack.check is not None else [0.0]
    for array, spec in zip(host, specs, strict=True):
        if quantised(spec) and spec.scale is not None:
            allowed.append(spec.scale * (1 + 1e-6))
        elif array.size:
            reach = max(float(np.ptp(array)), float(np.abs(array).max()))
            allowed.append(FLOAT_TOLERANCE * reach)
    return max(allowed)


def answers(output: NDArray[Any], labels: tuple[str, ...], top: int) -> tuple[Answer, ...]:
    """The greatest values of an output, (1, …) in real units; labels where they are as many."""
    scores = output.reshape(-1)
    names = labels if len(labels) == scores.size else ()
    order = np.argsort(-scores, kind="stable")[:top]
    return tuple(
        Answer(index=int(i), label=names[i] if names else None, score=float(scores[i]))
        for i in order
    )
