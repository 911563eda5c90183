"""Recurrent layers, which become loops or, unrolled, long chains with parts that nobody reads."""

from __future__ import annotations

import keras
import pytest

from edgepack.errors import ModelError
from edgepack.export import compare, export
from edgepack.model.predict import predict
from edgepack.runtimes.tables import load as runtime
from edgepack.spec.recipe import Recipe
from tests.tf.export_models import Samples, as_model

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
LITERT = runtime("litert-2.3")


def recurrent(unroll: bool):
    keras.utils.set_random_seed(5)
    layers = keras.layers
    return as_model(
        keras.Sequential(
            [
                keras.Input((6, 3)),
                layers.LSTM(8, unroll=unroll, name="memory"),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "int4"])
def test_a_loop_is_refused_by_its_layer_where_both_tools_crash(scheme):
    model = recurrent(unroll=False)
    with pytest.raises(ModelError, match=r"WHILE at '.*memory") as caught:
        export(model, Recipe(id=scheme, scheme=scheme), LITERT, Samples(model, 8))
    assert "unroll=True" in caught.value.hint


def test_an_unrolled_one_is_integer():
    model = recurrent(unroll=True)
    recipe = Recipe(id="int8", scheme="int8")
    made = export(model, recipe, LITERT, Samples(model, 20))
    fresh = Samples(model, 8, seed=1).x
    check = compare(made.content, fresh, predict(model, fresh), model, recipe, LITERT)
    assert check.status == "ok"
    assert check.sqnr_db > 15


def test_tokens_are_made_by_the_quantizer_where_the_converter_cannot():
    layers = keras.layers
    tokens = keras.Input((6,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(tokens))
    model = as_model(keras.Model(tokens, layers.Dense(3)(x)))
    recipe = Recipe(id="int16x8", scheme="int16x8")
    data = Samples(model, 20)
    data.x = [abs(array) * 5 % 20 for array in data.x]
    made = export(model, recipe, LITERT, data)
    assert made.producer == "litert-quantizer"
    check = compare(made.content, data.x, predict(model, data.x), model, recipe, LITERT)
    assert check.status == "ok"
