"""Learning from a teacher: its outputs, its inner values, and the labels' share beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepack.errors import ModelError
from edgepack.model.training.checkpoint import fingerprint
from edgepack.passes.ends import End
from edgepack.passes.hidden import Attention, Hint
from edgepack.passes.labels import Truth
from edgepack.passes.network import read, rebuild
from edgepack.passes.soften import logits, soft_loss
from edgepack.passes.taps import Tapped
from edgepack.passes.trunk import Pair, pairs
from edgepack.spec.steps import Distillation


class Distilled:
    """``labels`` times the labels' loss, the rest the teacher's softened outputs, and hints.

    The teacher sees each batch as the student does, in inference. Every output is taught; the
    labels speak of the first. ``ends`` say what the outputs are; those of the student and the
    teacher are alike.
    """

    def __init__(
        self,
        model: Any,
        teacher: Any,
        options: Distillation,
        truth: Truth | None,
        ends: Sequence[End],
        seed: int,
    ) -> None:
        ours = [tuple(output.shape[1:]) for output in model.outputs]
        theirs = [tuple(output.shape[1:]) for output in teacher.outputs]
        if ours != theirs:
            raise ModelError(
                f"{model.name}: its outputs are {ours}, the teacher's {theirs}",
                "distil into a model with the teacher's outputs",
            )
        self.options, self.truth, self.ends = options, truth, ends
        learned: list[Pair] = []
        if options.hidden is not None and options.hidden_weight > 0:
            teacher = rebuild(read(teacher))
            learned = pairs(read(teacher), read(model), options.hidden, places=options.attention)
        self.hidden = [
            Attention(pair) if options.attention else Hint(pair, (seed, 5, place))
            for place, pair in enumerate(learned)
        ]
        self.student = Tapped(model, [pair.student for pair in learned])
        self.teacher = Tapped(teacher, [pair.teacher for pair in learned])
        self.variables = [variable for hint in self.hidden for variable in hint.variables]
        weights = {str(i): v.numpy() for i, v in enumerate(teacher.weights)}
        self.identity = fingerprint([repr(options), repr(learned)], weights)

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """(loss, figures) of one batch."""
        from keras import ops

        learned, our_inner = self.student(x, training=training)
        taught, their_inner = self.teacher(x, training=False)
        soft: Any = sum(
            soft_loss(
                ops.stop_gradient(logits(their, end)),
                logits(our, end),
                end,
                self.options.temperature,
                classes=place == 0 and self.truth is not None and self.truth.is_classes,
            )
            for place, (their, our, end) in enumerate(zip(taught, learned, self.ends, strict=True))
        )
        share = self.options.labels if self.truth else 0.0
        total, figures = (1 - share) * soft, {"taught": soft}
        if self.truth is not None:
            total += share * self.truth.loss(y, learned, x)
            figures |= self.truth.figures(y, learned)
        if self.hidden:
            each = [
                hint.loss(ops.stop_gradient(their), our)
                for hint, their, our in zip(self.hidden, their_inner, our_inner, strict=True)
            ]
            figures["hidden"] = sum(each) / len(each)
            total += self.options.hidden_weight * figures["hidden"]
        return total, figures
