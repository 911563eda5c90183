"""The key of a finished step: what its result depends on is in it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import SpecError
from edgepack.model.load import Model
from edgepack.records import TensorSpec
from edgepack.runtimes.tables import load
from edgepack.spec.library import find
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import Distillation, Step, Training
from edgepack.spec.target import Target
from edgepack.workflow.compress import Workshop, chain
from edgepack.workflow.job import Cell, Trust
from edgepack.workflow.shelf import Shelf
from tests.sets import data_of

TARGET = find(Target, "generic-linux-x86_64")
FINETUNE = Step(name="finetune", train=Training(epochs=1))
SPARSE = Step(name="sparse", train=Training(epochs=1), distill=Distillation())
PLAIN = Step(name="sparse", options={"sparsity": 0.5})
QAT = Step(name="qat", train=Training(epochs=1))
PRUNE = Step(name="prune-filters", options={"criterion": "l1"})


def recipe(*steps: Step, scheme: str = "int8", folder: Path = Path()) -> Recipe:
    """A recipe of these steps."""
    return Recipe(id="mine", scheme=scheme, steps=steps, folder=str(folder))


def cell(made: Recipe, target: Target = TARGET, runtime: str = "litert-2.3") -> Cell:
    """A recipe for a target, by one of its runtimes."""
    return Cell(target=target, recipe=made, runtime=load(runtime))


@pytest.fixture
def shop(tmp_path) -> Workshop:
    """Where recipes are carried out on a model that nobody loads."""
    rng = np.random.default_rng(0)
    sets = []
    for name in ("train", "calibration"):
        (tmp_path / name).mkdir()
        sets.append(data_of(tmp_path / name, x=rng.random((8, 4)), y=np.arange(8) % 2))
    spec = TensorSpec(name="x", shape=(1, 4), dtype="float32")
    return Workshop(
        teacher=Model(
            name="m", path=tmp_path, sha256="0" * 64, kind="keras", inputs=(spec,), outputs=(spec,)
        ),
        train=sets[0],
        calibration=sets[1],
        evaluation=None,
        metric=None,
        seed=0,
        trust=Trust(),
        shelf=Shelf(tmp_path / "candidates", Trust(), resume=True),
    )


def test_recipes_that_begin_alike_share_their_first_steps(shop):
    short, long = chain(cell(recipe(SPARSE)), shop), chain(cell(recipe(SPARSE, FINETUNE)), shop)
    assert long[:1] == short
    assert len(set(long)) == 2
    assert chain(cell(recipe(FINETUNE, SPARSE)), shop)[1] != long[1]


@pytest.mark.parametrize("name", ["adaround", "sparse"])
def test_one_step_a_tensor_counts_where_a_step_rounds_to_it(shop, name):
    made = recipe(Step(name=name), scheme="int4")
    a, b = (chain(cell(made, runtime=name), shop) for name in ("litert-2.3", "tflm"))
    assert (a != b) == (name == "adaround")


@pytest.mark.parametrize(
    ("step", "depends"),
    [(SPARSE, False), (FINETUNE, False), (PRUNE, False), (QAT, True)],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_scheme_counts_where_a_step_asks_for_it(shop, step, depends):
    a, b = (chain(cell(recipe(step, scheme=name)), shop) for name in ("int8", "int16x8"))
    assert (a != b) == depends


@pytest.mark.parametrize(("step", "depends"), [(SPARSE, False), (PRUNE, True)])
def test_the_target_counts_where_a_step_asks_for_its_channels(shop, step, depends):
    other = replace(TARGET, id="other", name="Other", channels=8)
    assert (chain(cell(recipe(step)), shop) != chain(cell(recipe(step), other), shop)) == depends


@pytest.mark.parametrize(
    ("step", "train", "calibration"),
    [(PLAIN, False, False), (SPARSE, True, False), (QAT, True, True), (PRUNE, True, True)],
)
def test_data_counts_where_a_step_reads_it(shop, step, train, calibration):
    key = chain(cell(recipe(step)), shop)
    swapped = replace(shop, train=shop.train.select([0, 1]))
    assert (chain(cell(recipe(step)), swapped) != key) == train
    swapped = replace(shop, calibration=shop.calibration.select([0, 1]))
    assert (chain(cell(recipe(step)), swapped) != key) == calibration


@pytest.mark.parametrize(
    "other",
    [
        replace(SPARSE, options={"sparsity": 0.6}),
        replace(SPARSE, skip="@first"),
        replace(SPARSE, train=Training(epochs=2)),
        replace(SPARSE, distill=Distillation(temperature=2.0)),
    ],
)
def test_every_part_of_a_step_counts(shop, other):
    assert chain(cell(recipe(other)), shop) != chain(cell(recipe(SPARSE)), shop)


def test_seed_model_and_its_own_layers_count(shop, tmp_path):
    key = chain(cell(recipe(PLAIN)), shop)
    assert chain(cell(recipe(PLAIN)), replace(shop, seed=1)) != key
    model = replace(shop.teacher, sha256="1" * 64)
    assert chain(cell(recipe(PLAIN)), replace(shop, teacher=model)) != key
    layers = tmp_path / "layers.py"
    layers.write_text("class A: ...")
    trusted = replace(shop, trust=Trust(custom_objects=layers))
    first = chain(cell(recipe(PLAIN)), trusted)
    assert first != key
    layers.write_text("class B: ...")
    assert chain(cell(recipe(PLAIN)), trusted) != first


def test_the_users_functions_count_by_their_content(shop, tmp_path):
    own = replace(FINETUNE, train=Training(epochs=1, loss="mine.py:loss"))
    (tmp_path / "mine.py").write_text("def loss(a, b): return a")
    first = chain(cell(recipe(own, folder=tmp_path)), shop)
    (tmp_path / "mine.py").write_text("def loss(a, b): return b")
    assert chain(cell(recipe(own, folder=tmp_path)), shop) != first
    (tmp_path / "mine.py").unlink()
    with pytest.raises(SpecError, match="No such file"):
        chain(cell(recipe(own, folder=tmp_path)), shop)


def test_words_do_not_count(shop):
    named = replace(recipe(SPARSE), id="other", description="other words")
    assert chain(cell(named), shop) == chain(cell(recipe(SPARSE)), shop)
