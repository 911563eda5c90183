"""Folding of BatchNormalization: the same answers, fewer layers, constraints that hold on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.passes import fold
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask, Palette, Signs
from edgepack.passes.layers import values
from edgepack.passes.network import read, rebuild
from tests.graphs import GRAPHS, graph, settled
from tests.tf.test_network import answers, feed

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
EVERY = Context(teacher=None, scheme="int8", select=lambda layer: True)


def run(model, constraints=(), context=EVERY):
    return fold.apply(Candidate(model=model, constraints=constraints), fold.Options(), context)


def norms(model):
    return [layer.name for layer in model.layers if type(layer).__name__ == "BatchNormalization"]


def same(model, other, tolerance=1e-5):
    x = feed(model)
    for a, b in zip(answers(model, x), answers(other, x), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_answers_the_same_without_its_norms(name):
    model = graph(name)
    made = run(model)
    same(model, made.model)
    assert norms(made.model) == []
    assert [t.name for t in made.model.inputs] == [t.name for t in model.inputs]
    assert made.model.output_names == rebuild(read(model)).output_names


def test_the_given_model_stays_as_it_is():
    model = graph("sequential")
    before = [np.array(w) for w in model.get_weights()]
    run(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_record_names_layer_and_norm():
    record = run(graph("sequential")).steps[-1]
    assert record.changed == ("conv_a: takes in norm_a",)
    assert record.skipped == ()


LAYERS = {
    "Conv2D": lambda k, **kw: k.Conv2D(5, 3, name="it", **kw),
    "Conv2D-grouped": lambda k, **kw: k.Conv2D(6, 3, groups=2, name="it", **kw),
    "DepthwiseConv2D": lambda k, **kw: k.DepthwiseConv2D(3, depth_multiplier=2, name="it", **kw),
    "Conv2DTranspose": lambda k, **kw: k.Conv2DTranspose(5, 3, 2, name="it", **kw),
    "SeparableConv2D": lambda k, **kw: k.SeparableConv2D(5, 3, name="it", **kw),
    "Dense": lambda k, **kw: k.Dense(5, name="it", **kw),
}


def around(layer, *, before=False, after=True, **kwargs):
    """An 8x8x4 image, and ``layer`` with a norm before or after it."""
    import keras

    image = keras.Input((8, 8, 4))
    x = keras.layers.BatchNormalization(name="before")(image) if before else image
    x = LAYERS[layer](keras.layers, **kwargs)(x)
    x = keras.layers.BatchNormalization(name="after")(x) if after else x
    return settled(keras.Model(image, keras.layers.ReLU(name="end")(x)), seed=3)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("bias", [True, False])
def test_every_kind_of_layer_takes_in_the_norm_after_it(layer, bias):
    model = around(layer, use_bias=bias)
    made = run(model).model
    same(model, made)
    assert norms(made) == []


@pytest.mark.parametrize("layer", ["Conv2D", "DepthwiseConv2D", "Dense"])
def test_norms_on_both_sides_fold_where_nothing_is_padded(layer):
    model = around(layer, before=True, activation=None)
    made = run(model).model
    same(model, made)
    assert norms(made) == []


def test_a_norm_before_an_activation_folds_into_the_layer_after_it():
    model = around("Conv2D", before=True, after=False, activation="relu")
    made = run(model)
    same(model, made.model)
    assert norms(made.model) == []


@pytest.mark.parametrize(
    ("layer", "kwargs", "why"),
    [
        ("Conv2D", {"padding": "same"}, "pads with zeros"),
        ("Conv2D-grouped", {}, "is grouped"),
        ("Conv2DTranspose", {}, "is a Conv2DTranspose"),
    ],
)
def test_a_norm_before_a_layer_stays_where_folding_is_not_exact(layer, kwargs, why):
    model = around(layer, before=True, after=False, **kwargs)
    made = run(model)
    same(model, made.model)
    assert norms(made.model) == ["before"]
    (skipped,) = made.steps[-1].skipped
    assert skipped.layer == "before"
    assert why in skipped.why


def test_a_norm_after_an_activation_stays():
    made = run(around("Dense", activation="relu"))
    assert norms(made.model) == ["after"]
    assert "activation" in made.steps[-1].skipped[0].why


def test_a_norm_whose_input_is_also_used_elsewhere_stays():
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    y = keras.layers.BatchNormalization(name="norm")(x)
    model = settled(keras.Model(image, keras.layers.Add()([x, y])))
    made = run(model)
    same(model, made.model)
    assert norms(made.model) == ["norm"]
    assert "also used" in made.steps[-1].skipped[0].why


def test_a_shared_layer_with_two_norms_keeps_them():
    import keras

    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    dense = keras.layers.Dense(4, name="dense")
    a = keras.layers.BatchNormalization(name="a")(dense(left))
    b = keras.layers.BatchNormalization(name="b")(dense(right))
    model = settled(keras.Model([left, right], keras.layers.Add()([a, b])))
    made = run(model)
    same(model, made.model)
    assert norms(made.model) == ["a", "b"]


def test_two_norms_in_a_row_both_fold():
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="two")(keras.layers.BatchNormalization(name="one")(x))
    model = settled(keras.Model(image, x))
    made = run(model)
    same(model, made.model)
    assert norms(made.model) == []
    assert made.model.output_names == ["two"]


def test_a_layer_that_is_not_selected_keeps_its_norm():
    context = Context(teacher=None, scheme="int8", select=lambda layer: layer.name != "conv_a")
    made = run(graph("sequential"), context=context)
    assert norms(made.model) == ["norm_a"]
    assert made.steps[-1].skipped[0].why.startswith("conv_a is not selected")


@st.composite
def stacks(draw):
    """What a random chain of layers is made of: kind, bias, padding, activation."""
    kinds = ["conv", "depthwise", "transposed", "separable", "norm", "norm", "relu", "pool"]
    made = draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=6))
    return [
        (kind, draw(st.booleans()), draw(st.sampled_from(["same", "valid"])), draw(st.booleans()))
        for kind in made
    ]


@settings(max_examples=15, deadline=None)
@given(stack=stacks(), seed=st.integers(0, 99))
def test_any_chain_of_layers_answers_the_same(stack, seed):
    import keras

    layers = keras.layers
    image = x = keras.Input((14, 14, 3))
    for kind, bias, padding, active in stack:
        more = {"use_bias": bias, "padding": padding, "activation": "relu" if active else None}
        x = {
            "conv": lambda more=more: layers.Conv2D(4, 3, **more),
            "depthwise": lambda more=more: layers.DepthwiseConv2D(3, **more),
            "transposed": lambda more=more: layers.Conv2DTranspose(4, 3, **more),
            "separable": lambda more=more: layers.SeparableConv2D(4, 3, **more),
            "norm": layers.BatchNormalization,
            "relu": layers.ReLU,
            "pool": lambda: layers.MaxPooling2D(2, padding="same"),
        }[kind]()(x)
    model = settled(keras.Model(image, layers.Dense(2)(layers.Flatten()(x))), seed)
    made = run(model)
    x = feed(model)
    wanted, found = answers(model, x)[0], answers(made.model, x)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * max(np.abs(wanted).max(), 1))
    left = {skipped.layer for skipped in made.steps[-1].skipped}
    assert left == set(norms(made.model))


def holding(model, kind, seed):
    """The kernel of ``it`` made to satisfy a constraint of a kind; that constraint."""
    layer = model.get_layer("it")
    rng = np.random.default_rng(seed)
    shape = tuple(layer.kernel.shape)
    axes = tuple(range(len(shape) - 1))
    made = {
        "mask": lambda: Mask(layer="it", keep=rng.random(shape) > 0.5),
        "palette": lambda: Palette(layer="it", index=rng.integers(-1, 4, shape).astype(np.int32)),
        "scaled": lambda: Palette(
            layer="it", index=rng.integers(-1, 5, shape).astype(np.int32), axes=axes
        ),
        "signs": lambda: Signs(
            layer="it", signs=rng.integers(-1, 2, shape).astype(np.int8), axes=axes
        ),
    }[kind]()
    layer.kernel.assign(made.project(layer.kernel.value))
    return made


@pytest.mark.parametrize("kind", ["mask", "palette", "scaled", "signs"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), negative=st.booleans())
def test_constraints_hold_on_after_folding(kind, seed, negative):
    model = around("Conv2D")
    norm = model.get_layer("after")
    rng = np.random.default_rng(seed)
    norm.gamma.assign(rng.uniform(-1.0 if negative else 0.2, 1.0, norm.gamma.shape))
    made = run(model, (holding(model, kind, seed),))
    same(model, made.model)
    (constraint,) = made.constraints
    kernel = values(made.model.get_layer("it"))
    np.testing.assert_allclose(np.asarray(constraint.project(kernel)), kernel, atol=1e-5)
    assert np.count_nonzero(kernel) == np.count_nonzero(values(model.get_layer("it")))


def test_a_palette_of_the_whole_layer_becomes_one_a_channel_and_the_record_says_so():
    model = around("Conv2D")
    made = run(model, (holding(model, "palette", 0),))
    assert "it: each output channel now has a palette of its own" in made.steps[-1].changed
    (palette,) = made.constraints
    channels = [set(np.unique(palette.index[..., c])) - {-1} for c in range(5)]
    assert not set.intersection(*channels)


def test_a_folded_model_can_be_saved_and_loaded(tmp_path):
    import keras

    made = run(graph("depthwise")).model
    made.save(tmp_path / "folded.keras")
    same(made, keras.models.load_model(tmp_path / "folded.keras"), 0)
