"""Activations: in layers, between them, as operations and as gates of a product."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.passes.activations import Options, apply
from edgepack.passes.candidate import Candidate
from edgepack.passes.network import read
from tests.graphs import GRAPHS, graph, settled
from tests.tf.rewritten import answers, context, data, feed, int8_db, same_ends, saved_again

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def smooth():
    """Every place in which an activation can stand."""
    import keras

    layers = keras.layers
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(6, 3, activation="silu", name="fused")(image)
    x = layers.Activation("hard_silu", name="between")(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(6, 1, name="plain")(x)
    x = layers.Multiply(name="product")([x, layers.Activation("sigmoid", name="gate")(x)])
    x = layers.Conv2D(6, 1, name="next")(keras.ops.gelu(x))
    x = layers.ELU(name="elu")(x)
    x = layers.LeakyReLU(name="leaky")(layers.Conv2D(6, 1, name="last")(x))
    x = layers.GlobalAveragePooling2D(name="average")(x)
    label = layers.Dense(4, activation="gelu", name="label")(x)
    return settled(keras.Model(image, label, name="smooth"))


def changed(done):
    return dict(line.split(": ") for line in done.steps[-1].changed)


def test_every_place(tmp_path):
    model = smooth()
    done = apply(Candidate(model=model), Options(), context(model))
    gelu = next(call.name for call in read(model).calls if call.name.startswith("gelu"))
    assert changed(done) == {
        "fused": "swish → relu6",
        "between": "hard-swish → relu6",
        "product": "swish → relu6",
        gelu: "gelu → relu6",
        "elu": "elu → relu6",
        "leaky": "leaky-relu → relu6",
    }
    assert [(s.layer, s.why) for s in done.steps[-1].skipped] == [
        ("label", "its gelu is what the model answers")
    ]
    same_ends(model, done.model)
    saved_again(done.model, tmp_path)
    assert "gate" not in {layer.name for layer in done.model.layers}
    assert model.get_layer("fused").activation.__name__ == "silu"
    assert int8_db(done.model) > 15


def test_it_computes_what_it_says():
    import keras

    model = smooth()
    done = apply(Candidate(model=model), Options(replace=("swish",)), context(model))
    assert set(changed(done)) == {"fused", "product"}
    x = feed(model)

    def part(made, name):
        return answers(keras.Model(made.input, made.get_layer(name).output), x)[0]

    inner = part(done.model, "plain")
    np.testing.assert_allclose(part(done.model, "product"), np.clip(inner, 0, 6), atol=1e-6)
    assert (part(done.model, "fused") >= 0).all()
    assert (part(model, "fused") < 0).any()


def test_a_near_target_stays_near():
    model = smooth()
    x = feed(model, 64)
    wanted = answers(model, x)[0]
    errors = {}
    for to in ("hard-swish", "relu6"):
        options = Options(replace=("swish", "gelu"), to=to)
        done = apply(Candidate(model=model), options, context(model))
        errors[to] = float(np.square(answers(done.model, x)[0] - wanted).mean())
    assert errors["hard-swish"] < errors["relu6"]


def test_a_selection_and_a_target_of_the_same_name_are_kept():
    model = smooth()
    chosen = context(model, select=lambda layer: layer.name != "fused")
    done = apply(Candidate(model=model), Options(to="hard-swish"), chosen)
    assert "between" not in changed(done)
    assert ("fused", "swish, but not selected") in [
        (s.layer, s.why) for s in done.steps[-1].skipped
    ]


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_without_such_activations_stay(name):
    model = graph(name)
    done = apply(Candidate(model=model), Options(), context(model, calibration=data(model)))
    assert (done.steps[-1].changed, done.steps[-1].skipped) == ((), ())
    for a, b in zip(answers(model, feed(model)), answers(done.model, feed(model)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_shared_layer_is_changed_once():
    import keras

    image = keras.Input((5,), name="x")
    twice = keras.layers.Dense(5, activation="elu", name="twice")
    model = keras.Model(image, keras.layers.Dense(2, name="end")(twice(twice(image))))
    done = apply(Candidate(model=model), Options(to="relu"), context(model))
    assert done.steps[-1].changed == ("twice: elu → relu",)
    assert sum(layer.name == "twice" for layer in done.model.layers) == 1
    assert done.model.get_layer("twice").activation.__name__ == "relu"
