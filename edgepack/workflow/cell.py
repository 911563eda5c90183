"""One cell of the matrix: export, check, facts, fit and quality of one model for one target."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from edgepack.errors import EdgepackError, ModelError, SpecError
from edgepack.export import Exported, compare, export
from edgepack.export.compare import judged
from edgepack.files import gzip_size, sha256
from edgepack.graph.facts import facts
from edgepack.model.data import Data
from edgepack.model.load import Model
from edgepack.model.metrics import Metric
from edgepack.model.predict import predict
from edgepack.records import (
    Artefact,
    Check,
    ErrorRecord,
    Facts,
    Pack,
    PackMemory,
    Quality,
    Status,
    StepRecord,
)
from edgepack.spec.recipe import Recipe
from edgepack.workflow import artefact
from edgepack.workflow.compress import Workshop, chain, compressed
from edgepack.workflow.figures import of_content
from edgepack.workflow.job import Cell, recipe_inputs
from edgepack.workflow.keys import stage_key, versions
from edgepack.workflow.store import (
    Golden,
    has_golden,
    pack_folder,
    read_pack,
    write_pack,
    write_record,
)

log = logging.getLogger(__name__)
Place = tuple[str, str]
"""A cell of the matrix: its target's and its recipe's id."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What every cell of a job shares: the model, its data, and how good it is untouched.

    ``shop`` is where recipes with steps are carried out; ``problems`` says which cells' steps
    cannot be. ``made`` keeps what was exported by its stage key: targets with one runtime share
    it.
    """

    model: Model
    calibration: Data | None
    evaluation: Data | None
    golden: Golden
    quality: Quality | None
    metric: Callable[[], Metric] | None
    seed: int
    out: Path
    resume: bool
    notes: tuple[str, ...]
    shop: Workshop | None = None
    problems: Mapping[Place, EdgepackError] = field(default_factory=dict)
    made: dict[str, Exported] = field(default_factory=dict)


def pack_cell(cell: Cell, source: Source) -> Pack:
    """The cell's Pack, stored; with ``error`` set where it failed or was refused.

    Raises SpecError only where the folder cannot be written.
    """
    calibration = _calibration(cell.recipe, source)
    stepping = source.shop if cell.recipe.steps and cell.place not in source.problems else None
    blank = Pack(
        model=source.model.name,
        target=cell.target.id,
        recipe=cell.recipe.id,
        seed=source.seed,
        versions=versions(),
        status="failed",
        notes=source.notes,
        source_sha256=source.model.sha256,
        key=stage_key(
            "export",
            model=source.model.sha256,
            inputs=[asdict(spec) for spec in source.model.inputs],
            passes=chain(cell, stepping)[-1] if stepping else None,
            recipe=recipe_inputs(cell.recipe),
            calibration=calibration.digest if calibration else None,
            runtime=cell.runtime.id,
            seed=source.seed,
            versions=versions(),
        ),
    )
    folder = pack_folder(source.out, blank.model, blank.target, blank.recipe)
    if source.resume and (fresh := _fresh(folder, blank, source)):
        return _fitted(fresh, folder, cell)
    content: bytes | None = None
    golden = source.golden
    try:
        if cell.refused is not None or cell.place in source.problems:
            raise cell.refused or source.problems[cell.place]
        model = source.model
        if stepping is not None:
            made = compressed(cell, stepping)
            model, blank = made.model, replace(blank, steps=made.steps)
            golden = replace(golden, outputs=predict(model, golden.inputs))
        started = time.monotonic()
        exported = source.made.get(blank.key) or export(
            model, cell.recipe, cell.runtime, calibration
        )
        source.made[blank.key] = exported
        seconds = round(time.monotonic() - started, 3)
        done = _described(blank, cell, source, golden, exported, seconds)
        content = exported.content
    except EdgepackError as error:
        log.debug("%s failed", folder, exc_info=True)
        status: Status = "unsupported" if error is cell.refused else "failed"
        done = replace(blank, status=status, error=ErrorRecord.of(error))
    return write_pack(folder, done, content, golden)


def _calibration(recipe: Recipe, source: Source) -> Data | None:
    """What ranges are observed on; what a training left without one, on its own data."""
    if not recipe.quantises_activations:
        return None
    if source.calibration is None and recipe.needs_train and source.shop is not None:
        return source.shop.train
    return source.calibration


def _described(
    blank: Pack,
    cell: Cell,
    source: Source,
    golden: Golden,
    exported: Exported,
    seconds: float,
) -> Pack:
    """The pack of what was exported, with everything that can be said of it on this host.

    ``golden`` holds the answers of the candidate that was exported.
    """
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        path = Path(folder) / f"{blank.model}-{blank.recipe}.tflite"
        path.write_bytes(exported.content)
        known = facts(path, cell.target)
        check = compare(
            path,
            golden.inputs,
            golden.outputs,
            source.model,
            cell.recipe,
            cell.runtime,
        )
        quality = _quality(path, cell, source, known, check)
    if check.status == "failed":
        raise ModelError(
            f"{blank.recipe} in {cell.runtime.name} computes something else: {check.why}",
            "choose another scheme, or see the check in the pack's record",
        )
    return replace(
        blank,
        status=check.status,
        artefact=Artefact(
            path=path.name,
            sha256=sha256(exported.content),
            size_bytes=len(exported.content),
            gzip_bytes=gzip_size(exported.content),
        ),
        signature=known.signatures[0],
        cost=known.cost,
        memory=PackMemory(
            arena_bytes=known.memory.arena_bytes,
            lower_bound_bytes=known.memory.lower_bound_bytes,
        ),
        quality=quality,
        check=check,
        fit=known.fit,
        steps=(*blank.steps, *_last_step(blank, cell, exported, quality, seconds)),
        notes=(
            *blank.notes,
            *_steps_notes(blank, cell.recipe, source, golden),
            _made_by(exported),
            *exported.notes,
        ),
    )


def _last_step(
    blank: Pack, cell: Cell, exported: Exported, quality: Quality | None, seconds: float
) -> tuple[StepRecord, ...]:
    """What the export brought, beside a recipe's steps: under the name of the scheme."""
    if not blank.steps:
        return ()
    after = of_content(exported.content, blank.model)
    if quality is not None and quality.host is not None:
        after["quality"] = quality.host
    record = StepRecord(
        name=cell.recipe.scheme,
        changed=(_made_by(exported),),
        seconds=seconds,
        before=blank.steps[-1].after,
        after=after,
    )
    return (record,)


def _steps_notes(blank: Pack, recipe: Recipe, source: Source, golden: Golden) -> tuple[str, ...]:
    """What the steps learned from, did in vain, and how far they led from the source model."""
    if not blank.steps:
        return ()
    notes = [
        f"step {record.name} changed nothing: {record.skipped[0].why}"
        if record.skipped
        else f"step {record.name} changed nothing"
        for record in blank.steps
        if not record.changed
    ]
    train = source.shop.train if source.shop is not None else None
    if train is not None and recipe.needs_train:
        notes.append(f"trained on {len(train):,} samples of {train.spec.id}")
    found = judged(golden.outputs, source.golden.outputs, "keras", 0.0)
    if found.sqnr_db is not None:
        notes.append(
            "after the steps, in float, its outputs are "
            f"{found.sqnr_db:.1f} dB above their difference to the source model's"
        )
    return tuple(notes)


def _made_by(exported: Exported) -> str:
    calibrated = f", calibrated by {exported.calibrator}" if exported.calibrator else ""
    if exported.calibrator == "learned":
        calibrated = ", with the ranges that were learned"
    return f"made by {exported.producer}{calibrated}"


def _quality(path: Path, cell: Cell, source: Source, known: Facts, check: Check) -> Quality | None:
    """The source's quality, and the artefact's where its runtime runs on this host."""
    if source.quality is None or source.evaluation is None or source.metric is None:
        return None
    if check.status != "ok":
        return source.quality
    run = artefact.function(path, known.signatures[0], cell.runtime.id)
    label = f"evaluate {cell.recipe.id} in {cell.runtime.name}"
    value = artefact.score(run, source.evaluation, source.metric(), label)
    return replace(source.quality, host=value)


def _fitted(fresh: Pack, folder: Path, cell: Cell) -> Pack:
    """A stored pack with its fit to the target as that is now: no stage's key holds its limits."""
    assert fresh.artefact is not None
    fit = facts(Path(fresh.artefact.path), cell.target).fit
    if fit == fresh.fit:
        return fresh
    made = replace(fresh, fit=fit)
    name = Path(fresh.artefact.path).name
    write_record(folder, replace(made, artefact=replace(fresh.artefact, path=name)))
    return made


def _fresh(folder: Path, blank: Pack, source: Source) -> Pack | None:
    """The stored pack, where it is whole and none of what it depends on has changed."""
    record = folder / "pack.json"
    if not record.is_file():
        return None
    try:
        stored = read_pack(record).pack
    except SpecError:  # a damaged record is stale
        return None
    same_data = _judged_by(stored.quality) == _judged_by(source.quality)
    file = Path(stored.artefact.path) if stored.artefact is not None else None
    whole = (
        stored.artefact is not None
        and file is not None
        and file.is_file()
        and sha256(file.read_bytes()) == stored.artefact.sha256
        and has_golden(folder)
    )
    return stored if stored.key == blank.key and same_data and whole else None


def _judged_by(quality: Quality | None) -> tuple[str, str] | None:
    return (quality.data, quality.metric) if quality is not None else None
