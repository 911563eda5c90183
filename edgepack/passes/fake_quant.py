"""Rounding as integers do, inside a training: TensorFlow's fake-quant operators.

Forward they are the operators that the converter reads; backward gradients pass straight
through where nothing saturates (Jacob et al. 2018), and reach the range's own ends, where they
are learned, by the rounding error of each value (Esser et al. 2020; Jain et al. 2020).
"""

from __future__ import annotations

from typing import Any

LEAST_SHARE = 1e-5
"""A channel whose weights are smaller than this share of the tensor's counts as empty."""


def fixed(x: Any, low: Any, high: Any, bits: int, *, narrow: bool = False) -> Any:
    """``x`` rounded to the ``2^bits`` steps (one fewer: ``narrow``) of ``low`` to ``high``.

    Scalars, or a vector with one entry for each place of the last axis. Zero becomes a step.
    """
    import tensorflow as tf

    ends = {"num_bits": bits, "narrow_range": narrow}
    if len(low.shape):
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(x, low, high, **ends)
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, **ends)


def learnt(x: Any, low: Any, high: Any, bits: int, *, narrow: bool = False) -> Any:
    """The same values as ``fixed``, with gradients that move ``low`` and ``high``.

    They are divided by the root of values times steps, so that ranges learn as fast as weights.
    """
    import tensorflow as tf

    steps = 2**bits - 1 - narrow
    axes = list(range(len(x.shape) - len(low.shape)))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def rounded(x: Any, low: Any, high: Any) -> Any:
        y = fixed(x, low, high, bits, narrow=narrow)

        def gradient(above: Any) -> Any:
            over, under = x > high, x < low
            inside = tf.logical_not(tf.logical_or(over, under))
            error = tf.where(inside, (y - x) / (high - low), tf.zeros_like(x))
            share = tf.cast(tf.size(x), x.dtype) / tf.cast(tf.size(low), x.dtype)
            slow = tf.math.rsqrt(share * steps)
            up = error + tf.cast(over, x.dtype)
            down = tf.cast(under, x.dtype) - error
            return (
                tf.where(inside, above, tf.zeros_like(above)),
                slow * tf.reduce_sum(above * down, axes),
                slow * tf.reduce_sum(above * up, axes),
            )

        return y, gradient

    return rounded(x, low, high)


def largest(flat: Any, *, per_tensor: bool) -> Any:
    """The largest magnitude of a kernel, output channels last; of each channel or of all.

    An empty channel gets that of the whole tensor, or 1: its bias still needs a scale.
    """
    import tensorflow as tf

    sizes = tf.abs(tf.stop_gradient(flat))
    whole = tf.reduce_max(sizes)
    whole = tf.where(whole > 0, whole, tf.ones_like(whole))
    if per_tensor:
        return whole
    own = tf.reduce_max(sizes, list(range(len(flat.shape) - 1)))
    return tf.where(own > LEAST_SHARE * whole, own, whole * tf.ones_like(own))


def flattened(kernel: Any, kind: str) -> Any:
    """A kernel with its output channels as the last axis; ``restored`` undoes it."""
    import tensorflow as tf

    shape = kernel.shape
    if kind.startswith("Depthwise"):
        return tf.reshape(kernel, [*shape[:-2], shape[-2] * shape[-1]])
    if kind.endswith("Transpose"):
        return tf.transpose(kernel, _swapped(len(shape)))
    return kernel


def restored(flat: Any, shape: Any, kind: str) -> Any:
    """What ``flattened`` was given, of ``shape``."""
    import tensorflow as tf

    if kind.startswith("Depthwise"):
        return tf.reshape(flat, list(shape))
    if kind.endswith("Transpose"):
        return tf.transpose(flat, _swapped(len(shape)))
    return flat


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]
