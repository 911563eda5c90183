"""Judging by a held-back part: which epoch was the best, and when it is time to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.model.metrics import Metric
from edgepack.model.rows import Batch
from edgepack.model.training.hooks import LOWER_IS_BETTER

Arrays = dict[str, NDArray[Any]]


@dataclass(kw_only=True, eq=False)
class Best:
    """The best epoch so far and the arrays that bring it back. ``lower`` values are better."""

    lower: bool
    patience: int
    value: float = math.nan
    epoch: int = -1
    arrays: Arrays = field(default_factory=dict)

    def see(self, value: float, epoch: int, arrays: Callable[[], Arrays]) -> None:
        """Take an epoch for the best if its value is better than every earlier one's."""
        better = value < self.value if self.lower else value > self.value
        if math.isfinite(value) and (self.epoch < 0 or better):
            self.value, self.epoch, self.arrays = value, epoch, arrays()

    def is_over(self, epoch: int) -> bool:
        """Whether the last better epoch was ``patience`` epochs ago."""
        return bool(self.patience) and 0 <= self.epoch <= epoch - self.patience

    def state(self) -> Arrays:
        """All of it as arrays."""
        kept = {f"array.{name}": array for name, array in self.arrays.items()}
        return {"value": np.array(self.value), "epoch": np.array(self.epoch), **kept}

    def restore(self, state: Arrays) -> None:
        """What ``state`` gave."""
        self.value, self.epoch = float(state["value"]), int(state["epoch"])
        self.arrays = {
            name.removeprefix("array."): array
            for name, array in state.items()
            if name.startswith("array.")
        }


def judge(
    batches: Iterable[Batch],
    metric: Metric | None,
    outputs: Callable[[Batch], list[NDArray[Any]]],
    loss: Callable[[Batch], float],
) -> float:
    """The metric over the batches, or the mean loss of their samples; NaN where undefined."""
    if metric is not None:
        for batch in batches:
            metric.update(outputs(batch), batch.truth)
        value = metric.compute()
        return math.nan if value is None else value
    total, count = 0.0, 0
    for batch in batches:
        total += loss(batch) * len(batch.x[0])
        count += len(batch.x[0])
    return total / count


def lower_is_better(metric: Metric | None) -> bool:
    """Whether smaller values are better: of losses and errors."""
    return metric is None or metric.name in LOWER_IS_BETTER
