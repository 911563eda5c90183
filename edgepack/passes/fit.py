"""How passes train: the context's budget, labels or teacher, and every constraint kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.model.training import Guide, History, hooks, train
from edgepack.passes.candidate import Context
from edgepack.passes.constraints import Constraint
from edgepack.passes.layers import variable
from edgepack.passes.objective import objective


def fit(
    model: Any,
    context: Context,
    *,
    label: str,
    constraints: Sequence[Constraint] = (),
    guides: Sequence[Guide] = (),
) -> History | None:
    """Train a pass's model in place, if the step trains; None where it does not.

    ``model`` keeps ``constraints`` after every update and satisfies them at the end.
    """
    keeping = Keeping(model, constraints)
    keeping.after(0, 0)
    if context.training is None:
        return None
    if context.train is None:
        raise DataError(f"{label} trains, but there is no training data", "add --train")
    own = hooks(context.training, context.train, context.folder, context.code)
    return train(
        model,
        context.train,
        context.training,
        objective(model, context, own),
        seed=context.seed,
        guides=[*guides, keeping],
        hooks=own,
        checkpoint=context.checkpoint,
        label=label,
    )


def told(history: History | None) -> tuple[str, ...]:
    """What a training did to a model, for its step's record."""
    epochs = kept_epochs(history)
    if history is None or not epochs:
        return ()
    losses = f"loss {history.losses[0]:.4g} → {history.losses[epochs - 1]:.4g}"
    return (f"all weights: {epochs} epochs, {losses}",)


def kept_epochs(history: History | None) -> int:
    """The epochs whose work a model still holds: with patience, those up to the best one."""
    if history is None:
        return 0
    return history.best if history.best is not None else len(history.losses)


def trained(history: History | None) -> tuple[str, ...]:
    """The same in short, for a pass that has more to tell than its training."""
    if history is None:
        return ()
    epochs = kept_epochs(history)
    return (f"trained {epochs} epochs" if epochs else "no epoch of its training was better",)


class Keeping:
    """Projects constrained weights after each update; remembers nothing."""

    settled = True

    def __init__(self, model: Any, constraints: Sequence[Constraint]) -> None:
        import tensorflow as tf

        bound = [(c, variable(model.get_layer(c.layer), c.weight)) for c in constraints]

        def project() -> None:
            for constraint, target in bound:
                target.assign(constraint.project(target.value))

        self.project = tf.function(project, autograph=False) if bound else project

    def before(self, done: int, total: int) -> None:
        """Nothing to do."""

    def after(self, done: int, total: int) -> None:
        """Project."""
        self.project()

    def state(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Nothing."""
