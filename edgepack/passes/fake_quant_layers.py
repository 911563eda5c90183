"""Keras layers of quantisation-aware training; importing this module makes them loadable.

Each layer with a kernel is the Keras layer that it stands for, with its kernel rounded before
use. The variable ``kernel`` holds the unrounded weights, which are what is trained, pruned and
clustered.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgepack.passes.fake_quant import fixed, flattened, largest, learnt, restored

registered = keras.saving.register_keras_serializable(package="edgepack")


class FakeQuantKernel:
    """What the layers below have beside their Keras class: ``rounded``, the kernel in use.

    A kernel's range is symmetric: its largest magnitude, of each output channel or with
    ``per_tensor`` of all, times ``clip``, which is found once, and with ``learned`` stretched by
    2 to the power of ``kernel_stretch``, which is trained.
    """

    edgepack_kind = ""

    def __init__(
        self,
        *args: Any,
        weight_bits: int = 8,
        per_tensor: bool = False,
        learned: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.weight_bits, self.per_tensor, self.learned = weight_bits, per_tensor, learned

    def build(self, input_shape: Any) -> None:
        """Make the layer's variables and the range's."""
        super().build(input_shape)  # type: ignore[misc]
        layer: Any = self
        flat = flattened(layer.kernel.value, self.edgepack_kind)
        shape = () if self.per_tensor else (flat.shape[-1],)
        self.kernel_clip = layer.add_weight(
            name="kernel_clip", shape=shape, initializer="ones", trainable=False
        )
        self.kernel_high = self.kernel_stretch = None
        if self.learned:
            self.kernel_high = layer.add_weight(
                name="kernel_high", shape=shape, initializer="ones", trainable=False
            )
            self.kernel_stretch = layer.add_weight(
                name="kernel_stretch", shape=shape, initializer="zeros"
            )

    def top(self) -> Any:
        """The magnitude at which the kernel saturates: a scalar, or one for each channel."""
        if self.kernel_stretch is not None and self.kernel_high is not None:
            return self.kernel_high.value * 2.0**self.kernel_stretch.value
        layer: Any = self
        flat = flattened(layer.kernel.value, self.edgepack_kind)
        return largest(flat, per_tensor=self.per_tensor) * self.kernel_clip.value

    def rounded(self, training: bool | None = None) -> Any:
        """The kernel that the layer computes with."""
        layer: Any = self
        kernel = layer.kernel.value
        flat, top = flattened(kernel, self.edgepack_kind), self.top()
        how = learnt if training and self.learned else fixed
        made = how(flat, -top, top, self.weight_bits, narrow=True)
        return restored(made, kernel.shape, self.edgepack_kind)

    def finished(self, outputs: Any) -> Any:
        """Bias and activation."""
        layer: Any = self
        if layer.use_bias:
            last = getattr(layer, "data_format", "channels_last") == "channels_last"
            spare = 0 if last else layer.rank
            outputs = outputs + tf.reshape(layer.bias.value, [-1, *[1] * spare])
        return outputs if layer.activation is None else layer.activation(outputs)

    def save_own_variables(self, store: Any) -> None:
        """Each variable by its name: Keras's own layers save kernel and bias alone."""
        layer: Any = self
        for variable in layer.weights:
            store[variable.name] = np.asarray(variable.numpy())

    def load_own_variables(self, store: Any) -> None:
        """What was saved."""
        layer: Any = self
        for variable in layer.weights:
            variable.assign(store[variable.name])

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {
            "weight_bits": self.weight_bits,
            "per_tensor": self.per_tensor,
            "learned": self.learned,
        }
        return {**super().get_config(), **own}  # type: ignore[misc]


class _Convolution(FakeQuantKernel):
    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """As the Keras layer, with the rounded kernel."""
        layer: Any = self
        padding = layer.padding
        if padding == "causal":
            inputs, padding = keras.ops.pad(inputs, layer._compute_causal_padding()), "valid"
        made = keras.ops.conv(
            inputs,
            self.rounded(training),
            strides=list(layer.strides),
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )
        return self.finished(made)


@registered
class FakeQuantConv1D(_Convolution, keras.layers.Conv1D):  # type: ignore[misc]
    """Conv1D with a fake-quantised kernel."""

    edgepack_kind = "Conv1D"


@registered
class FakeQuantConv2D(_Convolution, keras.layers.Conv2D):  # type: ignore[misc]
    """Conv2D with a fake-quantised kernel."""

    edgepack_kind = "Conv2D"


class _Transposed(FakeQuantKernel):
    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """As the Keras layer, with the rounded kernel."""
        layer: Any = self
        made = keras.ops.conv_transpose(
            inputs,
            self.rounded(training),
            strides=list(layer.strides),
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )
        return self.finished(made)


@registered
class FakeQuantConv1DTranspose(_Transposed, keras.layers.Conv1DTranspose):  # type: ignore[misc]
    """Conv1DTranspose with a fake-quantised kernel."""

    edgepack_kind = "Conv1DTranspose"


@registered
class FakeQuantConv2DTranspose(_Transposed, keras.layers.Conv2DTranspose):  # type: ignore[misc]
    """Conv2DTranspose with a fake-quantised kernel."""

    edgepack_kind = "Conv2DTranspose"


class _Depthwise(FakeQuantKernel):
    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """As the Keras layer, with the rounded kernel."""
        layer: Any = self
        made = keras.ops.depthwise_conv(
            inputs,
            self.rounded(training),
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )
        return self.finished(made)


@registered
class FakeQuantDepthwiseConv1D(_Depthwise, keras.layers.DepthwiseConv1D):  # type: ignore[misc]
    """DepthwiseConv1D with a fake-quantised kernel."""

    edgepack_kind = "DepthwiseConv1D"


@registered
class FakeQuantDepthwiseConv2D(_Depthwise, keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """DepthwiseConv2D with a fake-quantised kernel."""

    edgepack_kind = "DepthwiseConv2D"


@registered
class FakeQuantDense(FakeQuantKernel, keras.layers.Dense):  # type: ignore[misc]
    """Dense with a fake-quantised kernel."""

    edgepack_kind = "Dense"

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """As the Keras layer, with the rounded kernel."""
        return self.finished(keras.ops.matmul(inputs, self.rounded(training)))


LAYERS = {
    layer.edgepack_kind: layer
    for layer in (
        FakeQuantConv1D,
        FakeQuantConv2D,
        FakeQuantConv1DTranspose,
        FakeQuantConv2DTranspose,
        FakeQuantDepthwiseConv1D,
        FakeQuantDepthwiseConv2D,
        FakeQuantDense,
    )
}
"""The layer that stands for each Keras class."""
