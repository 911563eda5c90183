"""What a recipe's steps need is asked for before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import SpecError
from edgepack.spec.data import Dataset
from edgepack.spec.library import find, load
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import Distillation, Step, Training
from edgepack.spec.target import Target
from edgepack.workflow.job import Job, Trust, cells, open_sets
from tests.tiny import write_set

FINETUNE = Step(name="finetune", train=Training(epochs=1))
TAUGHT = replace(FINETUNE, distill=Distillation(labels=0.0))
OWN = replace(FINETUNE, train=Training(epochs=1, loss="mine.py:loss"))


def job(folder: Path, *steps: Step, scheme: str = "float32", **given: object) -> Job:
    """A job of one recipe of these steps; no file of it is ever opened."""
    return Job(
        model=folder / "model.keras",
        targets=(find(Target, "generic-linux-x86_64"),),
        recipes=(Recipe(id="mine", scheme=scheme, steps=steps, folder=str(folder)),),
        out=folder / "out",
        **given,
    )


def told(asked: Job) -> SpecError:
    """The error of checking a job."""
    with pytest.raises(SpecError) as caught:
        open_sets(asked, cells(asked))
    return caught.value


@pytest.fixture
def data(tmp_path) -> Dataset:
    """Eight samples."""
    x = np.random.default_rng(0).random((8, 4), np.float32)
    return load(Dataset, write_set(tmp_path, "data", x=x, y=np.arange(8) % 2))


def test_a_training_needs_data_and_says_whether_labels(tmp_path):
    error = told(job(tmp_path, FINETUNE))
    assert error.message == "recipe mine trains: step 'finetune' needs training data"
    assert error.hint.startswith("add --train")
    assert "labels" not in error.hint
    assert "labels are not needed" in told(job(tmp_path, TAUGHT)).hint


@pytest.mark.parametrize(
    "step",
    [
        Step(name="adaround"),
        Step(name="correct-biases"),
        Step(name="equalize"),
        Step(name="qat"),
        Step(name="prune-filters", options={"criterion": "taylor"}),
    ],
    ids=lambda step: step.name,
)
def test_a_step_that_looks_at_samples_needs_some(tmp_path, step, data):
    scheme = "int8" if step.name == "qat" else "float32"
    assert "looks at samples" in told(job(tmp_path, step, scheme=scheme)).message
    asked = job(tmp_path, step, scheme=scheme, calibration=data)
    assert open_sets(asked, cells(asked)).calibration is not None
    if scheme == "float32":
        asked = job(tmp_path, step, scheme=scheme, train=data)
        assert open_sets(asked, cells(asked)).train is not None


@pytest.mark.parametrize(
    "step",
    [
        Step(name="sparse"),
        Step(name="equalize", options={"by": "weights"}),
        Step(name="lowrank"),
        Step(name="prune-filters", options={"criterion": "l1"}),
    ],
    ids=lambda step: step.name,
)
def test_a_step_that_can_do_without_asks_for_nothing(tmp_path, step):
    asked = job(tmp_path, step)
    assert open_sets(asked, cells(asked)).train is None


def test_a_users_function_needs_leave_and_a_file(tmp_path, data):
    error = told(job(tmp_path, OWN, train=data))
    assert "mine.py:loss" in error.message
    assert "--allow-code" in error.hint
    assert (
        "no such Python file"
        in told(job(tmp_path, OWN, train=data, trust=Trust(code=True))).message
    )
    (tmp_path / "mine.py").write_text("def loss(a, b): return a")
    asked = job(tmp_path, OWN, train=data, trust=Trust(code=True))
    open_sets(asked, cells(asked))


def test_steps_that_do_not_go_together_are_told_first(tmp_path):
    asked = job(tmp_path, Step(name="qat"), Step(name="sparse"), scheme="int8")
    with pytest.raises(SpecError, match="'sparse' comes after 'qat'"):
        cells(asked)


def test_what_is_refused_by_the_target_asks_for_no_data(tmp_path):
    both = replace(
        job(tmp_path, FINETUNE, scheme="float16"),
        targets=(find(Target, "nucleo-f446re"), find(Target, "generic-linux-x86_64")),
        recipes=(
            Recipe(id="mine", scheme="float16", steps=(FINETUNE,)),
            Recipe(id="plain", scheme="float32"),
        ),
    )
    assert "needs training data" in told(both).message
    refused = replace(both, targets=both.targets[:1])
    assert open_sets(refused, cells(refused)).train is None
