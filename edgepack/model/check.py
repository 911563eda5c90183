"""Whether a data set suits a model, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgepack.errors import DataError
from edgepack.model.data import Data
from edgepack.model.rows import Array
from edgepack.records import TensorSpec


def check_against(
    data: Data,
    model_inputs: Sequence[TensorSpec],
    model_outputs: Sequence[TensorSpec],
    metric: str | None,
) -> None:
    """Compare a data set with a model's tensors (batch of 1) and with what ``metric`` needs.

    Raises DataError with both shapes, dtypes or label ranges where they do not suit.
    """
    where = data.spec.id
    if len(data.x_shapes) != len(model_inputs):
        raise DataError(
            f"{where}: has {len(data.x_shapes)} inputs, the model takes {len(model_inputs)}",
            "name in x, in order: " + ", ".join(spec.name for spec in model_inputs),
        )
    for shape, dtype, spec in zip(data.x_shapes, data.x_dtypes, model_inputs, strict=True):
        if shape != spec.shape[1:]:
            raise DataError(
                f"{where}: samples are {_by(shape)}, the model's '{spec.name}' takes "
                f"{_by(spec.shape[1:])}",
                "mend [preprocess] size and channels, or choose the data that the model is for",
            )
        if not _castable(dtype, spec.dtype):
            raise DataError(
                f"{where}: samples are {dtype}, the model's '{spec.name}' takes {spec.dtype}",
                f'set dtype = "{spec.dtype}" in [preprocess]',
            )
    if metric in ("top1", "top5"):
        _check_classes(data, model_outputs[0], metric)
    elif metric in ("auc", "mse", "mae"):
        _check_values(data, model_inputs, model_outputs[0], metric)


def _castable(found: str, wanted: str) -> bool:
    """Floats may be narrowed to a float input; anything else must hold every value."""
    if np.dtype(found).kind == "f":
        return wanted.startswith(("float", "bfloat"))
    if wanted == "bfloat16":
        return True
    return bool(np.can_cast(found, wanted, "same_kind")) or found == wanted


def _check_classes(data: Data, output: TensorSpec, metric: str) -> None:
    where, labels = data.spec.id, data.labels()
    if labels is None:
        raise DataError(f"{where}: {metric} needs labels", "name them with y = …")
    classes = max(2, output.shape[-1]) if len(output.shape) > 1 else 2
    if labels.ndim > 1 and labels.shape[-1] > 1:
        if labels.shape[-1] != classes:
            raise DataError(
                f"{where}: one-hot labels of {labels.shape[-1]} classes, but the model's output "
                f"'{output.name}' has {classes}",
                "give labels for the classes that the model tells apart",
            )
        return
    if labels.dtype.kind == "f" and not (labels == np.rint(labels)).all():
        raise DataError(f"{where}: {metric} needs classes as whole numbers", "check y")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{where}: labels run from {low} to {high}, but the model's output '{output.name}' "
            f"has {classes} classes",
            f"give labels from 0 to {classes - 1}",
        )


def _check_values(
    data: Data, inputs: Sequence[TensorSpec], output: TensorSpec, metric: str
) -> None:
    where, labels = data.spec.id, data.labels()
    if labels is None:
        if metric == "auc":
            raise DataError(f"{where}: auc needs labels", "name them with y = …")
        if inputs[0].shape != output.shape:
            raise DataError(
                f"{where}: {metric} without labels compares the output with the input, but they "
                f"are {_by(output.shape[1:])} and {_by(inputs[0].shape[1:])}",
                "name labels with y = …",
            )
        return
    if metric == "auc":
        if len(np.unique(labels.argmax(-1) if _one_hot(labels) else labels)) < 2:
            raise DataError(f"{where}: auc needs labels of two classes at least", "add samples")
        return
    size, wanted = int(np.prod(labels.shape[1:])), int(np.prod(output.shape[1:]))
    if size != wanted:
        raise DataError(
            f"{where}: labels are {_by(labels.shape[1:])}, the model's output '{output.name}' is "
            f"{_by(output.shape[1:])}",
            "give one target for each output value",
        )


def _one_hot(labels: Array) -> bool:
    return labels.ndim > 1 and labels.shape[-1] > 1


def _by(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape) or "single numbers"
