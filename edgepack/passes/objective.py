"""What a pass's training makes small: the labels' loss, the user's, the teacher's, or a mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.errors import DataError, SpecError
from edgepack.model.data import Data
from edgepack.model.training import Hooks, Objective, hooks
from edgepack.passes.candidate import Context
from edgepack.passes.ends import End, ends
from edgepack.passes.labels import Truth, UserLoss, label_loss
from edgepack.passes.network import functional
from edgepack.passes.taps import forward
from edgepack.passes.teach import Distilled

LOOKED_AT = 32


def objective(model: Any, context: Context, own: Hooks | None = None) -> Objective:
    """The objective that the context asks for; ``own`` are its training's hooks, if at hand.

    It may be asked for of the original model, before anything runs. Raises DataError where
    labels are missing or do not suit the model's outputs.
    """
    training, data = context.training, context.train
    if training is None or data is None:
        raise DataError("a training needs data", "add --train")
    own = own or hooks(training, data, context.folder, context.code)
    if own.step is not None:
        return Own()
    if context.distill is None:
        return Labels(model, _truth(model, data, own, len(model.outputs)))
    truth = None
    if context.distill.labels > 0:
        if data.labels() is None:
            raise DataError(
                f"{data.spec.id}: distillation with labels = {context.distill.labels:g} needs "
                "labels, and there are none",
                "name them with y = …, or set labels = 0 to learn from the teacher alone",
            )
        truth = _truth(model, data, own, 1)
    return Distilled(
        model, context.teacher, context.distill, truth, _ends(model, data), context.seed
    )


def _truth(model: Any, data: Data, own: Hooks, outputs: int) -> Truth:
    """The user's loss, or the one that the labels suggest for the first of ``outputs`` outputs."""
    if own.loss is not None:
        return UserLoss(called=own.loss, structure=functional(model).output)
    if outputs > 1:
        raise DataError(
            f"{model.name}: has {outputs} outputs, but labels are one array",
            "write loss = file.py:function, or distil: the teacher teaches every output",
        )
    shape, given = tuple(model.outputs[0].shape[1:]), data.x_shapes[0]
    return label_loss(data.labels(), _ends(model, data)[0], shape, given, data.spec.id)


def _ends(model: Any, data: Data) -> list[End]:
    def outputs() -> list[Any]:
        batch = next(data.batches(LOOKED_AT))
        return [value.numpy() for value in forward(model, batch.x, training=False)]

    return ends(model, outputs)


@dataclass(frozen=True, eq=False)
class Labels:
    """The loss of a model's outputs by their labels."""

    model: Any
    truth: Truth
    variables: Sequence[Any] = ()
    identity: str = "labels"

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """(loss, figures) of one batch."""
        outputs = forward(self.model, x, training=training)
        return self.truth.loss(y, outputs, x), self.truth.figures(y, outputs)


@dataclass(frozen=True, eq=False)
class Own:
    """The loss is inside the user's own step."""

    variables: Sequence[Any] = ()
    identity: str = "own"

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """Never asked for: a step of one's own is judged by a metric."""
        raise SpecError("a step of one's own does not tell its loss", "judge it by a metric")
