"""Every shipped recipe: its steps go together, and its id says what they are."""

from __future__ import annotations

import pytest

from edgepack.errors import SpecError
from edgepack.passes.rules import check
from edgepack.spec.library import find, load, shipped
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import Step

PATHS = sorted(shipped(Recipe).glob("*.toml"))
PLAIN = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")
OTHERS = ("int8-float-io", "mixed-first-last-float")
PROMISED = [
    "qat-int8",
    "qat-int4",
    "qat-int16x8",
    "binary-int8",
    "ternary-int8",
    "sparse75-int8",
    "sparse75-distill-int8",
    "sparse75-qat-int8",
    "sparse2x4-int8",
    "prune-filters50-distill-int8",
    "prune-filters50-qat-distill-int8",
    "cluster16-int8",
    "cluster16-qat-int8",
    "sparse75-cluster16-qat-int8",
    "distill-int8",
    "lowrank-distill-int8",
    "separable-distill-qat-int8",
    "equalize-adaround-int8",
    "finetune-int8",
    "student-distill-int8",
]


def word(step: Step) -> str:
    """What an id calls a step, and the teacher that helps it."""
    said = {
        "sparse": lambda o: "sparse2x4" if o.get("pattern") else f"sparse{o['sparsity'] * 100:g}",
        "prune-filters": lambda o: f"prune-filters{o['keep'] * 100:g}",
        "cluster": lambda o: f"cluster{o['clusters']}",
    }
    name = said.get(step.name, lambda o: step.name)(step.options)
    return f"{name}-distill" if step.distill is not None and step.name != "distill" else name


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_its_steps_go_together(path):
    recipe = load(Recipe, path)
    check(recipe)
    assert recipe.description
    assert '"' not in recipe.description
    if recipe.id not in OTHERS:
        assert recipe.id == "-".join([*map(word, recipe.steps), recipe.scheme])


def test_the_promised_ones_are_there():
    assert {*PROMISED, *PLAIN} <= {path.stem for path in PATHS}


def test_budgets_are_those_of_a_fine_tuning():
    for path in PATHS:
        recipe = load(Recipe, path)
        epochs = sum(step.train.epochs for step in recipe.steps if step.train)
        fresh = any(step.name == "student" for step in recipe.steps)
        assert epochs in ((40,) if fresh else (0, 8)), recipe.id


@pytest.mark.parametrize(
    ("name", "train", "labels", "families"),
    [
        ("qat-int8", True, True, ("quantization-aware training", "quantization")),
        ("equalize-adaround-int8", False, False, ("repair", "quantization")),
        (
            "prune-filters50-distill-int8",
            True,
            True,
            ("filter pruning", "distillation", "quantization"),
        ),
    ],
)
def test_what_they_need(name, train, labels, families):
    recipe = find(Recipe, name)
    assert (recipe.needs_train, recipe.needs_labels) == (train, labels)
    assert recipe.families == families


TRAIN = {"epochs": 1}
WRONG = [
    ("int8", [{"name": "sparse", "options": {"sparsty": 0.5}}], "unknown key 'sparsty'"),
    ("int8", [{"name": "sparse", "options": {"sparsity": 1.5}}], "should be less than 1"),
    ("int8", [{"name": "qat"}, {"name": "sparse"}], "'sparse' comes after 'qat'"),
    ("int8", [{"name": "adaround"}, {"name": "qat"}], "'qat' comes after 'adaround'"),
    ("int8", [{"name": "adaround"}, {"name": "finetune", "train": TRAIN}], "after 'adaround'"),
    ("float32", [{"name": "qat"}], "no use for"),
    ("int8", [{"name": "equalize", "train": TRAIN}], "'equalize' does not train"),
    ("int8", [{"name": "finetune"}], "'finetune' does nothing"),
    ("int8", [{"name": "student"}], "'student' does nothing"),
]


def recipe_of(scheme: str, steps: list[dict]) -> Recipe:
    """A recipe from what its file would say."""
    from edgepack.spec.toml import parse

    return parse(Recipe, {"id": "mine", "scheme": scheme, "steps": steps}, "mine.toml")


@pytest.mark.parametrize(("scheme", "steps", "why"), WRONG, ids=[case[2] for case in WRONG])
def test_steps_that_do_not_go_together(scheme, steps, why):
    with pytest.raises(SpecError, match="recipe mine: ") as caught:
        check(recipe_of(scheme, steps))
    assert why in caught.value.message
    assert caught.value.hint or "sparsity" in why or "should be" in why


def test_what_may_come_after_the_grid():
    check(recipe_of("int8", [{"name": "qat"}, {"name": "finetune", "train": TRAIN}]))
    check(recipe_of("int8", [{"name": "adaround"}, {"name": "correct-biases"}]))
