"""What an output is worth: accuracies as fractions, errors in the output's units.

Without a name the metric follows from the labels and the outputs: no labels and an output like
the input → mse; several output values → top1; one output value → auc (labels 0 and 1) or mse.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import DataError
from edgepack.model.usercode import function
from edgepack.records import TensorSpec

Array = np.ndarray[Any, Any]
NAMES = ("top1", "top5", "auc", "mse", "mae")


@dataclass(kw_only=True, eq=False)
class Metric:
    """Batches in by ``update``, one number out by ``compute``."""

    name: str
    add: Callable[[Sequence[Array], Array], None]
    result: Callable[[], float | None]
    samples: int = field(default=0, init=False)

    def update(self, outputs: Sequence[Array], y: Array | None) -> None:
        """Add real (dequantised) outputs, each (n, …), and what they should be, (n, …).

        For an autoencoder ``y`` is its input. Raises DataError where there is nothing to
        compare with.
        """
        if y is None:
            raise DataError(f"{self.name} needs labels", "name them with y = …")
        if len(outputs[0]) != len(y):
            raise DataError(f"{self.name}: {len(outputs[0])} outputs for {len(y)} labels", "")
        self.samples += len(y)
        self.add(outputs, y)

    def compute(self) -> float | None:
        """The metric over everything added; None where it is not defined."""
        return self.result() if self.samples else None


def resolve(
    name: str | None,
    outputs: Sequence[TensorSpec],
    has_labels: bool,
    allow_code: bool = False,
    *,
    labels: Array | None = None,
    folder: Path = Path(),
) -> Metric:
    """The metric of that name; or the one that labels and outputs suggest.

    ``labels`` (any sample of them) help to infer it; ``folder`` is where ``file.py:function`` is
    looked for, a function of (y_true, outputs) that returns one number, higher is better. Raises
    DataError for an unknown name, or a function without ``allow_code``.
    """
    if name is None:
        name = _inferred(outputs, has_labels, labels)
    if ":" in name:
        called = function(name, folder, DataError, allow_code)
        return _own(name, called)
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known: " + ", ".join(NAMES)
        raise DataError(f"no metric is called '{name}'", f"{hint} or file.py:function")
    if name in ("top1", "top5"):
        return _top(name, int(name[3:]))
    return _auc() if name == "auc" else _error(name)


def _inferred(outputs: Sequence[TensorSpec], has_labels: bool, labels: Array | None) -> str:
    if not has_labels:
        return "mse"
    width = outputs[0].shape[-1] if outputs and len(outputs[0].shape) > 1 else 1
    if labels is None:
        return "top1" if width > 1 else "auc"
    one_hot = labels.ndim == 2 and labels.shape[1] == width and width > 1
    whole = labels.dtype.kind in "biu" or bool((labels == np.rint(labels)).all())
    if width > 1:
        sums = one_hot and set(np.unique(labels)) <= {0, 1} and bool((labels.sum(1) == 1).all())
        return "top1" if sums or (whole and labels.size == len(labels)) else "mse"
    return "auc" if set(np.unique(labels)) <= {0, 1} else "mse"


def classes_of(y: Array) -> Array:
    """Labels, sparse or one-hot, as class numbers (n,)."""
    if y.ndim > 1 and y.shape[-1] > 1:
        found: Array = y.reshape(len(y), -1).argmax(axis=1)
        return found
    return y.reshape(len(y)).astype(np.int64)


def _top(name: str, k: int) -> Metric:
    right = [0, 0]

    def add(outputs: Sequence[Array], y: Array) -> None:
        scores, labels = outputs[0].reshape(len(y), -1), classes_of(y)
        if scores.shape[1] == 1:
            chosen = (scores > 0.5).astype(np.int64)
        else:
            chosen = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        right[0] += int((chosen == labels[:, None]).any(axis=1).sum())
        right[1] += len(y)

    return Metric(name=name, add=add, result=lambda: right[0] / right[1])


def _auc() -> Metric:
    scores: list[Array] = []
    labels: list[Array] = []

    def add(outputs: Sequence[Array], y: Array) -> None:
        scores.append(outputs[0].reshape(len(y), -1).astype(np.float64))
        labels.append(classes_of(y))

    def result() -> float | None:
        from sklearn.metrics import roc_auc_score

        found, truth = np.concatenate(scores), np.concatenate(labels)
        if found.shape[1] <= 2:
            return (
                None
                if len(np.unique(truth)) < 2
                else float(roc_auc_score(truth == truth.max(), found[:, -1]))
            )
        present = [c for c in range(found.shape[1]) if 0 < (truth == c).sum() < len(truth)]
        each = [float(roc_auc_score(truth == c, found[:, c])) for c in present]
        return float(np.mean(each)) if each else None

    return Metric(name="auc", add=add, result=result)


def _error(name: str) -> Metric:
    total = [0.0, 0]

    def add(outputs: Sequence[Array], y: Array) -> None:
        output = outputs[0].reshape(len(y), -1).astype(np.float64)
        target = y.reshape(len(y), -1).astype(np.float64)
        if output.shape != target.shape:
            raise DataError(
                f"{name}: outputs of {output.shape[1]} values for labels of {target.shape[1]}",
                "give one target for each output value",
            )
        difference = output - target
        total[0] += float((np.square(difference) if name == "mse" else np.abs(difference)).sum())
        total[1] += difference.size

    return Metric(name=name, add=add, result=lambda: total[0] / total[1])


def _own(name: str, called: Callable[..., Any]) -> Metric:
    outputs_seen: list[Sequence[Array]] = []
    labels_seen: list[Array] = []

    def add(outputs: Sequence[Array], y: Array) -> None:
        outputs_seen.append(list(outputs))
        labels_seen.append(y)

    def result() -> float | None:
        truth = np.concatenate(labels_seen)
        outputs = [np.concatenate(column) for column in zip(*outputs_seen, strict=True)]
        try:
            value = float(called(truth, outputs))
        except Exception as exc:
            reason = f"{type(exc).__name__}: {exc}".splitlines()[0]
            raise DataError(f"{name} failed: {reason}", "mend the function") from exc
        return value if np.isfinite(value) else None

    return Metric(name=name, add=add, result=result)
