"""What a pass's training makes small: the labels' loss, the teacher's, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepack.errors import DataError, ModelError
from edgepack.model.keras_file import packed
from edgepack.model.training import Objective
from edgepack.passes.candidate import Context
from edgepack.passes.ends import End, ends
from edgepack.passes.labels import LabelLoss, label_loss
from edgepack.passes.soften import logits, soft_loss
from edgepack.spec.steps import Distillation

LOOKED_AT = 32


def objective(model: Any, context: Context) -> Objective:
    """The objective that the context asks for.

    Raises DataError where labels are missing or do not suit the model's outputs.
    """
    labels = None
    if context.distill is None or context.distill.labels > 0:
        labels = _labels(model, context)
    if context.distill is None:
        if labels is None or len(model.outputs) > 1:
            raise DataError(
                f"{model.name}: has {len(model.outputs)} outputs, but labels are one array",
                "give loss = file.py:function, or distil: the teacher teaches every output",
            )
        return Labels(model, labels)
    return Distilled(model, context.teacher, context.distill, labels, _ends(model, context))


def _ends(model: Any, context: Context) -> list[End]:
    def outputs() -> list[Any]:
        if context.train is None:
            raise DataError("training needs data", "add --train")
        batch = next(context.train.batches(LOOKED_AT))
        return [value.numpy() for value in forward(model, batch.x, training=False)]

    return ends(model, outputs)


def _labels(model: Any, context: Context) -> LabelLoss:
    """The loss that the training data's labels suggest for the first output."""
    data = context.train
    if data is None:
        raise DataError("training needs data", "add --train")
    y = data.labels()
    if y is None and context.distill is not None:
        raise DataError(
            f"{data.spec.id}: distillation with labels = {context.distill.labels:g} needs labels, "
            "and there are none",
            "name them with y = …, or set labels = 0 to learn from the teacher alone",
        )
    shape = tuple(model.outputs[0].shape[1:])
    return label_loss(y, _ends(model, context)[0], shape, data.x_shapes[0], data.spec.id)


def forward(model: Any, x: Sequence[Any], *, training: bool) -> list[Any]:
    """The outputs of a Keras model, in flat order, for inputs in the data's order."""
    import keras

    outputs: list[Any] = keras.tree.flatten(model(packed(model, list(x)), training=training))
    return outputs


class Labels:
    """The usual loss of a model's one output."""

    variables: Sequence[Any] = ()

    def __init__(self, model: Any, labels: LabelLoss) -> None:
        self.model, self.labels = model, labels

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """(loss, figures) of one batch."""
        output = forward(self.model, x, training=training)[0]
        return self.labels.loss(y, output, x), figures(self.labels, y, output)


def figures(labels: LabelLoss | None, y: Any, output: Any) -> dict[str, Any]:
    """What is worth showing of a batch beside its loss."""
    if labels is None or not labels.is_classes:
        return {}
    return {"top1": labels.top1(y, output)}


class Distilled:
    """The teacher's outputs, softened, and as much of the labels' loss as is asked for.

    The teacher sees each batch as the student does, in inference. Every output is taught; the
    labels speak of the first.
    """

    variables: Sequence[Any] = ()

    def __init__(
        self,
        model: Any,
        teacher: Any,
        options: Distillation,
        labels: LabelLoss | None,
        kinds: Sequence[End],
    ) -> None:
        self.model, self.teacher, self.options = model, teacher, options
        self.labels, self.kinds = labels, kinds
        ours = [tuple(output.shape[1:]) for output in model.outputs]
        theirs = [tuple(output.shape[1:]) for output in teacher.outputs]
        if ours != theirs:
            raise ModelError(
                f"{model.name}: its outputs are {ours}, the teacher's {theirs}",
                "distil into a model with the teacher's outputs",
            )

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """(loss, figures) of one batch."""
        from keras import ops

        learned = forward(self.model, x, training=training)
        taught = forward(self.teacher, x, training=False)
        share = self.options.labels if self.labels else 0.0
        soft = sum(
            soft_loss(
                ops.stop_gradient(logits(their, end)),
                logits(our, end),
                end,
                self.options.temperature,
                classes=self._is_classes(place),
            )
            for place, (their, our, end) in enumerate(zip(taught, learned, self.kinds, strict=True))
        )
        total: Any = (1 - share) * soft
        if self.labels is not None:
            total += share * self.labels.loss(y, learned[0], x)
        return total, {"taught": soft, **figures(self.labels, y, learned[0])}

    def _is_classes(self, place: int) -> bool:
        return place == 0 and self.labels is not None and self.labels.is_classes
