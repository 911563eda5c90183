"""What a weight must keep through every later pass: its zeros, its palette, its signs.

A constraint names a weight by layer and weight name, because passes copy models. ``project``
takes the weight's values to the nearest that satisfy it; the training loop calls it after each
update. ``stored`` and ``restored`` turn constraints into plain arrays and back, for files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError
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

    Palettes may be a channel's own: then its indices are, too. With ``axes`` (all but the output
    channel's) the shared value is times one scale ≥ 0 a channel: index 0 is minus the scale, index
    1 plus the scale, and each channel that is not all zero has a weight at one of both. So
    integers with a scale per channel, its largest weight at ±127, share one palette.
    """

    layer: str
    index: NDArray[np.int32]
    axes: tuple[int, ...] | None = None
    weight: str = "kernel"

    def project(self, values: Any) -> Any:
        """Each value becomes the mean of those that share its index.

        With ``axes`` the channels' scales come first, from the weights at both ends, then the
        least-squares palette in these scales, then the least-squares scales.
        """
        import tensorflow as tf

        if self.axes is None:
            return self._shared(values, tf.ones_like(values))
        ends = (self.index == 1) * 1 - (self.index == 0) * 1
        scale = _scales(values, tf.constant(ends, values.dtype), self.axes)
        ratio = self._shared(values, scale * tf.ones_like(values))
        ratio = tf.where(ends == 0, tf.clip_by_value(ratio, -1.0, 1.0), tf.cast(ends, ratio.dtype))
        return ratio * _scales(values, ratio, self.axes)

    def _shared(self, values: Any, scale: Any) -> Any:
        """Least-squares values of the palette, where ``values`` are about those times ``scale``."""
        import tensorflow as tf

        index = tf.constant(self.index.reshape(-1) + 1)
        count = int(self.index.max()) + 2
        total = tf.math.unsorted_segment_sum(tf.reshape(values * scale, [-1]), index, count)
        weight = tf.math.unsorted_segment_sum(tf.reshape(scale * scale, [-1]), index, count)
        palette = tf.math.divide_no_nan(total, weight)
        palette = tf.concat([tf.zeros([1], palette.dtype), palette[1:]], 0)
        return tf.reshape(tf.gather(palette, index), tf.shape(values))


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
        return signs * _scales(values, signs, self.axes)


def project(model: Any, constraints: tuple[Constraint, ...]) -> None:
    """Make every constrained weight of a Keras model satisfy its constraint, in place."""
    for constraint in constraints:
        target = variable(model.get_layer(constraint.layer), constraint.weight)
        target.assign(constraint.project(target.value))


def _scales(values: Any, pattern: Any, axes: tuple[int, ...]) -> Any:
    """The least-squares scale ≥ 0 of each channel, where values are about scale times pattern."""
    import tensorflow as tf

    total = tf.reduce_sum(values * pattern, axes, keepdims=True)
    weight = tf.reduce_sum(pattern * pattern, axes, keepdims=True)
    return tf.nn.relu(tf.math.divide_no_nan(total, weight))


KINDS: dict[str, type[Mask] | type[Palette] | type[Signs]] = {
    "mask": Mask,
    "palette": Palette,
    "signs": Signs,
}


def stored(constraint: Constraint) -> dict[str, NDArray[Any]]:
    """A constraint as named plain arrays, for an ``.npz`` without pickle."""
    name = next(name for name, kind in KINDS.items() if type(constraint) is kind)
    found = {"kind": np.array(name)}
    for field in fields(KINDS[name]):
        value = getattr(constraint, field.name)
        if value is not None:
            found[field.name] = np.array(value)
    return found


def restored(arrays: Mapping[str, NDArray[Any]]) -> Constraint:
    """The constraint that ``stored`` gave. Raises ModelError for anything else."""
    try:
        given = dict(arrays)
        kind = KINDS[str(given.pop("kind"))]
        values: dict[str, Any] = {
            name: str(value) if name in ("layer", "weight") else value
            for name, value in given.items()
        }
        if "axes" in values:
            values["axes"] = tuple(int(axis) for axis in values["axes"])
        for name, dtype in (("keep", np.bool_), ("index", np.int32), ("signs", np.int8)):
            if name in values and values[name].dtype != dtype:
                raise TypeError(f"{name} is {values[name].dtype}")
        return kind(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"not a constraint as edgepack stores it: {error}", "run it anew"
        ) from error
