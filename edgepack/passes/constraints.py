"""What a weight must keep through every later pass: its zeros, its palette, its signs.

A constraint names a weight by layer and weight name, because passes copy models. ``project``
takes the weight's values to the nearest that satisfy it; the training loop calls it after each
update, and ``holds`` checks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepack.passes.layers import variable


class Constraint(Protocol):
    """What the weight ``weight`` of the layer ``layer`` must keep."""

    @property
    def layer(self) -> str:
        """The layer's name."""
        ...

    @property
    def weight(self) -> str:
        """The weight's name: ``kernel``, ``depthwise_kernel``, …"""
        ...

    def project(self, values: Any) -> Any:
        """The nearest tensor that satisfies the constraint; shape and dtype as given."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask:
    """Weights are zero where ``keep`` (of the weight's shape) is False."""

    layer: str
    keep: NDArray[np.bool_]
    weight: str = "kernel"

    def project(self, values: Any) -> Any:
        """Zeros where they belong."""
        import tensorflow as tf

        return tf.where(tf.constant(self.keep), values, tf.zeros_like(values))


@dataclass(frozen=True, kw_only=True, eq=False)
class Palette:
    """Weights with the same ``index`` (≥ 0, of the weight's shape) share one value; -1 is zero.

    Palettes may be a channel's own: then its indices are, too.
    """

    layer: str
    index: NDArray[np.int32]
    weight: str = "kernel"

    def project(self, values: Any) -> Any:
        """Each value becomes the mean of those that share its index."""
        import tensorflow as tf

        flat, index = tf.reshape(values, [-1]), tf.constant(self.index.reshape(-1) + 1)
        count = int(self.index.max()) + 2
        means = tf.math.unsorted_segment_mean(flat, index, count)
        means = tf.concat([tf.zeros([1], means.dtype), means[1:]], 0)
        return tf.reshape(tf.gather(means, index), tf.shape(values))


@dataclass(frozen=True, kw_only=True, eq=False)
class Signs:
    """Weights are ``signs`` (-1, 0 or 1, of the weight's shape) times one scale ≥ 0 a channel.

    ``axes`` are those that share a scale: all but the output channel's.
    """

    layer: str
    signs: NDArray[np.int8]
    axes: tuple[int, ...]
    weight: str = "kernel"

    def project(self, values: Any) -> Any:
        """The least-squares scale of each channel times the signs."""
        import tensorflow as tf

        signs = tf.cast(tf.constant(self.signs), values.dtype)
        total = tf.reduce_sum(values * signs, self.axes, keepdims=True)
        count = tf.reduce_sum(tf.abs(signs), self.axes, keepdims=True)
        return signs * tf.nn.relu(tf.math.divide_no_nan(total, count))


def project(model: Any, constraints: tuple[Constraint, ...]) -> None:
    """Make every constrained weight of a Keras model satisfy its constraint, in place."""
    for constraint in constraints:
        target = variable(model.get_layer(constraint.layer), constraint.weight)
        target.assign(constraint.project(target.value))
