"""Keras layers of quantisation-aware training that have no kernel: ranges, and normalisation.

``FakeQuantRange`` rounds an activation. ``FreezableBatchNormalization`` can stop its statistics
in the middle of a training. Importing this module makes both loadable.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from edgepack.passes.fake_quant import fixed, learnt

registered = keras.saving.register_keras_serializable(package="edgepack")


@registered
class FakeQuantRange(keras.layers.Layer):  # type: ignore[misc]
    """Rounds its input to the steps of one range; the shape stays.

    ``low`` and ``high`` are the range's ends. With ``learned`` each is stretched by 2 to the
    power of an entry of ``stretch``, which is trained; otherwise they follow the batches' own
    extremes in training with ``momentum``. ``active`` and ``moving``, 0 or 1, say whether a
    training already rounds, and still follows. 16 bits have a symmetric range, as their kernels
    demand. While ``watcher`` is set the input goes through it, unrounded: so first ranges are
    found.
    """

    def __init__(
        self, bits: int = 8, learned: bool = False, momentum: float = 0.99, **more: Any
    ) -> None:
        super().__init__(**more)
        self.bits, self.learned, self.momentum = bits, learned, momentum
        self.watcher: Any = None

    def build(self, input_shape: Any) -> None:
        """Make the range's variables."""

        def made(name: str, value: Any, shape: tuple[int, ...] = (), trained: bool = False) -> Any:
            return self.add_weight(
                name=name,
                shape=shape,
                initializer=keras.initializers.Constant(value),
                trainable=trained,
            )

        self.low, self.high = made("low", -1.0), made("high", 1.0)
        self.active, self.moving = made("active", 1.0), made("moving", 1.0)
        self.stretch = made("stretch", 0.0, (2,), trained=True) if self.learned else None

    def set_range(self, low: float, high: float) -> None:
        """Make ``low`` to ``high``, widened to hold zero, the range; nothing is stretched."""
        low, high = min(low, 0.0), max(high, 0.0)
        if self.bits == 16:
            low, high = -max(-low, high), max(-low, high)
        if low == high:
            low, high = (-1.0 if self.bits == 16 else 0.0), 1.0
        self.low.assign(low)
        self.high.assign(high)
        if self.stretch is not None:
            self.stretch.assign(tf.zeros(2))

    def ends(self) -> tuple[Any, Any]:
        """The range as tensors."""
        low, high = self.low.value, self.high.value
        if self.stretch is None:
            return low, high
        if self.bits == 16:
            top = high * 2.0 ** tf.reduce_mean(self.stretch.value)
            return -top, top
        return low * 2.0 ** self.stretch.value[0], high * 2.0 ** self.stretch.value[1]

    def call(self, inputs: Any, training: bool | None = None, follow: bool = True) -> Any:
        """The rounded input; without ``follow`` the range does not follow it."""
        if self.watcher is not None:
            return self.watcher(inputs)
        narrow = self.bits == 16
        if not training:
            return fixed(inputs, *self.ends(), self.bits, narrow=narrow)
        if self.learned:
            rounded = learnt(inputs, *self.ends(), self.bits, narrow=narrow)
        else:
            if follow:
                self._follow(inputs)
            rounded = fixed(inputs, *self.ends(), self.bits, narrow=narrow)
        return tf.where(self.active.value > 0, rounded, inputs)

    def _follow(self, inputs: Any) -> None:
        low = tf.minimum(tf.reduce_min(inputs), 0.0)
        high = tf.maximum(tf.reduce_max(inputs), 0.0)
        if self.bits == 16:
            high = tf.maximum(-low, high)
            low = -high
        share = (1 - self.momentum) * self.moving.value
        self.low.assign(self.low.value + share * (low - self.low.value))
        self.high.assign(self.high.value + share * (high - self.high.value))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"bits": self.bits, "learned": self.learned, "momentum": self.momentum}
        return {**super().get_config(), **own}


@registered
class FreezableBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """BatchNormalization that uses its moving statistics in training, too, once ``frozen`` is 1."""

    edgepack_kind = "BatchNormalization"

    def build(self, input_shape: Any) -> None:
        """Make the layer's variables and ``frozen``."""
        super().build(input_shape)
        self.frozen = self.add_weight(name="frozen", shape=(), initializer="zeros", trainable=False)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As the Keras layer."""
        if not training:
            return super().call(inputs, training=False, mask=mask)
        still = super().call
        return tf.cond(
            self.frozen.value > 0,
            lambda: still(inputs, training=False, mask=mask),
            lambda: still(inputs, training=True, mask=mask),
        )
