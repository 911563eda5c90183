"""Every pass on every shape of model: what it promises, whatever it does inside."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.errors import EdgepackError
from edgepack.export import compare, export
from edgepack.model.data import Data, open_data
from edgepack.model.load import Model
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.layers import KERNELS, kind, values
from edgepack.passes.network import read
from edgepack.passes.select import selector
from edgepack.passes.table import MODULES, apply
from edgepack.runtimes import child, tables
from edgepack.spec.data import Dataset
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import FAMILIES, Distillation, Step, Training
from tests.graphs import GRAPHS, graph
from tests.tf.export_models import as_model

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.no_cover]
ROWS = 48
LITERT, TFLM = tables.load("litert-2.3"), tables.load("tflm")
NOT_ON_TFLM = {"recurrent"}
LEAST_DB = {"int8": 12.0, "int4": 0.0}
TAUGHT = {
    "train": Training(epochs=1, batch_size=16, learning_rate=1e-4),
    "distill": Distillation(labels=0.0),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A step, the scheme that follows it, and whether its model computes just the same."""

    step: Step
    scheme: str = "int8"
    exact: bool = False


def plain(name: str, **options: Any) -> Step:
    """A step that does not train."""
    return Step(name=name, options=options)


def taught(name: str, **options: Any) -> Step:
    """A step that learns from the teacher for one epoch."""
    return Step(name=name, options=options, **TAUGHT)


CASES = {
    "qat": Case(step=taught("qat")),
    "qat-int4": Case(step=plain("qat"), scheme="int4"),
    "binary": Case(step=taught("binary")),
    "ternary": Case(step=plain("ternary")),
    "sparse": Case(step=taught("sparse", sparsity=0.5)),
    "sparse2x4": Case(step=plain("sparse", pattern="2:4")),
    "cluster": Case(step=plain("cluster", clusters=4)),
    "prune-filters": Case(step=plain("prune-filters", keep=0.6)),
    "lowrank": Case(step=plain("lowrank")),
    "separable": Case(step=plain("separable")),
    "width": Case(step=plain("width", alpha=0.5)),
    "activations": Case(step=plain("activations")),
    "head": Case(step=plain("head")),
    "fold": Case(step=plain("fold"), exact=True),
    "equalize": Case(step=plain("equalize"), exact=True),
    "correct-biases": Case(step=plain("correct-biases")),
    "adaround": Case(step=plain("adaround", iterations=20)),
    "distill": Case(step=taught("distill")),
    "student": Case(step=taught("student")),
    "finetune": Case(step=taught("finetune")),
}
MAY_FIND_NOTHING = {"fold", "activations", "head", "separable", "equalize"}
"""Passes for layers that not every graph has."""
REFUSED = {
    ("student", "ends"): "input",
    ("student", "shared"): "input",
    ("student", "decoder"): "one row",
}
"""(case, graph) that a pass refuses as a whole, and a word of why."""


@cache
def source(name: str) -> Model:
    """The graph as a loaded model."""
    return as_model(graph(name), name)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Unlabelled samples of each graph, from files."""
    folder = tmp_path_factory.mktemp("samples")

    @cache
    def opened(name: str) -> Data:
        rng = np.random.default_rng(3)
        arrays = {
            f"x{place}": rng.normal(0, 1, (ROWS, *spec.shape[1:])).astype(np.float32)
            for place, spec in enumerate(source(name).inputs)
        }
        np.savez(folder / f"{name}.npz", **arrays)
        return open_data(
            Dataset(id=name, source="npz", folder=str(folder), path=f"{name}.npz", x=tuple(arrays))
        )

    return opened


def context(case: Case, model: Any, data: Data) -> Context:
    """What the workflow would give."""
    return Context(
        teacher=model,
        scheme=case.scheme,
        select=selector(model, case.step),
        train=data,
        calibration=data,
        training=case.step.train,
        distill=case.step.distill,
    )


def answers(model: Any, data: Data) -> list[np.ndarray]:
    import keras

    x = list(next(data.batches(ROWS)).x)
    made = model(x if len(x) > 1 else x[0], training=False)
    return [np.asarray(y) for y in keras.tree.flatten(made)]


def kernels(model: Any) -> dict[str, np.ndarray]:
    """Layer name → kernel."""
    calls = read(model).calls
    return {call.name: values(call.layer) for call in calls if kind(call.layer) in KERNELS}


def test_every_pass_has_a_case():
    assert set(MODULES) == set(FAMILIES) == {case.step.name for case in CASES.values()}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("what", CASES)
def test_a_pass_keeps_its_promises(what: str, name: str, data: Any, tmp_path: Path):
    case, model, rows = CASES[what], source(name), data(name)
    before, weights = answers(model.keras, rows), kernels(model.keras)
    if (what, name) in REFUSED:
        with pytest.raises(EdgepackError, match=REFUSED[what, name]) as refused:
            apply(case.step, Candidate(model=model.keras), context(case, model.keras, rows))
        assert refused.value.hint
        return
    made = apply(case.step, Candidate(model=model.keras), context(case, model.keras, rows))

    for a, b in zip(before, answers(model.keras, rows), strict=True):
        np.testing.assert_array_equal(a, b, err_msg="the given model was changed")
    after = answers(made.model, rows)
    assert [y.shape for y in after] == [y.shape for y in before]
    assert all(np.isfinite(y).all() for y in after)
    assert [t.name for t in made.model.inputs] == [t.name for t in model.keras.inputs]
    if case.exact:
        for a, b in zip(before, after, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-4)

    _check_record(case, made, weights)
    _check_constraints(made)
    _check_saved(made.model, rows, after, tmp_path)
    _check_export(case, replace(model, keras=made.model), rows, after, name)


def _check_record(case: Case, made: Candidate, before: dict[str, np.ndarray]) -> None:
    (record,) = made.steps
    assert record.name == case.step.name
    assert record.changed or record.skipped or case.step.name in MAY_FIND_NOTHING
    assert all(note.why for note in record.skipped)
    if case.step.train is not None:
        return  # all weights moved
    told, now = " ".join(record.changed), kernels(made.model)
    for layer, kernel in before.items():
        same = layer in now and np.array_equal(now[layer], kernel)
        assert same or layer in told, f"{layer} changed, and no word of it: {record.changed}"


def _check_constraints(made: Candidate) -> None:
    for constraint in made.constraints:
        kept = values(made.model.get_layer(constraint.layer), constraint.weight)
        np.testing.assert_allclose(constraint.project(kept), kept, atol=1e-6)


def _check_saved(model: Any, rows: Data, after: list[np.ndarray], folder: Path) -> None:
    import keras

    model.save(folder / "candidate.keras")
    again = keras.saving.load_model(folder / "candidate.keras", compile=False)
    for a, b in zip(after, answers(again, rows), strict=True):
        np.testing.assert_array_equal(a, b)


def _check_export(case: Case, model: Model, rows: Data, after: list[np.ndarray], name: str) -> None:
    recipe = Recipe(id="t", scheme=case.scheme, calibrator="minmax", steps=(case.step,))
    content = export(model, recipe, LITERT, rows).content
    inputs = list(next(rows.batches(ROWS)).x)
    check = compare(content, inputs, after, model, recipe, LITERT)
    assert check.status == "ok", check.why
    assert check.sqnr_db is None or check.sqnr_db > LEAST_DB[case.scheme]
    if name not in NOT_ON_TFLM and child.available(TFLM.id) is None:
        check = compare(content, inputs, after, model, recipe, TFLM)
        assert check.status == "ok", check.why


def test_modules_load_without_tensorflow():
    import subprocess
    import sys

    code = (
        "import sys, importlib\n"
        f"for name in {list(MODULES.values())}: importlib.import_module(name).Options\n"
        "sys.exit(sum(m in sys.modules for m in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(hasattr(importlib.import_module(name), "apply") for name in MODULES.values())
