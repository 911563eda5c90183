"""Equalisation: the float answers stay, channels get alike, and what cannot be scaled is left."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.export import export
from edgepack.export.compare import run as answered
from edgepack.passes import equalize
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask, Palette, Signs
from edgepack.passes.layers import values
from edgepack.runtimes import tables
from edgepack.spec.recipe import Recipe
from tests.graphs import GRAPHS, graph, settled
from tests.tf.export_models import Samples, as_model
from tests.tf.test_network import answers, feed

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def run(model, constraints=(), samples=True, select=lambda layer: True, **options):
    context = Context(
        teacher=model,
        scheme="int8",
        select=select,
        calibration=Samples(as_model(model), 48) if samples else None,
    )
    candidate = Candidate(model=model, constraints=constraints)
    return equalize.apply(candidate, equalize.Options(**options), context)


def same(model, other, tolerance=1e-4):
    x = feed(model)
    for a, b in zip(answers(model, x), answers(other, x), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=1e-3)


def uneven(model, seed=0):
    """The model with kernels whose output channels differ up to a thousandfold."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            kernel.assign(kernel * np.exp(rng.normal(0, 2, kernel.shape[-1])))
    return model


@pytest.mark.parametrize("by", ["weights", "activations"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_answers_the_same(name, by):
    model = graph(name)
    same(model, run(model, by=by).model)


LAYERS = {
    "conv": lambda k: k.Conv2D(6, 3, padding="same", name="second"),
    "depthwise": lambda k: k.DepthwiseConv2D(3, depth_multiplier=2, name="second"),
    "transposed": lambda k: k.Conv2DTranspose(5, 3, 2, name="second"),
    "separable": lambda k: k.SeparableConv2D(5, 3, name="second"),
    "dense": lambda k: k.Dense(5, name="second"),
}
BETWEEN = {
    "nothing": lambda k: [],
    "relu": lambda k: [k.ReLU()],
    "leaky": lambda k: [k.LeakyReLU(0.1), k.MaxPooling2D()],
    "prelu": lambda k: [k.PReLU(alpha_initializer="random_uniform"), k.ZeroPadding2D()],
}


def chain(second, between="relu", first="conv"):
    import keras

    image = keras.Input((8, 8, 3), name="image")
    firsts = {
        "conv": lambda: keras.layers.Conv2D(7, 3, name="first"),
        "depthwise": lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="first"),
        "transposed": lambda: keras.layers.Conv2DTranspose(7, 3, name="first"),
        "separable": lambda: keras.layers.SeparableConv2D(7, 3, name="first"),
        "dense": lambda: keras.layers.Dense(7, name="first"),
    }
    x = firsts[first]()(image)
    for layer in BETWEEN[between](keras.layers):
        x = layer(x)
    x = LAYERS[second](keras.layers)(x)
    return uneven(settled(keras.Model(image, x)))


@pytest.mark.parametrize("by", ["weights", "activations"])
@pytest.mark.parametrize(
    ("first", "second"),
    [*((first, "conv") for first in LAYERS), *(("conv", second) for second in LAYERS)],
)
def test_every_pair_of_layers_is_scaled_and_answers_the_same(first, second, by):
    model = chain(second, first=first)
    made = run(model, by=by)
    x = feed(model)
    wanted, found = answers(model, x)[0], answers(made.model, x)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert any("channels scaled" in line for line in made.steps[-1].changed)


@pytest.mark.parametrize("between", BETWEEN)
def test_what_lies_between_lets_the_scale_through(between):
    model = chain("conv", between)
    made = run(model)
    x = feed(model)
    wanted, found = answers(model, x)[0], answers(made.model, x)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert made.steps[-1].changed


def test_by_weights_both_layers_have_the_same_largest_weight_in_each_channel():
    made = run(chain("conv"), by="weights", samples=False).model
    first = np.abs(values(made.get_layer("first"))).max((0, 1, 2))
    second = np.abs(values(made.get_layer("second"))).max((0, 1, 3))
    np.testing.assert_allclose(first, second, rtol=1e-2)


def test_by_activations_what_enters_a_depthwise_layer_gets_alike():
    import keras

    model = chain("depthwise")
    data = Samples(as_model(model), 48)

    def spread(made):
        tap = keras.Model(made.inputs, made.get_layer("second").input)
        largest = np.abs(tap.predict(data.x[0], verbose=0)).max((0, 1, 2))
        return largest.max() / largest.min()

    assert spread(model) > 10
    assert spread(run(model).model) < 1.01


def test_int8_answers_get_much_nearer_where_channels_differ():
    import keras

    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.ReLU()(keras.layers.Conv2D(7, 3, name="first")(image))
    model = keras.Model(image, keras.layers.DepthwiseConv2D(3, name="second")(x))
    scale = 10.0 ** np.linspace(-1.5, 1.5, 7)
    model.get_layer("first").kernel.assign(values(model.get_layer("first")) * scale)
    second = values(model.get_layer("second")) / scale[:, None]
    model.get_layer("second").kernel.assign(second)
    fresh = Samples(as_model(model), 32, seed=5).x
    wanted = answers(model, fresh[0])[0]

    def off(keras_model):
        made = as_model(keras_model)
        recipe = Recipe(id="int8", scheme="int8", calibrator="minmax")
        runtime = tables.load("litert-2.3")
        content = export(made, recipe, runtime, Samples(made, 48)).content
        found = answered(content, fresh, made, runtime.id)[0]
        return float(((found - wanted) ** 2).mean())

    assert off(run(model).model) < 0.05 * off(model)


def test_a_dead_channel_stays_as_it_is():
    model = chain("conv")
    kernel = values(model.get_layer("first"))
    kernel[..., 2] = 0
    model.get_layer("first").kernel.assign(kernel)
    made = run(model, by="weights").model
    assert np.isfinite(values(made.get_layer("first"))).all()
    assert not values(made.get_layer("first"))[..., 2].any()


def test_flattened_channels_keep_their_scale():
    import keras

    image = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Flatten()(keras.layers.Conv2D(5, 3, activation="relu", name="first")(image))
    model = uneven(settled(keras.Model(image, keras.layers.Dense(3, name="second")(x))))
    made = run(model)
    x = feed(model)
    wanted, found = answers(model, x)[0], answers(made.model, x)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert "first → second" in made.steps[-1].changed[0]


def test_relu6_is_kept_and_the_record_says_how_it_may_go():
    made = run(graph("depthwise"))
    why = {skipped.layer: skipped.why for skipped in made.steps[-1].skipped}
    assert "relu6" in why["stem"]
    assert made.model.get_layer("stem_relu").max_value == 6


def test_relu6_is_replaced_where_samples_do_not_reach_it(tmp_path):
    import keras

    model = graph("depthwise")
    made = run(model, relu6="replace")
    assert made.model.get_layer("stem_relu").max_value is None
    assert "stem_relu: ReLU6 → ReLU" in made.steps[-1].changed
    same(model, made.model)
    made.model.save(tmp_path / "equal.keras")
    again = keras.models.load_model(tmp_path / "equal.keras")
    assert again.get_layer("stem_relu").max_value is None
    assert model.get_layer("stem_relu").max_value == 6


def test_relu6_stays_where_samples_are_cut_by_it():
    model = graph("depthwise")
    model.get_layer("stem_norm").beta.assign(np.full(8, 9.0))
    made = run(model, relu6="replace")
    assert made.model.get_layer("stem_relu").max_value == 6
    why = {skipped.layer: skipped.why for skipped in made.steps[-1].skipped}
    assert "cuts" in why["stem"]


def test_without_samples_activations_cannot_be_seen():
    with pytest.raises(DataError, match="no samples"):
        run(chain("conv"), samples=False)


def test_constraints_hold_and_a_palette_across_channels_keeps_its_layer():
    model = chain("conv")
    shape = tuple(model.get_layer("first").kernel.shape)
    rng = np.random.default_rng(0)
    signs = Signs(layer="first", signs=rng.integers(-1, 2, shape).astype(np.int8), axes=(0, 1, 2))
    model.get_layer("first").kernel.assign(signs.project(model.get_layer("first").kernel.value))
    keep = Mask(layer="second", keep=rng.random(model.get_layer("second").kernel.shape) > 0.5)
    model.get_layer("second").kernel.assign(keep.project(model.get_layer("second").kernel.value))
    made = run(model, (signs, keep))
    assert any("first → second" in line for line in made.steps[-1].changed)
    for constraint in made.constraints:
        kernel = values(made.model.get_layer(constraint.layer))
        np.testing.assert_allclose(np.asarray(constraint.project(kernel)), kernel, rtol=1e-5)

    palette = Palette(layer="first", index=rng.integers(0, 4, shape).astype(np.int32))
    model.get_layer("first").kernel.assign(palette.project(model.get_layer("first").kernel.value))
    made = run(model, (palette,))
    assert "palette spans channels" in made.steps[-1].skipped[0].why
    np.testing.assert_array_equal(
        values(made.model.get_layer("first")), values(model.get_layer("first"))
    )


def test_a_layer_that_is_not_selected_takes_no_part():
    made = run(chain("conv"), select=lambda layer: layer.name != "second")
    assert made.steps[-1].changed == ()
    assert {s.layer: s.why for s in made.steps[-1].skipped}["first"] == (
        "second after it is not selected"
    )
