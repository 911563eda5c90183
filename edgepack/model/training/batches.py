"""Shuffled batches of training data: each depends on (seed, epoch, place) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.model.data import Data
from edgepack.model.rows import Batch

HELD_IN_MEMORY = 1 << 30
Rows = NDArray[np.int64]
Augment = Callable[[Batch, np.random.Generator], Batch]


def split(count: int, share: float, seed: int, where: str) -> tuple[Rows, Rows]:
    """Positions to learn from and to hold back, each ascending. Raises DataError."""
    order = np.random.default_rng((seed, 1)).permutation(count)
    held = max(1, round(share * count)) if share else 0
    if count - held < 1:
        raise DataError(
            f"{where}: {count} samples are too few to train on and hold some back",
            "give more samples, or train without patience and metric",
        )
    return np.sort(order[held:]), np.sort(order[:held])


class Batches:
    """Batches of a data set, which is held in memory where it is small.

    ``dtypes`` are those of the model's inputs.
    """

    def __init__(
        self,
        data: Data,
        size: int,
        seed: int,
        dtypes: tuple[str, ...],
        augment: Augment | None = None,
    ) -> None:
        self.data, self.size, self.seed = data, size, seed
        self.dtypes, self.augment = dtypes, augment
        row = sum(
            math.prod(shape) * np.dtype(dtype).itemsize
            for shape, dtype in zip(data.x_shapes, data.x_dtypes, strict=True)
        )
        self.memory = _whole(data) if row * len(data) <= HELD_IN_MEMORY else None

    def count(self, rows: int) -> int:
        """Batches an epoch: a last one that is not full is left out, unless it is the only one."""
        return max(rows // self.size, 1)

    def epoch(self, rows: Rows, epoch: int) -> Iterator[Batch]:
        """An epoch's batches of those rows, in an order of its own, augmented."""
        order = np.random.default_rng((self.seed, 2, epoch)).permutation(rows)
        for place in range(self.count(len(rows))):
            batch = self._read(order[place * self.size : (place + 1) * self.size])
            if self.augment is not None:
                batch = self.augment(batch, np.random.default_rng((self.seed, 3, epoch, place)))
            yield self._cast(batch)

    def plain(self, rows: Rows) -> Iterator[Batch]:
        """Those rows in order, as they are; the last batch may be smaller."""
        size = max(self.size, 64)
        for start in range(0, len(rows), size):
            yield self._cast(self._read(rows[start : start + size]))

    def _read(self, chosen: Rows) -> Batch:
        if self.memory is None:
            return next(self.data.select(chosen).batches(len(chosen)))
        y = self.memory.y
        x = tuple(array[chosen] for array in self.memory.x)
        return Batch(x=x, y=None if y is None else y[chosen])

    def _cast(self, batch: Batch) -> Batch:
        x: tuple[NDArray[Any], ...] = tuple(
            array.astype(dtype, copy=False)
            for array, dtype in zip(batch.x, self.dtypes, strict=True)
        )
        return Batch(x=x, y=batch.y)


def _whole(data: Data) -> Batch:
    parts = list(data.batches(512))
    labels = [part.y for part in parts if part.y is not None]
    x = tuple(np.concatenate(column) for column in zip(*(p.x for p in parts), strict=True))
    return Batch(x=x, y=np.concatenate(labels) if labels else None)
