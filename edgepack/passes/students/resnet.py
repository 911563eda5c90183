"""ResNet-tiny: residual blocks of two convolutions (He et al. 2016), as in MLPerf Tiny."""

from __future__ import annotations

from typing import Any

from edgepack.passes.students.blocks import channels, convolved, pooled, repeats, strides

STAGES = (16, 32, 64)
SMALLEST = 5
"""Positions a side at the end: more than elsewhere, so that 32 × 32 gives ResNet8."""


def build(entry: Any, width: float, depth: float, multiple: int) -> Any:
    """Stem, three stages of residual blocks, mean. A width and depth of 1 is ResNet8."""
    import keras

    stem, *halved = strides(entry, 1 + len(STAGES), SMALLEST)
    x = convolved(
        entry, channels(STAGES[0], width, multiple), "student_stem", stride=stem, activation="relu"
    )
    for stage, (base, stride) in enumerate(zip(STAGES, halved, strict=True), 1):
        filters = channels(base, width, multiple)
        for block in range(repeats(1, depth)):
            name, step = f"student_{stage}_{block}", stride if block == 0 else 1
            y = convolved(x, filters, f"{name}_a", stride=step, activation="relu")
            y = convolved(y, filters, f"{name}_b", activation="linear")
            if y.shape != x.shape:
                x = convolved(
                    x, filters, f"{name}_side", kernel=1, stride=step, activation="linear"
                )
            x = keras.layers.Add(name=f"{name}_add")([x, y])
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return pooled(x)
