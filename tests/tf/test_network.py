"""The graph of calls: what ``read`` finds, and that ``rebuild`` gives the same model again."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.passes.network import read, rebuild
from tests.graphs import GRAPHS, graph

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def feed(model, seed=1):
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=(3, *t.shape[1:])).astype(np.float32) for t in model.inputs]
    return made if len(made) > 1 else made[0]


def answers(model, x):
    import keras

    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_rebuilt_model_computes_the_same(name):
    model = graph(name)
    again, x = rebuild(read(model)), feed(model)
    for a, b in zip(answers(model, x), answers(again, x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [t.name for t in again.inputs] == [t.name for t in model.inputs]
    assert again.name == model.name


@pytest.mark.parametrize("name", GRAPHS)
def test_the_copy_shares_nothing_with_the_original(name):
    model = graph(name)
    x = feed(model)
    before = answers(model, x)
    again = rebuild(read(model))
    for variable in again.weights:
        variable.assign(variable + 1.0)
    for a, b in zip(before, answers(model, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nested_models_are_unfolded_and_their_names_stay_distinct():
    names = [call.name for call in read(graph("nested")).calls]
    assert {"conv", "inner_conv", "norm", "dense"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_shared_layer_is_one_layer_called_often():
    network = read(graph("shared"))
    twin = next(call.layer for call in network.calls if call.name == "twin")
    assert network.uses[id(twin)] == 2
    again = rebuild(network)
    assert sum(layer.name == "twin" for layer in again.layers) == 1
    assert len(again.weights) == len(graph("shared").weights)


def test_operators_between_layers_are_calls_too():
    import keras

    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.ops.relu(x * 2.0 - 1.0) + x)
    given = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(model(given), rebuild(read(model))(given))


def test_structures_of_inputs_and_outputs_stay():
    import keras

    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    out = keras.layers.Dense(2, name="d")(keras.layers.Add(name="s")([a, b]))
    model = keras.Model({"a": a, "b": b}, {"first": out, "second": a})
    given = {"a": np.ones((2, 3), np.float32), "b": np.zeros((2, 3), np.float32)}
    made = rebuild(read(model))(given)
    assert sorted(made) == ["first", "second"]
    np.testing.assert_array_equal(made["first"], model(given)["first"])


def test_a_change_replaces_a_call_and_keeps_the_rest():
    import keras

    model = graph("sequential")

    def change(call, inputs, clone):
        if call.name != "relu_a":
            return None
        return keras.layers.ReLU(6.0, name="relu_a")(inputs[0])

    made = rebuild(read(model), change)
    assert made.get_layer("relu_a").max_value == 6.0
    assert model.get_layer("relu_a").max_value is None
    np.testing.assert_array_equal(made.get_layer("hidden").kernel, model.get_layer("hidden").kernel)


def test_statistics_of_a_normalization_layer_are_copied():
    import keras

    x = keras.Input((3,), name="x")
    norm = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])
    model = keras.Model(x, norm(x))
    adapted = keras.layers.Normalization(name="adapted")
    adapted.adapt(np.arange(12, dtype=np.float32).reshape(4, 3))
    both = keras.Model(x, adapted(norm(x)))
    given = np.ones((2, 3), np.float32)
    for each in (model, both):
        np.testing.assert_allclose(each(given), rebuild(read(each))(given), atol=1e-6)


def test_a_subclassed_model_has_no_graph():
    import keras

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ModelError, match="no graph"):
        read(Own())
