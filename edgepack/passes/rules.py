"""What the steps of a recipe must be, whatever the model: checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable

from edgepack.errors import SpecError
from edgepack.passes.table import options
from edgepack.spec.recipe import Recipe

NEVER_TRAIN = ("fold", "equalize", "correct-biases", "adaround")
MUST_TRAIN = ("finetune", "distill", "student")
AFTER = {"qat": ("distill", "finetune"), "adaround": ("correct-biases",)}
"""What may come after the steps that put weights on the export's own grid."""
LEARNED = ("int8", "int4", "int16x8", "mixed")
"""The schemes that honour ranges that ``qat`` learned."""


def check(recipe: Recipe) -> None:
    """Raises SpecError for the first thing that is wrong with the recipe's steps."""
    for place, step in enumerate(recipe.steps):
        options(step, f"recipe {recipe.id}: steps[{place}].options")
    for rule in RULES:
        rule(recipe)


def _trains(recipe: Recipe) -> None:
    for step in recipe.steps:
        if step.train is not None and step.name in NEVER_TRAIN:
            raise SpecError(
                f"recipe {recipe.id}: step '{step.name}' does not train",
                "leave out its train, or add a step finetune or distill after it",
            )
        if step.train is None and step.name in MUST_TRAIN:
            raise SpecError(
                f"recipe {recipe.id}: step '{step.name}' does nothing without training",
                "add train = {epochs = …} to it",
            )


def _order(recipe: Recipe) -> None:
    for place, step in enumerate(recipe.steps):
        after = [later.name for later in recipe.steps[place + 1 :]]
        wrong = [name for name in after if name not in AFTER.get(step.name, after)]
        if wrong:
            raise SpecError(
                f"recipe {recipe.id}: step '{wrong[0]}' comes after '{step.name}', whose weights "
                "lie on the grid that is exported",
                f"put '{step.name}' last; after it may come: {', '.join(AFTER[step.name])}",
            )


def _scheme(recipe: Recipe) -> None:
    names = [step.name for step in recipe.steps]
    if "qat" in names and recipe.scheme not in LEARNED:
        raise SpecError(
            f"recipe {recipe.id}: qat learns ranges that scheme '{recipe.scheme}' has no use for",
            f"choose one of {', '.join(LEARNED)}, or leave qat out",
        )


RULES: tuple[Callable[[Recipe], None], ...] = (_trains, _order, _scheme)
