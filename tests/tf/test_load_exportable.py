"""What Keras allows and TensorFlow or its kernels do not: odd names, and other floats."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.export import export
from edgepack.model.load import load
from edgepack.model.predict import predict
from edgepack.runtimes.tables import load as runtime
from edgepack.spec.recipe import Recipe

pytestmark = pytest.mark.tf
LITERT = runtime("litert-2.3")
FLOAT = Recipe(id="float32", scheme="float32")


def test_layers_with_odd_names_run_and_export(tmp_path):
    x = image = keras.Input((4, 4, 1), name="in put")
    for name in ('çonv "q" ünï', "-o", "_a\nb", "'; rm -rf ~"):
        x = keras.layers.Conv2D(1, 1, name=name)(x)
    model = keras.Model(image, x, name="_ my model")
    model.save(tmp_path / "odd.keras")
    samples = np.ones((2, 4, 4, 1), np.float32)
    wanted = np.prod([layer.kernel.numpy() for layer in model.layers[1:]]) * samples
    loaded = load(tmp_path / "odd.keras")
    np.testing.assert_allclose(predict(loaded, [samples])[0], wanted, 1e-5)
    assert export(loaded, FLOAT, LITERT, None).content


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_exported_in_float32(policy, tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            layers.Conv1D(8, 3, activation="relu", dtype=policy),
            layers.BatchNormalization(dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(3, dtype="float32"),
        ]
    )
    model.save(tmp_path / "mixed.keras")
    loaded = load(tmp_path / "mixed.keras")
    samples = np.random.default_rng(0).random((4, 6, 4), np.float32)
    wanted = model.predict(samples, verbose=0)
    np.testing.assert_allclose(predict(loaded, [samples])[0], wanted, atol=0.02)
    assert export(loaded, FLOAT, LITERT, None).content


def test_another_float_is_named_with_its_layer(tmp_path):
    layers = [keras.Input((4,)), keras.layers.Dense(2, dtype="float64", name="wide")]
    keras.Sequential(layers).save(tmp_path / "wide.keras")
    with pytest.raises(ModelError, match="'wide' computes in float64"):
        load(tmp_path / "wide.keras")
