"""Untrained Keras models of one operator each, exported in every form that a scheme can take.

``build`` writes one ``.tflite`` and one ``.npz`` (inputs and the reference outputs) for each
operator and form. The reference is the float computation with the file's own weights,
dequantised, so it knows nothing of any runtime's kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 8
SEED = 7
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One builtin operator and the Keras layer that becomes it.

    ``variant`` names a shape of its own where a runtime has another kernel for it.
    """

    name: str
    variant: str = ""
    shapes: Shapes
    layer: Callable[[], Any]

    @property
    def weighted(self) -> bool:
        return self.name in WEIGHTS_AT


WEIGHTS_AT = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
"""Which of the operator's inputs holds its weights."""

TO_KERAS = {
    "CONV_2D": (1, 2, 3, 0),
    "DEPTHWISE_CONV_2D": (1, 2, 3, 0),
    "FULLY_CONNECTED": (1, 0),
    "TRANSPOSE_CONV": (1, 2, 0, 3),
}
"""The transposition from the flatbuffer's layout of the weights to Keras's."""


CONVERTER_FORMS = ("float32", "float16", "dynamic", "int8", "int8-tensor", "int16x8")
QUANTIZER_FORMS = {
    "float16": ("float16", 16, "TENSORWISE"),
    "dynamic": ("dynamic", 8, "CHANNELWISE"),
    "dynamic-tensor": ("dynamic", 8, "TENSORWISE"),
    "dynamic4": ("dynamic", 4, "CHANNELWISE"),
    "dynamic4-block": ("dynamic", 4, "BLOCKWISE_32"),
    "weight-only": ("weight-only", 8, "CHANNELWISE"),
    "weight-only-tensor": ("weight-only", 8, "TENSORWISE"),
    "weight-only4": ("weight-only", 4, "CHANNELWISE"),
    "int8": ("8", 8, "CHANNELWISE"),
    "int8-tensor": ("8", 8, "TENSORWISE"),
    "int16x8": ("16", 8, "CHANNELWISE"),
    "int4": ("8", 4, "CHANNELWISE"),
    "int4-tensor": ("8", 4, "TENSORWISE"),
    "dynamic2": ("dynamic", 2, "CHANNELWISE"),
}
"""Form: (what becomes of activations, bits of the weights, how weights share scales)."""
WEIGHTLESS_FORMS = ("float32", "int8", "int16x8")


CUSTOM = (
    *("TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc", "NumericVerify", "FlexErf"),
    *("CIRCULAR_BUFFER", "TFLM_DECODE", "SignalDelay", "SignalEnergy", "SignalFftAutoScale"),
    *("SignalFilterBank", "SignalFilterBankLog", "SignalFilterBankSpectralSubtraction"),
    *("SignalFilterBankSquareRoot", "SignalFramer", "SignalIrfft", "SignalOverlapAdd"),
    *("SignalPCAN", "SignalRfft", "SignalStacker", "SignalWindow", "ethos-u", "edgetpu-custom-op"),
    *("Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D"),
)
"""Names of custom operators that some runtime or tool has; the first Flex one stands for all."""


def operators() -> list[Operator]:
    """Every operator that has rows. Weights exceed the converter's threshold of 1024 values."""
    from keras import layers, ops

    def activation(name: str) -> Callable[[], Any]:
        return lambda: layers.Activation(name)

    image, pair = ((12, 12, 16),), ((12, 12, 16), (12, 12, 16))
    matrices = ((8, 16), (16, 12))
    planes = ((12, 12, 128),)
    table: list[tuple[str, Shapes, Callable[[], Any]]] = [
        ("CONV_2D", image, lambda: layers.Conv2D(16, 3, padding="same")),
        ("CONV_2D/1x1", ((8, 8, 64),), lambda: layers.Conv2D(32, 1, activation="relu")),
        ("DEPTHWISE_CONV_2D", planes, lambda: layers.DepthwiseConv2D(3, padding="same")),
        ("DEPTHWISE_CONV_2D/strided", planes, lambda: layers.DepthwiseConv2D(3, strides=2)),
        ("FULLY_CONNECTED", ((64,),), lambda: layers.Dense(32)),
        ("FULLY_CONNECTED/sequence", ((6, 64),), lambda: layers.Dense(20)),
        ("TRANSPOSE_CONV", image, lambda: layers.Conv2DTranspose(16, 3, 2, padding="same")),
        ("BATCH_MATMUL", matrices, lambda: lambda pair: ops.matmul(*pair)),
        ("ADD", pair, layers.Add),
        ("MUL", pair, layers.Multiply),
        ("SUB", pair, layers.Subtract),
        ("CONCATENATION", pair, layers.Concatenate),
        ("AVERAGE_POOL_2D", image, lambda: layers.AveragePooling2D(2)),
        ("MAX_POOL_2D", image, lambda: layers.MaxPooling2D(2)),
        ("MEAN", image, layers.GlobalAveragePooling2D),
        ("PAD", image, lambda: layers.ZeroPadding2D(1)),
        ("RESIZE_BILINEAR", image, lambda: layers.UpSampling2D(2, interpolation="bilinear")),
        ("TILE", image, lambda: layers.UpSampling2D(2)),
        ("SOFTMAX", ((20,),), activation("softmax")),
        ("LOGISTIC", image, activation("sigmoid")),
        ("TANH", image, activation("tanh")),
        ("HARD_SWISH", image, activation("hard_swish")),
        ("LEAKY_RELU", image, lambda: layers.LeakyReLU(0.1)),
        ("RELU", image, layers.ReLU),
        ("RELU6", image, lambda: layers.ReLU(6.0)),
    ]
    return [
        Operator(
            name=name.partition("/")[0],
            variant=name.partition("/")[2],
            shapes=shapes,
            layer=layer,
        )
        for name, shapes, layer in table
    ]


def model(operator: Operator) -> Any:
    """A Keras model of the operator alone; its weights' channels differ widely in scale.

    A runtime that takes one channel's scale for all must not come out nearly right.
    """
    import keras

    keras.utils.set_random_seed(SEED)
    inputs = [keras.Input(shape) for shape in operator.shapes]
    built = keras.Model(inputs, operator.layer()(inputs if len(inputs) > 1 else inputs[0]))
    if operator.weighted:
        kernel, bias = built.get_weights()
        generator = np.random.default_rng(SEED)
        channels = {"DEPTHWISE_CONV_2D": -2, "TRANSPOSE_CONV": -2}.get(operator.name, -1)
        shape = [1] * kernel.ndim
        shape[channels] = kernel.shape[channels]
        spread = generator.permutation(np.geomspace(0.25, 2.0, kernel.shape[channels]))
        bias = generator.normal(0, 0.3, bias.shape)
        built.set_weights([kernel * spread.reshape(shape), bias])
    return built


def samples(operator: Operator) -> list[np.ndarray]:
    """Inputs (SAMPLES, 1, *shape) float32, not centred, so that zero points are not zero."""
    generator = np.random.default_rng(SEED + 1)
    return [
        generator.normal(0.4, 1.0, (SAMPLES, 1, *shape)).astype(np.float32)
        for shape in operator.shapes
    ]


def converted(built: Any, data: list[np.ndarray], form: str) -> bytes:
    """The model by TFLiteConverter as float32, float16, dynamic, int8, int8-tensor or int16x8."""
    import tensorflow as tf

    holder = tf.Module()
    holder.v = [variable.value for variable in built.variables]
    specs = [tf.TensorSpec(array.shape[1:], tf.float32) for array in data]

    def call(*args: Any) -> Any:
        return built(list(args) if len(args) > 1 else args[0], training=False)

    function = tf.function(call).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form in ("int8", "int8-tensor", "int16x8"):
        converter.representative_dataset = lambda: ([*sample] for sample in zip(*data, strict=True))
        both = {
            "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        }
        converter.target_spec.supported_ops = [both.get(form, tf.lite.OpsSet.TFLITE_BUILTINS_INT8)]
        kind = tf.int16 if form == "int16x8" else tf.int8
        converter.inference_input_type = converter.inference_output_type = kind
        converter._experimental_disable_per_channel = form == "int8-tensor"
    return bytes(converter.convert())


def quantized(float32: bytes, data: list[np.ndarray], form: str) -> bytes:
    """A float32 flatbuffer by litert-quantizer in one of the forms of ``QUANTIZER_FORMS``."""
    from litert_quantizer import qtyping, quantizer

    kind, bits, granularity = QUANTIZER_FORMS[form]
    every, grain = qtyping.TFLOperationName.ALL_SUPPORTED, qtyping.QuantGranularity[granularity]
    tool = quantizer.Quantizer(float32)
    if kind == "float16":
        tool.update_quantization_recipe(
            ".*",
            every,
            qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=16, dtype=qtyping.TensorDataType.FLOAT
                ),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            "float_casting",
        )
    elif kind == "dynamic":
        tool.add_dynamic_config(".*", every, bits, granularity=grain)
    elif kind == "weight-only":
        tool.add_weight_only_config(".*", every, bits, granularity=grain)
    else:
        tool.add_static_config(".*", every, int(kind), 8, weight_granularity=grain)
        if bits == 4:
            for name in (
                qtyping.TFLOperationName.CONV_2D,
                qtyping.TFLOperationName.FULLY_CONNECTED,
            ):
                tool.add_static_config(".*", name, int(kind), 4, weight_granularity=grain)
        calibration = [
            {f"args_{number}": sample for number, sample in enumerate(samples)}
            for samples in zip(*data, strict=True)
        ]
        return bytes(
            tool.quantize(tool.calibrate({"serving_default": calibration})).quantized_model
        )
    return bytes(tool.quantize().quantized_model)


def with_versions(content: bytes) -> bytes:
    """The file with operator versions raised to what its dtypes need, as edgepack writes it."""
    from edgepack.export import flatbuffer

    tree = flatbuffer.unpacked(content)
    flatbuffer.raise_versions(tree)
    return flatbuffer.packed(tree)


def empty_models(folder: Path) -> None:
    """Write ``OPERATOR.VERSION.tflite`` for every builtin, without its options or weights.

    Versions 1 and 2: some operators have no first version.
    """
    from ai_edge_litert import schema_py_generated as schema

    for name, code in vars(schema.BuiltinOperator).items():
        if name.isupper() and name not in ("CUSTOM", "PLACEHOLDER_FOR_GREATER_OP_CODES"):
            for version in (1, 2):
                content = _empty_model(code, version)
                (folder / f"{name}.{version}.tflite").write_bytes(content)


def custom_models(folder: Path) -> None:
    """Write ``OPERATOR.1.tflite`` for custom operators that runtimes are known to bring along."""
    from ai_edge_litert import schema_py_generated as schema

    for name in CUSTOM:
        content = _empty_model(schema.BuiltinOperator.CUSTOM, 1, name)
        (folder / f"{name}.1.tflite").write_bytes(content)


def _empty_model(code: int, version: int, custom: str | None = None) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    operator_code = schema.OperatorCodeT()
    operator_code.builtinCode, operator_code.deprecatedBuiltinCode = code, min(code, 127)
    operator_code.version, operator_code.customCode = version, custom
    tensors = [schema.TensorT(), schema.TensorT()]
    for tensor in tensors:
        tensor.shape, tensor.type, tensor.name = [1, 2], schema.TensorType.FLOAT32, "t"
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = tensors, [0], [1]
    graph.operators = [operator]
    model = schema.ModelT()
    model.version, model.buffers = 3, [schema.BufferT()]
    model.operatorCodes, model.subgraphs = [operator_code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
