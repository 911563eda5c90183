"""The loss that labels and outputs suggest: cross-entropy for classes, squared error for values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.model.training.hooks import unlisted
from edgepack.passes.ends import End

Kind = Literal["classes", "one-hot", "binary", "values", "input"]


class Truth(Protocol):
    """What labels say of a model's outputs, given in flat order."""

    @property
    def is_classes(self) -> bool:
        """Whether the first output's last axis tells classes apart, of which one is right."""
        ...

    def loss(self, y: Any, outputs: Sequence[Any], x: Sequence[Any]) -> Any:
        """The mean loss of a batch, a scalar."""
        ...

    def figures(self, y: Any, outputs: Sequence[Any]) -> dict[str, Any]:
        """What is worth showing of a batch beside its loss."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class UserLoss:
    """A user's function of labels, outputs in the ``structure`` of the model's, and inputs."""

    called: Callable[[Any, Any, Any], Any]
    structure: Any
    is_classes: bool = False

    def loss(self, y: Any, outputs: Sequence[Any], x: Sequence[Any]) -> Any:
        """The mean of what the function returns."""
        import keras

        given = keras.tree.pack_sequence_as(self.structure, list(outputs))
        if isinstance(given, list | tuple):
            given = unlisted(given)
        return keras.ops.mean(self.called(y, given, unlisted(x)))

    def figures(self, y: Any, outputs: Sequence[Any]) -> dict[str, Any]:
        """None that are known."""
        return {}


@dataclass(frozen=True, kw_only=True)
class LabelLoss:
    """The loss of one output. ``end`` says whether it is probabilities or logits.

    ``classes``: whole numbers, one for each sample or pixel. ``one-hot``: a distribution over
    the last axis. ``binary``: 0 or 1 for each output value. ``values``: squared error.
    ``input``: squared error to the first input, as of an autoencoder.
    """

    kind: Kind
    end: End

    @property
    def is_classes(self) -> bool:
        """See Truth."""
        return self.kind in ("classes", "one-hot")

    def loss(self, y: Any, outputs: Sequence[Any], x: Sequence[Any]) -> Any:
        """Of the first output; see Truth."""
        from keras import ops

        output = ops.cast(outputs[0], "float32")
        truth = self._truth(x[0] if self.kind == "input" else y, output)
        if self.kind in ("values", "input"):
            return ops.mean(ops.square(output - truth))
        if self.kind == "binary" or self.end == "sigmoid":
            each = ops.binary_crossentropy(truth, output, from_logits=self.end == "linear")
        else:
            each = ops.categorical_crossentropy(truth, output, from_logits=self.end == "linear")
        return ops.mean(each)

    def figures(self, y: Any, outputs: Sequence[Any]) -> dict[str, Any]:
        """The share of right classes, where there are any."""
        from keras import ops

        if not self.is_classes:
            return {}
        truth = ops.argmax(self._truth(y, outputs[0]), -1)
        right = ops.argmax(outputs[0], -1) == truth
        return {"top1": ops.mean(ops.cast(right, "float32"))}

    def _truth(self, y: Any, output: Any) -> Any:
        """What the output should be, in its shape."""
        from keras import ops

        if self.kind == "classes":
            classes = ops.reshape(ops.cast(y, "int32"), ops.shape(output)[:-1])
            return ops.one_hot(classes, output.shape[-1], dtype="float32")
        return ops.reshape(ops.cast(y, "float32"), ops.shape(output))


def label_loss(
    y: NDArray[Any] | None,
    end: End,
    output: tuple[int, ...],
    given: tuple[int, ...],
    where: str,
) -> LabelLoss:
    """The loss for labels ``y`` (all of them, (n, …)) and an output that ``end`` describes.

    ``output`` and ``given`` are the shapes of one sample's output and first input. Raises
    DataError where labels and output do not go together.
    """
    if y is None:
        if output == given:
            return LabelLoss(kind="input", end=end)
        raise DataError(
            f"{where}: training learns from labels, and there are none",
            "name them with y = …, or distil with labels = 0",
        )
    found = _kind(y, end, output)
    if found is None:
        raise DataError(
            f"{where}: labels of {_by(y.shape[1:])} for outputs of {_by(output)}",
            "give one class or one target for each output, or loss = file.py:function",
        )
    if found == "classes":
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= output[-1]:
            raise DataError(
                f"{where}: labels run from {low} to {high}, but the model has {output[-1]} classes",
                f"give labels from 0 to {output[-1] - 1}",
            )
    return LabelLoss(kind=found, end=end)


def _kind(y: NDArray[Any], end: End, output: tuple[int, ...]) -> Kind | None:
    shape = y.shape[1:-1] if y.ndim > 1 and y.shape[-1] == 1 else y.shape[1:]
    same = int(np.prod(y.shape[1:])) == int(np.prod(output))
    wide = bool(output) and output[-1] > 1
    if wide and shape == output[:-1] and _whole(y):
        return "classes"
    if not same:
        return None
    if wide and end != "sigmoid" and _one_hot(y, output, strict=end == "linear"):
        return "one-hot"
    if end == "sigmoid" and y.min() >= 0 and y.max() <= 1:
        return "binary"
    # A linear output with labels 0 and 1 is a logit if the labels are no measured values.
    if not wide and y.dtype.kind in "biu" and set(np.unique(y)) <= {0, 1}:
        return "binary"
    return "values"


def _whole(y: NDArray[Any]) -> bool:
    return y.dtype.kind in "biu" or bool((y == np.rint(y)).all())


def _one_hot(y: NDArray[Any], output: tuple[int, ...], *, strict: bool) -> bool:
    """Whether each row over the last axis is a distribution; ``strict``: a single 1."""
    rows = y.reshape(-1, output[-1])
    if rows.min() < 0 or not np.allclose(rows.sum(1), 1, atol=1e-3):
        return False
    return not strict or bool(((rows == 0) | (rows == 1)).all())


def _by(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape) or "single numbers"
