"""What a careful user would write by hand: ResNet8 to int8, verified on the evaluation set.

The peer of ``edgepack pack``: the same 200 calibration samples, the same conversion, and the
same verification (the Keras model and the int8 model over all evaluation images).
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter


def main(data: Path, out: Path) -> None:
    """Convert, verify and print accuracies and the output MSE."""
    with h5py.File(data / "models/mlperf_ic_resnet8.h5") as file:
        print(file.attrs["keras_version"])
    model = keras.models.load_model(data / "models/mlperf_ic_resnet8.h5", compile=False)
    with np.load(data / "sets/cifar10_train_4660.npz") as archive:
        calibration = archive["x"][:200].astype(np.float32)
    with np.load(data / "sets/cifar10_test_655.npz") as archive:
        x, y = archive["x"].astype(np.float32), archive["y"].ravel()
    function = tf.function(lambda image: model(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, 32, 32, 3), tf.float32))
    holder = tf.Module()
    holder.v = [v.value for v in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    content = converter.convert()
    out.write_bytes(content)
    expected = model.predict(x, batch_size=64, verbose=0)
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = given["quantization"]
    stored = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)
    rows = []
    for sample in stored:
        interpreter.set_tensor(given["index"], sample[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(found["index"])[0])
    scale, zero = found["quantization"]
    actual = (np.array(rows, np.float32) - zero) * scale
    print("float", (expected.argmax(1) == y).mean(), "int8", (actual.argmax(1) == y).mean())
    print("mse", float(((actual - expected) ** 2).mean()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
