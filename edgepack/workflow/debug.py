"""debug: (model, exported file, calibration data) → what each layer loses, and a rescue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from edgepack.errors import ModelError, SpecError
from edgepack.export.debug import debug
from edgepack.files import sha256
from edgepack.graph.parse import parse, read_bytes
from edgepack.model.check import check_against
from edgepack.model.load import load
from edgepack.records import Debug
from edgepack.runtimes import child
from edgepack.runtimes.tables import Runtime
from edgepack.runtimes.tables import load as load_runtime
from edgepack.spec.data import Dataset
from edgepack.spec.target import Target
from edgepack.workflow.job import Job, Trust, metric_for, open_sets
from edgepack.workflow.limit import Limit
from edgepack.workflow.rescue import rescue, stored_recipe
from edgepack.workflow.store import StoredPack, pack_of, write_debug
from edgepack.workflow.trials import Patient

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What ``debug`` is asked. With ``limit`` and ``evaluation`` a rescue is looked for.

    ``target`` says for which runtime the file is; None: its pack's, else LiteRT on this host.
    ``samples`` of the calibration data are looked at, at most. ``out`` is where a rescued file
    and its recipe go; None: nowhere.
    """

    model: Path
    file: Path
    calibration: Dataset
    evaluation: Dataset | None = None
    limit: Limit | None = None
    target: Target | None = None
    out: Path | None = None
    samples: int = 64
    trust: Trust = field(default_factory=Trust)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def diagnose(asked: Question) -> Debug:
    """Each layer's error, and the rescue that was asked for.

    Raises ModelError where the file is damaged, crashes, or was not made from the model;
    DataError where the data does not suit; SpecError where a rescue cannot be judged. Where the
    file belongs to a pack the record is stored beside it.
    """
    content = read_bytes(asked.file)
    parse(content, str(asked.file))
    if not asked.model.exists():
        raise ModelError(f"{asked.model}: no such file or folder", "check the path")
    if asked.limit is not None and asked.evaluation is None:
        raise SpecError("a rescue is judged by evaluation data", "add --evaluation")
    pack = pack_of(asked.file)
    runtime = _runtime(asked.target, pack)
    recipe = stored_recipe(pack) if asked.limit is not None else None
    sets = open_sets(
        Job(
            model=asked.model,
            targets=(),
            recipes=(),
            out=Path(),
            calibration=asked.calibration,
            evaluation=asked.evaluation,
            trust=asked.trust,
        ),
        [],
    )
    model = load(
        asked.model,
        allow_code=asked.trust.custom_objects,
        allow_lambda=asked.trust.lambdas,
        shapes=asked.shapes,
    )
    assert sets.calibration is not None  # it was asked for
    check_against(sets.calibration, model.inputs, model.outputs, None)
    metric = None
    if (evaluation := sets.evaluation) is not None:
        metric = partial(metric_for, evaluation, model.outputs, allow_code=asked.trust.code)
        check_against(evaluation, model.inputs, model.outputs, metric().name)
        if asked.limit is not None:
            asked.limit.check(metric().name)
    here = runtime.id if child.available(runtime.id) is None else child.HOST
    found = debug(
        model, content, str(asked.file), sets.calibration, runtime=here, most=asked.samples
    )
    notes = (*found.notes, *_notes(runtime, here, sets.overlapping))
    found = replace(found, sha256=sha256(content), notes=notes)
    if asked.limit is not None and evaluation is not None and metric is not None:
        patient = Patient(
            model=model,
            content=content,
            found=found,
            calibration=sets.calibration,
            evaluation=evaluation,
            metric=metric,
            limit=asked.limit,
            runtime=runtime,
            here=here,
            recipe=recipe,
            out=asked.out,
        )
        found = replace(found, rescued=rescue(patient))
    _store(pack, found)
    return found


def _runtime(target: Target | None, pack: StoredPack | None) -> Runtime:
    """The runtime that the file is for."""
    if target is not None:
        return load_runtime(target.runtimes[0])
    check = pack.pack.check if pack is not None else None
    return load_runtime(check.runtime if check is not None else child.HOST)


def _notes(runtime: Runtime, here: str, overlapping: Mapping[str, int]) -> tuple[str, ...]:
    notes = [f"{count} {name} samples are evaluation samples too"
             for name, count in overlapping.items()]  # fmt: skip
    if runtime.id != here:
        notes.append(f"run in {here}, because {runtime.id} does not run on this host")
    return tuple(notes)


def _store(pack: StoredPack | None, found: Debug) -> None:
    """Beside the pack, for the report; a folder that cannot be written loses only that."""
    if pack is None:
        return
    try:
        write_debug(pack, found)
    except SpecError as error:
        log.warning("not stored: %s", error.message)
