"""DS-CNN: one wide convolution, then separable blocks of one width (Zhang et al. 2017).

For spectrograms and, with convolutions over time, for signals; small images do as well.
"""

from __future__ import annotations

from typing import Any

from edgepack.passes.students.blocks import (
    channels,
    convolved,
    depthwise,
    is_signal,
    pooled,
    repeats,
    strides,
)

WIDTH, BLOCKS = 64, 4
LONG = 10
"""Steps in time that the first convolution sees of a signal or spectrogram."""


def build(entry: Any, width: float, depth: float, multiple: int) -> Any:
    """A wide first convolution, separable blocks, mean. A large input is halved further on."""
    filters = channels(WIDTH, width, multiple)
    blocks = repeats(BLOCKS, depth)
    # From the first on: what is halved late costs most, and these inputs are smooth.
    order = sorted(strides(entry, 1 + blocks), reverse=True)
    sides = [min(LONG, entry.shape[1]), *([4] if not is_signal(entry) else [])]
    if entry.shape[1] == entry.shape[2] and not is_signal(entry):
        sides = [3, 3]
    x = convolved(
        entry, filters, "student_stem", kernel=tuple(sides), stride=order[0], activation="relu"
    )
    for block, stride in enumerate(order[1:]):
        x = depthwise(x, f"student_{block}_depth", stride=stride, activation="relu")
        x = convolved(x, filters, f"student_{block}_point", kernel=1, activation="relu")
    return pooled(x)
