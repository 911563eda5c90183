"""Binary weights: a sign times a scale (Courbariaux et al. 2015; Rastegari et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.low_bit import LowBit, run


@dataclass(frozen=True, kw_only=True)
class Options(LowBit):
    """As of ternary weights, without the threshold."""


def apply(candidate: Candidate, options: Options, context: Context) -> Candidate:
    """Make a copy's weights binary, during the step's training or, without one, at once."""
    return run("binary", candidate, options, context, binary, zeros=False)


def binary(values: Any, keep: Any, axes: tuple[int, ...]) -> Any:
    """The sign, that of 0 being 1, times the mean magnitude: the nearest such weights."""
    import tensorflow as tf

    scale = tf.reduce_mean(tf.abs(values), axes, keepdims=True)
    return tf.where(values < 0, -scale, scale)
