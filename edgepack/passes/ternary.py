"""Ternary weights: -1, 0 or 1 times a scale (Li & Liu 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.low_bit import LowBit, run
from edgepack.spec.fields import Positive


@dataclass(frozen=True, kw_only=True)
class Options(LowBit):
    """``threshold`` times the mean magnitude of those with one scale: below it weights are 0."""

    threshold: Positive = 0.7


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Make a copy's weights ternary, during the step's training or, without one, at once."""
    coarse = partial(ternary, options.threshold)
    return run("ternary", candidate, options, context, coarse, zeros=True)


def ternary(threshold: float, values: Any, keep: Any, axes: tuple[int, ...]) -> Any:
    """Signs of what is above the threshold times its mean magnitude; zero where not to keep."""
    import tensorflow as tf

    size = tf.abs(values) * keep
    mean = tf.math.divide_no_nan(
        tf.reduce_sum(size, axes, keepdims=True), tf.reduce_sum(keep, axes, keepdims=True)
    )
    large = tf.cast(size > threshold * mean, values.dtype)
    scale = tf.math.divide_no_nan(
        tf.reduce_sum(size * large, axes, keepdims=True), tf.reduce_sum(large, axes, keepdims=True)
    )
    return tf.sign(values) * large * scale
