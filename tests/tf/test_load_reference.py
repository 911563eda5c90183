"""Real models: what they answer after loading is what was published about them."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.export.failure import layer_names
from edgepack.model.convert import to_keras
from edgepack.model.load import load
from edgepack.model.metrics import resolve
from edgepack.model.predict import predict
from tests.needs import needs

pytestmark = pytest.mark.tf


def accuracy(model, x, y):
    metric = resolve("top1", model.outputs, True)
    metric.update(predict(model, [x], batch=256), y)
    return metric.compute()


@pytest.mark.parametrize(
    ("file", "data", "scale", "expected"),
    [
        ("mlperf_ic_resnet8.h5", "cifar10_test_655", 1.0, 0.887),
        ("tinymaix_cifar10.h5", "cifar10_test_655", 1 / 255, 0.765),
        ("tinymaix_mnist_resnet.h5", "mnist_test_10000", 1 / 255, 0.9825),
        ("stm32_har_cnn1d.h5", "har_test", 1 / 4000, 0.9919),
    ],
)
def test_classifiers_are_as_accurate_as_published(reference_data, file, data, scale, expected):
    model = load(reference_data / "models" / file)
    arrays = np.load(reference_data / "sets" / f"{data}.npz")
    found = accuracy(model, arrays["x"].astype(np.float32) * np.float32(scale), arrays["y"])
    assert found == pytest.approx(expected, abs=0.001)
    assert model.name == file.removesuffix(".h5")
    assert model.kind == "keras"


def test_keywords_by_signature_and_as_keras(reference_data):
    model = load(reference_data / "models" / "mlperf_kws_savedmodel")
    arrays = np.load(reference_data / "sets" / "kws01_500.npz")
    x = ((arrays["x_int8"].astype(np.float32) - 83) * 0.58470).astype(np.float32)
    assert accuracy(model, x, arrays["y"]) == pytest.approx(0.904, abs=0.005)
    assert (model.kind, model.inputs[0].shape) == ("saved-model", (1, 49, 10, 1))
    assert layer_names(model) == {}
    try:
        import tf_keras
    except ImportError:
        tf_keras = None
    needs(tf_keras is not None, "pip install 'edgepack[keras2]'")
    converted = to_keras(model)
    np.testing.assert_allclose(predict(converted, [x])[0], predict(model, [x])[0], atol=1e-5)
    assert converted.sha256 == model.sha256
    assert layer_names(converted)["conv2d"] == "Conv2D"


def test_autoencoder_rebuilds_what_was_published(reference_data):
    model = load(reference_data / "models" / "mlperf_ad_autoencoder.h5")
    raw = np.fromfile(reference_data / "sets" / "ad01_toycar_one_clip_logmel.bin", np.float32)
    frames = raw.reshape(200, 128)
    x = np.stack([frames[at : at + 5].ravel() for at in range(196)])
    metric = resolve(None, model.outputs, False)
    metric.update(predict(model, [x]), x)
    assert metric.compute() == pytest.approx(9.4913, abs=1e-3)


def test_wake_word(reference_data):
    model = load(reference_data / "models" / "mlperf_sww_ref.h5")
    arrays = np.load(reference_data / "sets" / "sww_calibration_45.npz")
    assert accuracy(model, arrays["specs"], arrays["labels"]) > 0.9


def test_function_calls_become_layers(reference_data):
    model = load(reference_data / "models" / "tinymaix_mnist_resnet.h5")
    assert layer_names(model)["tf.__operators__.add_3"] == "Add"


def test_float_flatbuffer_answers_through_a_child(reference_data):
    arrays = np.load(reference_data / "sets" / "cifar10_test_655.npz")
    x = arrays["x"][:32].astype(np.float32)
    flat = load(reference_data / "models" / "mlperf_ic_float.tflite")
    keras = load(reference_data / "models" / "mlperf_ic_resnet8.h5")
    assert (flat.kind, flat.inputs[0].shape) == ("tflite", (1, 32, 32, 3))
    np.testing.assert_allclose(predict(flat, [x])[0], predict(keras, [x])[0], atol=1e-4)
