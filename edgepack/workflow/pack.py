"""pack: (model, recipe, target) → Pack, cell by cell, each stored as soon as it is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import EdgepackError, ModelError
from edgepack.events import step
from edgepack.measuring.inputs import smooth_inputs
from edgepack.model import taking
from edgepack.model.check import check_against
from edgepack.model.data import Data
from edgepack.model.load import Model, load
from edgepack.model.metrics import Metric
from edgepack.model.predict import predict
from edgepack.records import Pack, Quality
from edgepack.workflow import artefact
from edgepack.workflow.cell import Place, Source, pack_cell
from edgepack.workflow.compress import Workshop, check, layered
from edgepack.workflow.job import Cell, Job, Sets, cells, metric_for, open_sets
from edgepack.workflow.mixed import mixed
from edgepack.workflow.shelf import Shelf
from edgepack.workflow.store import Golden, pack_folder, read_packs, write_target

log = logging.getLogger(__name__)
GOLDEN_SAMPLES = 64


def pack_all(job: Job) -> Iterator[Pack]:
    """Each cell's Pack, in the order of the job's targets, then recipes.

    What is wrong with the whole job raises before any work: SpecError, FitError (every cell
    refused), DataError, ModelError. What is wrong with one cell is in that cell's ``error``.
    """
    matrix = cells(job)
    source = _source(job, open_sets(job, matrix), matrix)
    if len(source.problems) == len(matrix):
        raise next(iter(source.problems.values()))
    for target in job.targets:
        write_target(job.out, target)
    data = source.evaluation or source.calibration
    taken = taking.of_data(data) if data is not None else None
    for cell in matrix:
        with step(f"{cell.recipe.id} for {cell.target.id}"):
            made = pack_cell(cell, source)
        if taken is not None and made.artefact is not None:
            taking.write(pack_folder(job.out, made.model, made.target, made.recipe), taken)
        yield made
    of_this_name = [s.pack for s in read_packs(job.out)[0] if s.pack.model == source.model.name]
    for caution in mixed(of_this_name):
        log.warning("%s", caution)


def _source(job: Job, sets: Sets, matrix: Sequence[Cell]) -> Source:
    model = load(
        job.model,
        allow_code=job.trust.custom_objects,
        allow_lambda=job.trust.lambdas,
        shapes=job.shapes,
    )
    for data in (sets.train, sets.calibration):
        if data is not None:
            check_against(data, model.inputs, model.outputs, None)
    metric = None
    if (evaluation := sets.evaluation) is not None:
        metric = partial(metric_for, evaluation, model.outputs, allow_code=job.trust.code)
        check_against(evaluation, model.inputs, model.outputs, metric().name)
    shop, problems = _workshop(job, sets, matrix, model, metric)
    samples = golden_inputs(model, sets.evaluation or sets.calibration, job.seed)
    with step("run the model on golden samples"):
        outputs = predict(model, samples)
    return Source(
        model=model,
        calibration=sets.calibration,
        evaluation=sets.evaluation,
        golden=Golden(inputs=samples, outputs=outputs),
        quality=_reference(model, evaluation, metric) if evaluation and metric else None,
        metric=metric,
        seed=job.seed,
        out=job.out,
        resume=job.resume,
        shop=shop,
        problems=problems,
        notes=tuple(
            f"{count} {name} samples are evaluation samples too"
            for name, count in sets.overlapping.items()
        ),
    )


def _workshop(
    job: Job,
    sets: Sets,
    matrix: Sequence[Cell],
    model: Model,
    metric: Callable[[], Metric] | None,
) -> tuple[Workshop | None, dict[Place, EdgepackError]]:
    """What recipes with steps work in, where there are any, and why a cell's steps cannot run."""
    stepping = [cell for cell in matrix if cell.recipe.steps and cell.refused is None]
    if not stepping:
        return None, {}
    try:
        teacher = layered(model, job.trust)
    except ModelError as error:
        return None, {cell.place: error for cell in stepping}
    shop = Workshop(
        teacher=teacher,
        train=sets.train,
        calibration=sets.calibration,
        evaluation=sets.evaluation,
        metric=metric,
        seed=job.seed,
        trust=job.trust,
        shelf=Shelf(job.out / "candidates", job.trust, resume=job.resume),
    )
    problems: dict[Place, EdgepackError] = {}
    with step("check the recipes' steps"):
        for cell in stepping:
            try:
                check(cell, shop)
            except EdgepackError as error:
                problems[cell.place] = error
    return shop, problems


def _reference(model: Model, evaluation: Data, metric: Callable[[], Metric]) -> Quality:
    """How good the model is over the evaluation set before anything is done to it."""
    chosen = metric()
    value = artefact.score(partial(predict, model), evaluation, chosen, "evaluate the model")
    return Quality(
        metric=chosen.name, reference=value, samples=len(evaluation), data=evaluation.digest
    )


def golden_inputs(model: Model, data: Data | None, seed: int) -> list[NDArray[Any]]:
    """Up to 64 samples spread over the data, else as many smooth ones: each (N, *sample shape)."""
    if data is None:
        smooth = smooth_inputs(model.inputs, GOLDEN_SAMPLES, seed)
        return [
            array.reshape(len(array), *spec.shape[1:])
            for array, spec in zip(smooth, model.inputs, strict=True)
        ]
    count = min(GOLDEN_SAMPLES, len(data))
    chosen = np.unique(np.linspace(0, len(data) - 1, count).astype(int))
    return list(next(data.select(chosen).batches(count)).x)
