"""The peer: plain TFLiteConverter int8, as its documentation shows it."""

from __future__ import annotations

from edgepack.model.data import Data
from edgepack.model.load import Model


def converter_int8(model: Model, calibration: Data) -> bytes:
    """``model`` (Keras, or a SavedModel's function) as full-integer int8 flatbuffer."""
    import tensorflow as tf

    call = model.keras if model.keras is not None else model.function
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in model.inputs]
    names = [spec.name for spec in model.inputs]

    def run(*tensors):
        if model.keras is not None:
            return call(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
        return call(**dict(zip(names, tensors, strict=True)))

    holder = tf.Module()
    holder.kept = [v.value for v in call.variables] if model.keras is not None else [call]
    concrete = tf.function(run, autograph=False).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [array[:1] for array in batch.x] for batch in calibration.batches(1)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()
