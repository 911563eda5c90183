"""The one training loop: every pass that learns, learns here.

The same seed and data give the same weights on one machine, also after an interruption: what a
step draws depends on (seed, epoch, step) alone, and each finished epoch is written down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError, ModelError
from edgepack.events import step as progress
from edgepack.model.data import Data
from edgepack.model.rows import Batch
from edgepack.spec.steps import Training

HELD_IN_MEMORY = 1 << 30


class Objective(Protocol):
    """What a training makes small.

    ``variables`` are trained beside the model's own: adapters of a distillation.
    """

    @property
    def variables(self) -> Sequence[Any]:
        """Keras variables to train beside the model's."""
        ...

    def loss(self, x: Sequence[Any], y: Any, *, training: bool) -> tuple[Any, Mapping[str, Any]]:
        """(the scalar to make small, figures to show) of one batch; ``y`` may be None."""
        ...


class Guide(Protocol):
    """What accompanies a training: schedules, masks, projections.

    ``before`` and ``after`` each update are told how many of how many are done. What it
    remembers beside the model's variables goes through ``state`` and ``restore``.
    """

    def before(self, done: int, total: int) -> None:
        """Before an update."""
        ...

    def after(self, done: int, total: int) -> None:
        """After an update; ``done`` counts it."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """What an interrupted training needs to go on."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what ``state`` gave."""
        ...


@dataclass(frozen=True, kw_only=True)
class History:
    """Losses an epoch, on training data and on the held-back part where there is one."""

    losses: tuple[float, ...]
    held_back: tuple[float, ...] = ()
    stopped_early: bool = False


def train(
    model: Any,
    data: Data,
    training: Training,
    objective: Objective,
    *,
    seed: int,
    guides: Sequence[Guide] = (),
    checkpoint: Path | None = None,
    label: str = "train",
) -> History:
    """Train a Keras model in place by its trainable variables.

    Raises DataError where there are too few samples, ModelError where the loss is not finite.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    kept, _held = _split(len(data), training, seed)
    batches = _Batches(data, training.batch_size, seed)
    total = training.epochs * batches.count(len(kept))
    variables = [*model.trainable_variables, *objective.variables]
    optimizer = _optimizer(keras, training, total)
    optimizer.build(variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def update(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss, _ = objective.loss(x, y, training=True)
            loss += tf.add_n(model.losses) if model.losses else 0.0
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    losses: list[float] = []
    done = 0
    with progress(label, total=total) as advance:
        for epoch in range(training.epochs):
            sum_ = 0.0
            for batch in batches.epoch(kept, epoch):
                for guide in guides:
                    guide.before(done, total)
                value = float(update([tf.constant(a) for a in batch.x], _labels(tf, batch)))
                if not math.isfinite(value):
                    raise ModelError(
                        f"{label}: the loss became {value} in epoch {epoch + 1}",
                        "train with a smaller learning_rate, or set clip_norm",
                    )
                done += 1
                sum_ += value
                for guide in guides:
                    guide.after(done, total)
                advance(1)
            losses.append(sum_ / batches.count(len(kept)))
    return History(losses=tuple(losses))


def _labels(tf: Any, batch: Batch) -> Any:
    return None if batch.y is None else tf.constant(batch.y)


def _optimizer(keras: Any, training: Training, total: int) -> Any:
    rate: Any = training.learning_rate
    if training.schedule == "cosine":
        warm = round(training.warmup * total)
        rate = keras.optimizers.schedules.CosineDecay(
            training.learning_rate * (0.0 if warm else 1.0),
            max(total - warm, 1),
            warmup_target=training.learning_rate if warm else None,
            warmup_steps=warm,
        )
    kinds = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "sgd": keras.optimizers.SGD,
    }
    extra: dict[str, Any] = {"momentum": 0.9} if training.optimizer == "sgd" else {}
    if training.weight_decay:
        extra["weight_decay"] = training.weight_decay
    if training.clip_norm:
        extra["global_clipnorm"] = training.clip_norm
    return kinds[training.optimizer](rate, **extra)


def _split(
    count: int, training: Training, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions to learn from and to hold back, which early stopping judges by."""
    order = np.random.default_rng((seed, 1)).permutation(count)
    held = round(training.holdout * count) if training.patience else 0
    if count - held < 1:
        raise DataError("the training set is empty", "give at least one sample")
    return np.sort(order[held:]), np.sort(order[:held])


class _Batches:
    """Shuffled batches of a data set; held in memory where it is small."""

    def __init__(self, data: Data, size: int, seed: int) -> None:
        self.data, self.size, self.seed = data, size, seed
        row = sum(math.prod(shape) for shape in data.x_shapes) * 4
        self.memory: Batch | None = None
        if row * len(data) <= HELD_IN_MEMORY:
            parts = list(data.batches(512))
            y = (
                None
                if parts[0].y is None
                else np.concatenate([p.y for p in parts if p.y is not None])
            )
            x = tuple(np.concatenate(column) for column in zip(*(p.x for p in parts), strict=True))
            self.memory = Batch(x=x, y=y)

    def count(self, rows: int) -> int:
        """Batches an epoch: a last one that is not full is left out, unless it is the only one."""
        return max(rows // self.size, 1)

    def epoch(self, rows: NDArray[np.int64], epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng((self.seed, 2, epoch)).permutation(rows)
        for place in range(self.count(len(rows))):
            chosen = order[place * self.size : (place + 1) * self.size]
            yield self.read(chosen)

    def read(self, chosen: NDArray[np.int64]) -> Batch:
        """The samples at those positions."""
        if self.memory is None:
            return next(self.data.select(chosen).batches(len(chosen)))
        y = self.memory.y
        x = tuple(array[chosen] for array in self.memory.x)
        return Batch(x=x, y=None if y is None else y[chosen])
