"""A user's own training: functions for loss, metric, augmentation and train step.

Each is named ``file.py:function`` in the recipe, relative to its file, and runs only where code
is allowed. Tensors and arrays are a batch's; several inputs or outputs come as lists, outputs
otherwise in the structure of the model's own.

- ``loss(y_true, y_pred)`` or ``loss(y_true, y_pred, x)``: a tensor, of which the mean counts. A
  third argument with a default is the function's own, unless its name is ``x``.
- ``metric(y_true, outputs)``: a number, higher is better, of all held-back samples as NumPy
  arrays; ``outputs`` is a list.
- ``augment(x, y, rng)``: (x, y) as NumPy arrays; whatever is drawn comes from ``rng``.
- ``step(model, optimizer, x, y)``: does an update, returns its loss; it is traced once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import DataError, EdgepackError, SpecError
from edgepack.files import sha256
from edgepack.model.data import Data
from edgepack.model.metrics import Metric, resolve
from edgepack.model.rows import Batch
from edgepack.model.training.augment import CHANGES, built_in
from edgepack.model.training.batches import Augment
from edgepack.model.usercode import function
from edgepack.spec.steps import Training

LOWER_IS_BETTER = ("mse", "mae")


@dataclass(frozen=True, kw_only=True, eq=False)
class Hooks:
    """What a training's words stand for. ``loss`` and ``step`` are None where the user has none.

    ``metric`` makes a fresh metric; ``identity`` tells these functions' files from others.
    """

    loss: Callable[[Any, Any, Any], Any] | None = None
    metric: Callable[[], Metric] | None = None
    augment: Augment | None = None
    step: Callable[[Any, Any, Any, Any], Any] | None = None
    identity: str = ""


def hooks(training: Training, data: Data, folder: Path = Path(), code: bool = False) -> Hooks:
    """The functions that a training names.

    ``folder`` is where files are looked for, ``code`` says whether they may be run. Raises
    SpecError for files and functions that are missing or not allowed, DataError where an
    augmentation or a metric does not suit the data.
    """

    def found(reference: str) -> Callable[..., Any]:
        return _guarded(reference, function(reference, folder, SpecError, code))

    own = training.loss != "auto"

    def loss(reference: str) -> Callable[..., Any]:
        return _told(reference, found(reference))

    return Hooks(
        loss=_taking_x(loss(training.loss)) if own else None,
        step=loss(training.step) if training.step else None,
        augment=_augment(training.augment, data, found),
        metric=_metric(training.metric, data, folder, code),
        identity=" ".join(_identity(reference, folder) for reference in training.functions),
    )


def _guarded(reference: str, called: Callable[..., Any]) -> Callable[..., Any]:
    """The user's function, whose failures are told as his."""

    def guarded(*args: Any) -> Any:
        try:
            return called(*args)
        except EdgepackError:
            raise
        except Exception as exc:
            lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
            reason = f"{type(exc).__name__}: {lines[0] if lines else ''}"
            raise SpecError(f"{reference} failed: {reason}", "mend the function") from exc

    guarded.__wrapped__ = called  # type: ignore[attr-defined]
    return guarded


def _told(reference: str, called: Callable[..., Any]) -> Callable[..., Any]:
    """The user's function, which must return a loss."""

    def told(*args: Any) -> Any:
        value = called(*args)
        if not hasattr(value, "shape") and not isinstance(value, int | float):
            raise SpecError(f"{reference} returned {_kind(value)}", "return the loss: a tensor")
        return value

    told.__wrapped__ = called  # type: ignore[attr-defined]
    return told


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _taking_x(called: Callable[..., Any]) -> Callable[[Any, Any, Any], Any]:
    """A loss with the inputs as a third argument, whether the user's takes them or not."""
    parameters = inspect.signature(called).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    third = places[2] if len(places) > 2 else None
    wants = third is not None and (third.default is third.empty or third.name == "x")
    wants = wants or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return called if wants else lambda y, outputs, x: called(y, outputs)


def _augment(name: str, data: Data, found: Callable[[str], Callable[..., Any]]) -> Augment | None:
    if name == "none":
        return None
    if name in CHANGES:
        return built_in(name, data)
    called = found(name)

    def augment(batch: Batch, rng: np.random.Generator) -> Batch:
        made = called(unlisted(batch.x), batch.y, rng)
        if not isinstance(made, tuple | list) or len(made) != 2:
            raise SpecError(f"{name} returned {_kind(made)}", "return (x, y)")
        x, y = made
        if (y is None) != (batch.y is None) or (y is not None and len(y) != len(batch.x[0])):
            raise SpecError(f"{name} made other labels than there are samples", "return (x, y)")
        inputs = tuple(x) if len(batch.x) > 1 else (x,)
        changed = Batch(x=tuple(np.asarray(array) for array in inputs), y=y)
        shapes = [array.shape for array in changed.x]
        if shapes != [array.shape for array in batch.x]:
            raise SpecError(
                f"{name} made samples of {shapes} from {[array.shape for array in batch.x]}",
                "return samples of the same shapes",
            )
        return changed

    return augment


def _metric(name: str | None, data: Data, folder: Path, code: bool) -> Callable[[], Metric] | None:
    if name is None:
        return None
    labels = data.labels() if name.startswith("top") else None
    if labels is not None and math.prod(labels.shape[1:-1]) > 1:
        raise DataError(
            f"{data.spec.id}: {name} is of one class a sample, but labels are {labels.shape[1:]}",
            "write metric = file.py:function",
        )

    def metric() -> Metric:
        return resolve(name, (), data.table.labels is not None, code, folder=folder)

    metric()
    return metric


def _identity(reference: str, folder: Path) -> str:
    file = folder / reference.rpartition(":")[0]
    return f"{reference}={sha256(file.read_bytes())}"


def unlisted(values: Any) -> Any:
    """The one value of a sequence, else all of them as a list."""
    return values[0] if len(values) == 1 else list(values)
