"""Learning the teacher's inner values: hints (Romero et al. 2014), attention (Zagoruyko 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.trunk import Pair

TINY = 1e-6


class Hint:
    """The squared error of one inner value, relative to the teacher's variance.

    Where sizes differ the larger is pooled; where channels differ a trained 1×1 convolution,
    which is thrown away afterwards, turns the student's into the teacher's.
    """

    def __init__(self, pair: Pair, seed: Sequence[int]) -> None:
        import keras

        ours, theirs = pair.student_shape[-1], pair.teacher_shape[-1]
        self.sizes = common(pair)
        self.variables: list[Any] = []
        if ours != theirs:
            kernel = np.random.default_rng(seed).normal(0, 1 / np.sqrt(ours), (ours, theirs))
            self.variables = [
                keras.Variable(kernel, dtype="float32", name="adapter_kernel"),
                keras.Variable(np.zeros(theirs), dtype="float32", name="adapter_bias"),
            ]

    def loss(self, taught: Any, learned: Any) -> Any:
        """A scalar, 0 where student and teacher agree and 1 where the student knows nothing."""
        from keras import ops

        taught, learned = pooled(taught, self.sizes), pooled(learned, self.sizes)
        if self.variables:
            kernel, bias = self.variables
            learned = ops.tensordot(learned, kernel, 1) + bias
        spread = ops.mean(ops.square(taught - ops.mean(taught)))
        return ops.mean(ops.square(learned - taught)) / (spread + TINY)


class Attention:
    """The squared distance of attention maps: where a layer looks, whatever its channels."""

    def __init__(self, pair: Pair) -> None:
        self.sizes = common(pair)
        self.variables: list[Any] = []

    def loss(self, taught: Any, learned: Any) -> Any:
        """A scalar from 0, where they look alike."""
        from keras import ops

        difference = self._map(learned) - self._map(taught)
        return ops.mean(ops.sum(ops.square(difference), -1))

    def _map(self, values: Any) -> Any:
        """(n, places), of length 1: the channels' mean square at each place."""
        from keras import ops

        energy = ops.mean(ops.square(pooled(values, self.sizes)), -1)
        flat = ops.reshape(energy, (-1, int(np.prod(self.sizes))))
        return flat * ops.rsqrt(ops.sum(ops.square(flat), -1, keepdims=True) + TINY)


def common(pair: Pair) -> tuple[int, ...]:
    """The smaller of both sizes along each axis but the channels'; none where ranks differ."""
    ours, theirs = pair.student_shape[:-1], pair.teacher_shape[:-1]
    if len(ours) != len(theirs):
        return ()
    return tuple(map(min, ours, theirs))


def pooled(values: Any, sizes: tuple[int, ...]) -> Any:
    """(n, …, c) averaged to (n, *sizes, c), as evenly as whole places allow, in float32."""
    from keras import ops

    values = ops.cast(values, "float32")
    if not sizes and len(values.shape) > 2:
        return ops.mean(values, tuple(range(1, len(values.shape) - 1)))
    for axis, size in enumerate(sizes, start=1):
        if values.shape[axis] != size:
            weights = averaging(int(values.shape[axis]), size)
            moved = ops.tensordot(ops.moveaxis(values, axis, -1), weights, 1)
            values = ops.moveaxis(moved, -1, axis)
    return values


def averaging(given: int, wanted: int) -> NDArray[np.float32]:
    """The matrix (given, wanted) that averages neighbours; columns sum to 1."""
    weights = np.zeros((given, wanted), np.float32)
    for place in range(wanted):
        first, last = place * given // wanted, -(-(place + 1) * given // wanted)
        weights[first:last, place] = 1 / (last - first)
    return weights
