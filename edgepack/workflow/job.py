"""What ``pack`` was asked to do, checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgepack.errors import DataError, FitError, SpecError
from edgepack.export.suitable import refuse
from edgepack.model.data import Data, open_data, overlap
from edgepack.model.metrics import Metric, resolve
from edgepack.passes.rules import check
from edgepack.passes.table import needs_samples
from edgepack.records import TensorSpec
from edgepack.runtimes.tables import Runtime, load
from edgepack.spec.data import Dataset
from edgepack.spec.library import find
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Target


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the user allows beyond the safe default.

    ``code``: data and metrics from Python files. ``lambdas``: Lambda layers. ``overlap``:
    calibration or training samples that are evaluation samples too. ``custom_objects``: a
    Python file that defines the model's own layers.
    """

    code: bool = False
    lambdas: bool = False
    overlap: bool = False
    custom_objects: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model, and the matrix of targets and recipes to pack it for.

    Without recipes each target gets its own default one. ``shapes`` gives the sizes that the
    model leaves open, by input name.
    """

    model: Path
    targets: tuple[Target, ...]
    recipes: tuple[Recipe, ...]
    out: Path
    train: Dataset | None = None
    calibration: Dataset | None = None
    evaluation: Dataset | None = None
    seed: int = 0
    trust: Trust = field(default_factory=Trust)
    resume: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One target × recipe, with the target's first runtime that computes the recipe's scheme.

    ``refused`` says why there is no such runtime.
    """

    target: Target
    recipe: Recipe
    runtime: Runtime
    refused: FitError | None = None

    @property
    def place(self) -> tuple[str, str]:
        """Its target's and its recipe's id."""
        return self.target.id, self.recipe.id


def cells(job: Job) -> list[Cell]:
    """The job's matrix. Raises the first cell's FitError where every cell is refused.

    Raises SpecError for a recipe whose steps do not go together.
    """
    for recipe in job.recipes:
        check(recipe)
    matrix = [
        _cell(target, recipe)
        for target in job.targets
        for recipe in job.recipes or (find(Recipe, target.default_recipe),)
    ]
    refusals = [cell.refused for cell in matrix if cell.refused]
    if len(refusals) == len(matrix):
        raise refusals[0]
    return matrix


def _cell(target: Target, recipe: Recipe) -> Cell:
    """The target's first runtime that computes the recipe's schemes; else the first one's no."""
    runtimes = [load(name) for name in target.runtimes]
    refusals = []
    for runtime in runtimes:
        try:
            refuse(recipe, runtime, None)
            return Cell(target=target, recipe=recipe, runtime=runtime)
        except FitError as error:
            refusals.append(error)
    first = refusals[0]
    message = f"{target.id}: {first.message}"
    refused = FitError(message, first.hint, needs=first.needs, has=first.has)
    return Cell(target=target, recipe=recipe, runtime=runtimes[0], refused=refused)


def metric_for(data: Data, outputs: Sequence[TensorSpec], *, allow_code: bool) -> Metric:
    """A fresh metric, as the data description names it or as its labels suggest."""
    labels = data.labels()
    return resolve(
        data.spec.metric,
        outputs,
        labels is not None,
        allow_code,
        labels=labels,
        folder=Path(data.spec.folder),
    )


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The job's data, opened. ``overlapping`` counts samples that evaluation shares."""

    train: Data | None
    calibration: Data | None
    evaluation: Data | None
    overlapping: dict[str, int]


def open_sets(job: Job, matrix: Sequence[Cell]) -> Sets:
    """Open the job's data and check it against the recipes and against each other."""
    for cell in matrix:
        if cell.refused is None:
            _demand(job, cell.recipe)
    needing = [c.recipe.id for c in matrix if c.recipe.needs_calibration and c.refused is None]
    if needing and job.calibration is None:
        raise SpecError(
            f"recipe '{needing[0]}' needs calibration data",
            "add --calibration with the id or path of a data description; labels are not needed",
        )
    opened = {
        name: open_data(spec, allow_code=job.trust.code) if spec else None
        for name, spec in (
            ("train", job.train),
            ("calibration", job.calibration),
            ("evaluation", job.evaluation),
        )
    }
    evaluation, shared = opened["evaluation"], {}
    for name in ("train", "calibration"):
        data = opened[name]
        if data is None or evaluation is None:
            continue
        count = overlap(data, evaluation)
        if count and not job.trust.overlap:
            raise DataError(
                f"{count} of the {len(data)} {name} samples are in the evaluation set too",
                "choose other samples, or say --allow-overlap to go on and record it",
            )
        if count:
            shared[name] = count
    return Sets(**opened, overlapping=shared)


def _demand(job: Job, recipe: Recipe) -> None:
    """Raises SpecError where the recipe's steps need what the job does not give."""
    for step in recipe.steps:
        if step.train is not None and job.train is None:
            labels = "" if recipe.needs_labels else "; labels are not needed"
            raise SpecError(
                f"recipe {recipe.id} trains: step '{step.name}' needs training data",
                f"add --train with the id or path of a data description{labels}",
            )
        if job.train is None and job.calibration is None and needs_samples(step):
            raise SpecError(
                f"recipe {recipe.id}: step '{step.name}' looks at samples",
                "add --calibration with the id or path of a data description; "
                "labels are not needed",
            )
        for name in step.train.functions if step.train is not None else ():
            file = Path(recipe.folder) / name.rpartition(":")[0]
            if not job.trust.code:
                raise SpecError(
                    f"recipe {recipe.id}: step '{step.name}' runs {name}",
                    "pass --allow-code if you trust that file",
                )
            if not file.is_file():
                raise SpecError(f"recipe {recipe.id}: {file}: no such Python file")


def recipe_inputs(recipe: Recipe) -> dict[str, object]:
    """What of a recipe decides its export: all but its name, its words, and its steps."""
    plain = asdict(recipe)
    return {key: plain[key] for key in plain if key not in ("id", "description", "folder", "steps")}
