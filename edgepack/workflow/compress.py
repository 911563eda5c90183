"""The passes of a recipe: (Keras model, steps) → Keras model, step by step, each kept on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from edgepack.errors import ModelError, SpecError
from edgepack.events import step as progress
from edgepack.export.suitable import method_of
from edgepack.files import sha256
from edgepack.model.convert import to_keras
from edgepack.model.data import Data
from edgepack.model.load import Model
from edgepack.model.metrics import Metric
from edgepack.passes import rules, table
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.network import flattened
from edgepack.passes.objective import objective
from edgepack.passes.select import selector
from edgepack.records import StepRecord
from edgepack.runtimes.schemes import COMMON
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import Distillation, Step
from edgepack.workflow import figures
from edgepack.workflow.figures import Figures
from edgepack.workflow.job import Cell, Trust
from edgepack.workflow.keys import stage_key, versions
from edgepack.workflow.shelf import Shelf


@dataclass(frozen=True, kw_only=True, eq=False)
class Workshop:
    """What the steps of all recipes share. ``teacher`` is the original model, in Keras.

    ``known`` keeps figures by the candidate's key.
    """

    teacher: Model
    train: Data | None
    calibration: Data | None
    evaluation: Data | None
    metric: Callable[[], Metric] | None
    seed: int
    trust: Trust
    shelf: Shelf
    known: dict[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """What a recipe's steps made of a model, with each step's figures before and after."""

    model: Model
    steps: tuple[StepRecord, ...]


def layered(model: Model, trust: Trust) -> Model:
    """``model`` with Keras layers, which passes need. Raises ModelError where it has none."""
    if model.content is not None:
        raise ModelError(
            f"{model.path}: a flatbuffer has no layers that a recipe's steps could change",
            "give the Keras model that it was made from, or a recipe without steps",
        )
    found = to_keras(model, allow_code=trust.custom_objects, allow_lambda=trust.lambdas)
    if found is model:
        return replace(model, keras=flattened(model.keras))
    both = ((found.inputs, model.inputs), (found.outputs, model.outputs))
    if any([s.shape for s in a] != [s.shape for s in b] for a, b in both) or any(
        len(a) > 1 and [s.name for s in a] != [s.name for s in b] for a, b in both
    ):
        raise ModelError(
            f"{model.path}: its Keras layers order inputs or outputs in another way than it does",
            "give the .keras or .h5 file",
        )
    flat = flattened(found.keras)
    return replace(found, keras=flat, inputs=model.inputs, outputs=model.outputs)


def check(cell: Cell, shop: Workshop) -> None:
    """What can be known of a cell's recipe before any of its steps runs.

    Raises SpecError for a selection of no layer, ModelError for a model without a graph,
    DataError for labels that do not suit.
    """
    recipe = cell.recipe
    rules.check(recipe)
    candidate = Candidate(model=shop.teacher.keras)
    for place, step in enumerate(recipe.steps):
        renamed = table.RENAMES.intersection(before.name for before in recipe.steps[:place])
        whole = replace(step, layers=None, types=()) if renamed else step
        context = _context(cell, whole, shop, candidate, None)
        if step.train is not None:
            taught = step.distill or (Distillation() if step.name == "distill" else None)
            objective(candidate.model, replace(context, distill=taught))


def chain(cell: Cell, shop: Workshop) -> tuple[str, ...]:
    """The key of what each step makes: of the model and all steps so far, and what they read."""
    recipe, keys = cell.recipe, []
    key = _root(shop)
    for step in recipe.steps:
        looks = step.name in table.LOOKS
        train = shop.train if step.train is not None or looks else None
        key = stage_key(
            "passes",
            before=key,
            step=asdict(step),
            code=_code(recipe, step),
            train=train.digest if train is not None else None,
            calibration=shop.calibration.digest if looks and shop.calibration else None,
            scheme=recipe.scheme if step.name in table.SCHEME else None,
            alike=sorted(_alike(cell)) if step.name in table.SCHEME else None,
            channels=cell.target.channels if step.name in table.CHANNELS else None,
            seed=shop.seed,
        )
        keys.append(key)
    return tuple(keys)


def compressed(cell: Cell, shop: Workshop) -> Compressed:
    """The model after the steps of the cell's recipe; what is on the shelf is not made again.

    Raises what a pass raises: SpecError, ModelError, DataError.
    """
    recipe, keys = cell.recipe, chain(cell, shop)
    _figures(_root(shop), shop.teacher, recipe, shop)
    done = shop.shelf.longest(keys)
    candidate = shop.shelf.get(keys[done - 1]) if done else Candidate(model=shop.teacher.keras)
    made = replace(shop.teacher, keras=candidate.model)
    for key, step in list(zip(keys, recipe.steps, strict=True))[done:]:
        candidate = _stepped(cell, step, shop, candidate, key)
        made = replace(shop.teacher, keras=candidate.model)
        _figures(key, made, recipe, shop)
    return Compressed(model=made, steps=_attributed(recipe, keys, candidate, made, shop))


def _stepped(cell: Cell, step: Step, shop: Workshop, candidate: Candidate, key: str) -> Candidate:
    """The candidate after one step, kept on the shelf."""
    started = time.monotonic()
    context = _context(cell, step, shop, candidate, shop.shelf.checkpoint(key))
    with progress(f"{cell.recipe.id}: {step.name}"):
        after = table.apply(step, candidate, context)
    record = replace(after.steps[-1], seconds=round(time.monotonic() - started, 3))
    after = replace(after, steps=(*candidate.steps, record))
    shop.shelf.put(key, after)
    return after


def _alike(cell: Cell) -> frozenset[str]:
    """The operators whose weights the export gives one step a tensor."""
    return method_of(cell.runtime, cell.recipe, COMMON, learned=False).per_tensor


def _context(
    cell: Cell,
    step: Step,
    shop: Workshop,
    candidate: Candidate,
    checkpoint: Path | None,
) -> Context:
    """What the step's pass works with: nothing that is not in the key of its result."""
    recipe, looks = cell.recipe, step.name in table.LOOKS
    return Context(
        teacher=shop.teacher.keras,
        scheme=recipe.scheme if step.name in table.SCHEME else "",
        alike=_alike(cell) if step.name in table.SCHEME else frozenset(),
        select=selector(candidate.model, step),
        seed=shop.seed,
        train=shop.train if step.train is not None or looks else None,
        calibration=shop.calibration if looks else None,
        training=step.train,
        distill=step.distill,
        cost=figures.Exporting(like=shop.teacher, allow_flex=recipe.allow_flex),
        channels=cell.target.channels if step.name in table.CHANNELS else 1,
        checkpoint=checkpoint,
        folder=Path(recipe.folder),
        code=shop.trust.code,
    )


def _root(shop: Workshop) -> str:
    """The key of the model before any step."""
    own = shop.trust.custom_objects
    return stage_key(
        "passes",
        model=shop.teacher.sha256,
        inputs=[asdict(spec) for spec in shop.teacher.inputs],
        layers=sha256(own.read_bytes()) if own is not None else None,
        versions=versions(),
    )


def _code(recipe: Recipe, step: Step) -> dict[str, str]:
    """The digests of the user's files that a step's training runs."""
    names = step.train.functions if step.train is not None else ()
    files = {name: Path(recipe.folder) / name.rpartition(":")[0] for name in names}
    try:
        return {name: sha256(file.read_bytes()) for name, file in files.items()}
    except OSError as error:
        raise SpecError(
            f"recipe {recipe.id}: {error.filename}: {error.strerror}",
            "check the path of the code file",
        ) from error


def _attributed(
    recipe: Recipe, keys: tuple[str, ...], last: Candidate, made: Model, shop: Workshop
) -> tuple[StepRecord, ...]:
    """The steps' records with the figures before and after each."""
    found = [_figures(_root(shop), shop.teacher, recipe, shop)]
    for key in keys:
        model = made
        if key != keys[-1] and _known(key, shop) is None:
            model = replace(shop.teacher, keras=shop.shelf.get(key).model)
        found.append(_figures(key, model, recipe, shop))
    return tuple(
        replace(record, before=before, after=after)
        for record, before, after in zip(last.steps, found, found[1:], strict=False)
    )


def _known(key: str, shop: Workshop) -> Figures | None:
    if key not in shop.known and shop.shelf.resume:
        digest = shop.evaluation.digest if shop.evaluation is not None else ""
        kept = shop.shelf.figures(key, digest)
        if kept is not None:
            shop.known[key] = kept
    return shop.known.get(key)


def _figures(key: str, model: Model, recipe: Recipe, shop: Workshop) -> Figures:
    """The figures of the candidate with that key, taken once."""
    known = _known(key, shop)
    if known is not None:
        return known

    def quality(found: Model) -> float:
        assert shop.evaluation is not None
        assert shop.metric is not None
        return figures.scored(found, shop.evaluation, shop.metric)

    judged = shop.evaluation is not None and shop.metric is not None
    with progress("judge what was made"):
        found = figures.of_model(model, quality if judged else None, allow_flex=recipe.allow_flex)
    shop.known[key] = found
    shop.shelf.keep_figures(
        key, shop.evaluation.digest if shop.evaluation is not None else "", found
    )
    return found
