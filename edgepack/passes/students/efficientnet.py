"""EfficientNet-like: inverted residuals, scaled in width and depth (Tan & Le 2019).

As in its Lite form, without squeeze-and-excite and with ReLU6, which integers do exactly.
"""

from __future__ import annotations

from typing import Any

from edgepack.passes.students.blocks import (
    channels,
    convolved,
    depthwise,
    pooled,
    repeats,
    strides,
)

STEM = 16
STAGES = ((16, 1, 3, 1), (24, 2, 3, 4), (40, 2, 5, 4), (64, 2, 3, 4))
"""(channels, blocks, kernel, expansion) of each stage; its first block strides."""
HEAD = 128


def build(entry: Any, width: float, depth: float, multiple: int) -> Any:
    """Stem, four stages of inverted residuals, a pointwise convolution, mean."""
    first, *rest = strides(entry, 1 + len(STAGES))
    x = convolved(entry, channels(STEM, width, multiple), "student_stem", stride=first)
    for stage, ((base, blocks, kernel, expansion), stride) in enumerate(
        zip(STAGES, rest, strict=True), 1
    ):
        for block in range(repeats(blocks, depth)):
            x = _inverted(
                x,
                channels(base, width, multiple),
                f"student_{stage}_{block}",
                kernel=kernel,
                expansion=expansion,
                stride=stride if block == 0 else 1,
            )
    return pooled(convolved(x, channels(HEAD, width, multiple), "student_head", kernel=1))


def _inverted(x: Any, filters: int, name: str, *, kernel: int, expansion: int, stride: int) -> Any:
    """Expand, depthwise, project; added to the input where the shapes are the same."""
    import keras

    y = x
    if expansion > 1:
        y = convolved(y, expansion * x.shape[-1], f"{name}_wide", kernel=1)
    y = depthwise(y, f"{name}_depth", kernel=kernel, stride=stride)
    y = convolved(y, filters, f"{name}_point", kernel=1, activation="linear")
    if y.shape != x.shape:
        return y
    return keras.layers.Add(name=f"{name}_add")([x, y])
