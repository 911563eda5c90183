"""What the students are made of: convolution, norm and activation, for images and signals."""

from __future__ import annotations

import math
from typing import Any

MOMENTUM = 0.9
"""Of the norms' statistics: a student trains for few steps, in which 0.99 would not settle."""
SMALLEST = 4
"""Positions a side that halving leaves at least."""


def is_signal(x: Any) -> bool:
    """Whether a tensor is (batch, long, channels)."""
    return len(x.shape) == 3


def channels(base: int, width: float, multiple: int) -> int:
    """About ``base`` · ``width`` channels, a multiple of 8 and of what kernels like."""
    step = math.lcm(8, multiple)
    return max(step, round(base * width / step) * step)


def repeats(base: int, depth: float) -> int:
    """About ``base`` · ``depth`` blocks, at least one."""
    return max(1, round(base * depth))


def strides(x: Any, wanted: int, smallest: int = SMALLEST) -> tuple[int, ...]:
    """The strides of ``wanted`` stages for the input ``x``: a small one is halved later."""
    least = min(x.shape[1:-1])
    halvings = min(wanted, max(0, int(math.log2(max(least, 1) / smallest))))
    return (1,) * (wanted - halvings) + (2,) * halvings


def convolved(
    x: Any, filters: int, name: str, *, kernel: Any = 3, stride: int = 1, activation: str = "relu6"
) -> Any:
    """Convolution, norm, activation; ``linear`` leaves the last away."""
    import keras

    layers = keras.layers
    convolution = layers.Conv1D if is_signal(x) else layers.Conv2D
    y = convolution(filters, kernel, stride, "same", use_bias=False, name=name)(x)
    return _ended(y, name, activation)


def depthwise(
    x: Any, name: str, *, kernel: int = 3, stride: int = 1, activation: str = "relu6"
) -> Any:
    """Depthwise convolution, norm, activation."""
    import keras

    layers = keras.layers
    convolution = layers.DepthwiseConv1D if is_signal(x) else layers.DepthwiseConv2D
    y = convolution(kernel, stride, "same", use_bias=False, name=name)(x)
    return _ended(y, name, activation)


def _ended(x: Any, name: str, activation: str) -> Any:
    import keras

    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(x)
    if activation == "linear":
        return x
    most = 6.0 if activation == "relu6" else None
    return keras.layers.ReLU(most, name=f"{name}_relu")(x)


def pooled(x: Any) -> Any:
    """The mean over all positions: one row of features a sample."""
    import keras

    pooling = (
        keras.layers.GlobalAveragePooling1D if is_signal(x) else keras.layers.GlobalAveragePooling2D
    )
    return pooling(name="student_pool")(x)
