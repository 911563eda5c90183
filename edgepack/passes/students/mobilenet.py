"""MobileNet-like: depthwise-separable blocks that widen as they shrink (Howard et al. 2017)."""

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
STAGES = ((24, 1), (48, 2), (96, 2), (160, 1))
"""(channels, blocks) of each stage; its first block strides."""


def build(entry: Any, width: float, depth: float, multiple: int) -> Any:
    """Stem, four stages of separable blocks, mean."""
    first, *rest = strides(entry, 1 + len(STAGES))
    x = convolved(entry, channels(STEM, width, multiple), "student_stem", stride=first)
    for stage, ((base, blocks), stride) in enumerate(zip(STAGES, rest, strict=True), 1):
        for block in range(repeats(blocks, depth)):
            name = f"student_{stage}_{block}"
            x = depthwise(x, f"{name}_depth", stride=stride if block == 0 else 1)
            x = convolved(x, channels(base, width, multiple), f"{name}_point", kernel=1)
    return pooled(x)
