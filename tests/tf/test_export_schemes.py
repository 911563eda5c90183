"""Every scheme of every kind of model: sound in LiteRT, named, ordered and fixed in shape."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from edgepack.errors import DataError, FitError, ModelError, SpecError
from edgepack.export import compare, export, to_float
from edgepack.export.compare import run
from edgepack.graph.constants import values
from edgepack.graph.parse import parse
from edgepack.model.load import Model, load
from edgepack.model.predict import predict
from edgepack.records import Check
from edgepack.runtimes import tables
from edgepack.spec.recipe import Recipe, Selection
from tests.graphs import graph
from tests.tf.export_models import KINDS, Samples, as_model, build

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
LITERT = tables.load("litert-2.3")
ENDS = {"int8": "int8", "int16x8": "int16", "int4": "int8"}
LEAST_DB = {"float32": 100, "float16": 45, "dynamic": 20, "int8": 20, "int16x8": 30, "int4": 8}


@cache
def model_of(kind: str) -> Model:
    return build(kind)


def recipe(scheme: str, **more) -> Recipe:
    return Recipe(id=scheme, scheme=scheme, **more)


def decibels(check: Check) -> float:
    assert check.mse is not None
    return np.inf if check.sqnr_db is None else check.sqnr_db


def types(content: bytes) -> tuple[list[str], list[str]]:
    main = parse(content, "made").main
    ends = ([main.tensors[i].dtype for i in found] for found in (main.inputs, main.outputs))
    inputs, outputs = ends
    return inputs, outputs


@pytest.mark.parametrize("scheme", list(LEAST_DB))
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_scheme_computes_the_model(kind, scheme):
    model = model_of(kind)
    made = export(model, recipe(scheme), LITERT, Samples(model, 60))
    fresh = Samples(model, 16, seed=1).x
    check = compare(made.content, fresh, predict(model, fresh), model, recipe(scheme), LITERT)
    assert (check.status, check.samples) == ("ok", 16)
    assert decibels(check) > LEAST_DB[scheme]
    graph = parse(made.content, kind)
    signature = graph.signatures[0]
    assert signature.key == "serving_default"
    assert list(signature.inputs) == [spec.name for spec in model.inputs]
    assert list(signature.outputs) == [spec.name for spec in model.outputs]
    assert list(signature.inputs.values()) == list(graph.main.inputs)
    assert list(signature.outputs.values()) == list(graph.main.outputs)
    assert {t for side in types(made.content) for t in side} == {ENDS.get(scheme, "float32")}
    shapes = [graph.main.tensors[i].shape for i in graph.main.inputs]
    assert shapes == [spec.shape for spec in model.inputs]


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "int4"])
def test_floats_in_and_out(scheme):
    model = model_of("image")
    made = export(model, recipe(scheme, io="float32"), LITERT, Samples(model, 40))
    assert types(made.content) == (["float32"], ["float32"])
    fresh = Samples(model, 8, seed=1).x
    check = compare(made.content, fresh, predict(model, fresh), model, recipe(scheme), LITERT)
    assert decibels(check) > LEAST_DB[scheme]


@pytest.mark.parametrize("calibrator", ["minmax", "moving-average", "percentile", "mse"])
def test_each_calibrator(calibrator):
    model = model_of("image")
    made = export(model, recipe("int8", calibrator=calibrator), LITERT, Samples(model, 40))
    assert made.calibrator == calibrator
    fresh = Samples(model, 8, seed=1).x
    check = compare(made.content, fresh, predict(model, fresh), model, recipe("int8"), LITERT)
    assert decibels(check) > 15


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int16x8", "int4"])
def test_the_same_bytes_twice(scheme, tmp_path):
    path = tmp_path / "image.keras"
    model_of("image").keras.save(path)
    first, second = (
        export(load(path), recipe(scheme), LITERT, Samples(model_of("image"), 20)).content
        for _ in range(2)
    )
    assert first == second


def test_auto_is_no_worse_than_the_converter():
    from benchmarks.converter_int8 import converter_int8
    from edgepack.export.flatbuffer import completed

    model = model_of("image")
    data, fresh = Samples(model, 200), Samples(model, 300, seed=2).x
    wanted = predict(model, fresh)[0]
    made = export(model, recipe("int8"), LITERT, data)
    plain = completed(converter_int8(model, data), model)
    mine, theirs = (
        float(np.mean((run(content, fresh, model, "litert-2.3")[0] - wanted) ** 2))
        for content in (made.content, plain)
    )
    assert mine <= 1.05 * theirs


def test_mixed_keeps_the_selected_layers_in_float():
    model = model_of("image")
    mixed = recipe("mixed", io="float32", mixed=(Selection(layers="stem|@last", scheme="float32"),))
    made = export(model, mixed, LITERT, Samples(model, 40))
    main = parse(made.content, "mixed").main
    weights = {
        operator.name: main.tensors[operator.inputs[1]].dtype
        for operator in main.operators
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    }
    assert weights == {
        "CONV_2D": "float32", "DEPTHWISE_CONV_2D": "int8", "FULLY_CONNECTED": "float32"
    }  # fmt: skip
    assert {"QUANTIZE", "DEQUANTIZE"} <= {operator.name for operator in main.operators}
    fresh = Samples(model, 8, seed=1).x
    check = compare(made.content, fresh, predict(model, fresh), model, mixed, LITERT)
    assert check.status == "ok"


def test_a_selection_of_no_layer_names_the_layers():
    model = model_of("image")
    mixed = recipe("mixed", mixed=(Selection(layers="steem", scheme="float32"),))
    with pytest.raises(SpecError, match="steem") as caught:
        export(model, mixed, LITERT, Samples(model, 10))
    assert "stem" in caught.value.hint


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int16x8", "int4"])
def test_a_float_flatbuffer_is_quantised_without_keras(scheme):
    source = model_of("forked")
    content = to_float(source)
    model = dataclasses.replace(source, kind="tflite", keras=None, content=content)
    made = export(model, recipe(scheme), LITERT, Samples(model, 40))
    fresh = Samples(model, 8, seed=1).x
    check = compare(made.content, fresh, predict(source, fresh), source, recipe(scheme), LITERT)
    assert check.status == "ok"
    assert decibels(check) > LEAST_DB[scheme]
    assert made.producer != "TFLiteConverter"


def test_calibration_data_is_demanded_before_work():
    with pytest.raises(DataError, match="calibration"):
        export(model_of("dense"), recipe("int8"), LITERT, None)


def test_a_scheme_that_the_runtime_miscomputes_is_refused():
    with pytest.raises(FitError) as caught:
        export(model_of("dense"), recipe("float16"), tables.load("tflm"), None)
    assert caught.value.has


def test_data_of_another_shape_is_refused():
    model = model_of("dense")
    data = Samples(model, 10)
    data.x = [np.zeros((10, 7), np.float32)]
    with pytest.raises(DataError, match="does not suit"):
        export(model, recipe("int8"), LITERT, data)


def test_weights_that_are_nan_are_refused():
    model = build("dense")
    model.keras.layers[-1].bias.assign([np.nan] * 3)
    with pytest.raises(ModelError, match="NaN"):
        export(model, recipe("float32"), LITERT, None)


def test_activations_that_are_nan_are_named():
    import tensorflow as tf

    model = odd_model(tf.math.log)
    data = Samples(model, 10)
    model.keras.get_layer("plain").kernel.assign(np.ones((4, 3)))
    data.x[0] = np.abs(data.x[0])
    data.x[0][3] *= -1
    with pytest.raises(ModelError, match="calibration sample 3"):
        export(model, recipe("int8"), LITERT, data)


def odd_model(function):
    import keras

    class Strange(keras.layers.Layer):
        def call(self, x):
            return function(x)

    entry = keras.Input((4,))
    x = Strange(name="peculiar")(keras.layers.Dense(3, name="plain")(entry))
    return as_model(keras.Model(entry, keras.layers.Dense(2)(x)))


def betainc(x):
    import tensorflow as tf

    return tf.math.betainc(x * 0 + 1.0, x * 0 + 2.0, tf.sigmoid(x))


def softsign_gradient(x):
    import tensorflow as tf

    return tf.raw_ops.SoftsignGrad(gradients=x, features=x)


def test_a_failure_names_the_layer_the_operator_and_a_cure(capfd):
    with pytest.raises(ModelError) as caught:
        to_float(odd_model(betainc))
    assert "'peculiar' (Strange)" in caught.value.message
    assert "Betainc" in caught.value.message
    assert "allow_flex" in caught.value.hint
    assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_flex_only_where_allowed():
    content = to_float(odd_model(softsign_gradient), allow_flex=True)
    assert any(operator.flex for operator in parse(content, "flex").main.operators)


def test_nothing_reaches_stdout(capfd):
    export(build("sound"), recipe("int16x8"), LITERT, Samples(model_of("sound"), 10))
    export(build("sound"), recipe("int8"), LITERT, Samples(model_of("sound"), 10))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_an_empty_channel_spoils_no_other(scheme):
    """Pruning leaves channels without a weight, whose own scale would be next to nothing."""
    import keras

    whole = keras.models.clone_model(graph("sequential"))
    whole.set_weights(graph("sequential").get_weights())
    model = as_model(whole)
    layer = model.keras.get_layer("conv_b")
    kernel, bias = (np.array(v) for v in layer.get_weights())
    kernel[..., 1], kernel[..., 2], bias[1:3] = 0.0, 1e-7, 0.1
    layer.set_weights([kernel, bias])
    asked = recipe(scheme, calibrator="minmax")
    main = parse(export(model, asked, LITERT, Samples(model, 16)).content, "x").main
    biases = [values(main.tensors[o.inputs[2]]) for o in main.operators if o.name == "CONV_2D"]
    assert len(biases) >= 2
    assert all(np.abs(found.astype(np.int64)).max() < 2**30 for found in biases)
