"""Files that Keras 2 wrote answer in Keras 3 as they did in Keras 2."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.model.load import load
from edgepack.model.predict import predict
from tests.needs import needs

pytestmark = pytest.mark.tf
NAMES = (
    "nested_sequential", "nested_sequential_without_input", "nested_functional", "several",
    "shared", "depthwise", "recurrent", "cells", "arithmetic", "shapes", "attention", "embedded",
    "mixed", "regularised",
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    needs(importlib.util.find_spec("tf_keras") is not None, "pip install 'edgepack[keras2]'")
    folder = tmp_path_factory.mktemp("keras2")
    script = Path(__file__).with_name("keras2_models.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


CUSTOM = """
import keras

class Plain(keras.layers.Layer):
    def call(self, x):
        return x * 3.0

@keras.saving.register_keras_serializable("mine")
class Known(Plain):
    pass
"""


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_keras2(written, name, suffix):
    compare(load(written / f"{name}.{suffix}"), np.load(written / f"{name}.npz"), name)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_custom_layers_of_keras2(written, tmp_path, suffix):
    code = tmp_path / "code.py"
    code.write_text(CUSTOM)
    path = written / f"custom.{suffix}"
    with pytest.raises(ModelError, match="custom") as error:
        load(path)
    assert "--custom-objects" in error.value.hint
    compare(load(path, allow_code=code), np.load(written / "custom.npz"), "custom")


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_lambdas_of_keras2(written, suffix):
    path = written / f"code.{suffix}"
    with pytest.raises(ModelError, match="is a Lambda") as error:
        load(path)
    assert "--allow-lambda" in error.value.hint
    compare(load(path, allow_lambda=True), np.load(written / "code.npz"), "code")


def compare(model, arrays, name):
    found = predict(model, [arrays[key] for key in arrays if key.startswith("x")])
    expected = [arrays[key] for key in arrays if key.startswith("y")]
    assert len(found) == len(expected) == len(model.outputs)
    for answer, truth, spec in zip(found, expected, model.outputs, strict=True):
        assert answer.shape[1:] == spec.shape[1:]
        np.testing.assert_allclose(answer, truth, atol=2e-6 if name != "mixed" else 1e-2)


def test_a_suffix_that_does_not_fit_the_content(written, tmp_path):
    renamed = tmp_path / "model.keras"
    renamed.write_bytes((written / "shared.h5").read_bytes())
    assert load(renamed).inputs == load(written / "shared.h5").inputs
