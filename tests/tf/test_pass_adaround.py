"""Adaptive rounding: nearer answers than nearest rounding, and integers that the export keeps."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError, SpecError
from edgepack.export import export
from edgepack.export.suitable import method_of
from edgepack.graph import constants
from edgepack.graph.parse import parse
from edgepack.passes import adaround, correct_biases, grid, patches, rounding
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask, Palette
from edgepack.passes.layers import kind, shared_axes, values
from edgepack.runtimes import tables
from edgepack.runtimes.schemes import COMMON
from edgepack.spec.recipe import Recipe
from tests.graphs import GRAPHS, graph, settled
from tests.tf.export_models import Samples, as_model
from tests.tf.test_network import answers, feed

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
QUICK = {"iterations": 40, "rows": 512, "batch": 64}


def run(
    model, constraints=(), scheme="int4", samples=48, select=lambda layer: True, alike=(), **options
):
    context = Context(
        teacher=model,
        scheme=scheme,
        alike=frozenset(alike),
        select=select,
        calibration=Samples(as_model(model), samples) if samples else None,
    )
    candidate = Candidate(model=model, constraints=constraints)
    return adaround.apply(candidate, adaround.Options(**{**QUICK, **options}), context)


def together(rows, seed):
    """Rows of 12 values ≥ 0 that go together, as activations do."""
    mixing = np.random.default_rng(5).normal(size=(4, 12))
    hidden = np.random.default_rng(seed).normal(size=(rows, 4))
    return np.maximum(hidden @ mixing, 0).astype(np.float32)


def task(bits=4, seed=0):
    """A layer of 12 inputs and 5 outputs; ``seed`` draws its rows."""
    rng = np.random.default_rng(7)
    weights = rng.normal(size=(1, 12, 5)).astype(np.float32)
    weights[0, 3] = 0
    bias = rng.normal(size=5).astype(np.float32)
    inputs = together(800, seed)[:, None, :]
    return rounding.Task(
        weights=weights,
        step=grid.steps(weights.astype(np.float64), (1,), bits).astype(np.float32),
        top=grid.largest_integer(bits),
        bias=bias,
        inputs=inputs,
        answers=rounding.linear(inputs, weights, bias),
        activation=abs,
    )


def learn(given, seed=0, iterations=200):
    effort = rounding.Effort(iterations=iterations, rate=0.1, pull=10.0, batch=128, seed=seed)
    return rounding.learned(given, effort)


@pytest.mark.parametrize("bits", [4, 8])
def test_learned_integers_answer_better_than_nearest_ones(bits):
    given = task(bits)
    found = learn(given)
    assert found.learned < 0.8 * found.nearest
    fresh = task(bits, seed=1)
    assert rounding.error(fresh, found.integers, found.bias) < 0.8 * rounding.error(
        fresh, rounding.nearest(fresh), fresh.bias
    )


def test_weights_are_rounded_up_or_down_and_zeros_and_ends_stay():
    given = task()
    integers = learn(given).integers
    scaled = np.clip(given.weights / given.step, -7, 7)
    assert (np.abs(integers - scaled) < 1).all()
    assert not integers[given.weights == 0].any()
    assert (np.abs(integers).max(1) == 7).all()


def test_the_same_seed_gives_the_same_integers():
    one, two = learn(task()), learn(task())
    np.testing.assert_array_equal(one.integers, two.integers)


def test_weights_that_lie_on_the_grid_already_stay():
    given = task()
    rounded = (rounding.nearest(given) * given.step).astype(np.float32)
    answers = rounding.linear(given.inputs, rounded, given.bias)
    again = rounding.Task(**{**vars(given), "weights": rounded, "answers": answers})
    np.testing.assert_array_equal(learn(again).integers, rounding.nearest(given))


def mixture():
    """Every kind of layer whose rounding is learned, two of them with norms."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depth")(x)
    x = layers.BatchNormalization(name="late")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="point")(x)
    x = layers.Reshape((36, 8))(x)
    x = layers.Conv1D(6, 3, activation="relu", name="time")(x)
    x = layers.Dense(5, name="label")(layers.GlobalAveragePooling1D()(x))
    return settled(keras.Model(image, layers.Softmax(name="end")(x)))


@pytest.mark.parametrize(
    ("scheme", "runtime", "alike"),
    [
        ("int8", "litert-2.3", set()),
        ("int4", "litert-2.3", set()),
        ("int16x8", "litert-2.3", set()),
        ("int4", "tflm", {"FULLY_CONNECTED"}),
    ],
)
def test_the_export_stores_the_learned_integers(scheme, runtime, alike):
    recipe = Recipe(id="it", scheme=scheme)
    assert method_of(tables.load(runtime), recipe, COMMON, learned=False).per_tensor == alike
    made = run(mixture(), scheme=scheme, alike=alike).model
    model = as_model(made)
    content = export(model, recipe, tables.load(runtime), Samples(model, 24)).content
    stored = [
        (constants.values(tensor).astype(int), tensor)
        for tensor in parse(content, "it").main.tensors
        if tensor.constant and tensor.dtype in ("int8", "int4") and len(tensor.shape) > 1
    ]
    for name in ("conv", "depth", "point", "time", "label"):
        layer = made.get_layer(name)
        bits = grid.bits_of(layer, scheme)
        kernel = values(layer).astype(np.float64)
        wanted = np.rint(kernel / grid.steps(kernel, shared_axes(layer, alike=alike), bits)).astype(
            int
        )
        if kind(layer) == "DepthwiseConv2D":
            wanted = wanted.reshape(1, 3, 3, -1)
        else:
            wanted = np.moveaxis(wanted, -1, 0)
        assert np.abs(wanted).max() == grid.largest_integer(bits)
        assert any(
            found.size == wanted.size and (found.reshape(wanted.shape) == wanted).all()
            for found, _ in stored
        ), name


def test_rounded_models_answer_better_than_nearest_rounding():
    import keras

    keras.utils.set_random_seed(0)
    entry = keras.Input((12,))
    hidden = keras.layers.Dense(16, activation="relu", name="hidden")(entry)
    model = settled(keras.Model(entry, keras.layers.Dense(5, name="label")(hidden)))
    samples = Samples(as_model(model), 0)
    samples.x = [together(400, seed=1)]
    context = Context(teacher=model, scheme="int4", select=lambda layer: True, calibration=samples)
    start, fresh = Candidate(model=model), together(400, seed=2)
    options = adaround.Options(**{**QUICK, "iterations": 200, "rows": 2048})
    learned = adaround.apply(start, options, context).model
    nearest = correct_biases.apply(start, correct_biases.Options(), context).model
    wanted = answers(model, fresh)[0]
    error = [float(((answers(m, fresh)[0] - wanted) ** 2).mean()) for m in (learned, nearest)]
    assert error[0] < 0.7 * error[1]


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_comes_through(name):
    model = graph(name)
    before = [np.array(w) for w in model.get_weights()]
    made = run(model, iterations=5)
    record = made.steps[-1]
    done = {line.split(":")[0] for line in record.changed}
    for layer in made.model.layers:
        if kind(layer) in patches.MATRICES:
            assert layer.name in done
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [t.name for t in made.model.inputs] == [t.name for t in model.inputs]


def test_what_is_left_is_named_with_its_reason():
    made = run(graph("decoder"), iterations=5, select=lambda layer: layer.name != "again")
    why = {skipped.layer: skipped.why for skipped in made.steps[-1].skipped}
    assert "Conv2DTranspose" in why["up"]
    assert why["again"] == "it is not selected"


def test_zeros_of_a_mask_stay_and_a_palette_keeps_its_layer():
    model = graph("sequential")
    rng = np.random.default_rng(0)
    first, second = model.get_layer("conv_a"), model.get_layer("conv_b")
    keep = Mask(layer="conv_a", keep=rng.random(first.kernel.shape) > 0.6)
    first.kernel.assign(keep.project(first.kernel.value))
    index = rng.integers(0, 4, second.kernel.shape).astype(np.int32)
    palette = Palette(layer="conv_b", index=index)
    second.kernel.assign(palette.project(second.kernel.value))
    made = run(model, (keep, palette))
    assert not values(made.model.get_layer("conv_a"))[~keep.keep].any()
    np.testing.assert_array_equal(values(made.model.get_layer("conv_b")), values(second))
    assert "palette" in {s.layer: s.why for s in made.steps[-1].skipped}["conv_b"]


def test_the_same_seed_gives_the_same_model():
    one, two = run(graph("conv1d")).model, run(graph("conv1d")).model
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_rounded_model_can_be_saved_and_loaded(tmp_path):
    import keras

    made = run(graph("depthwise"), iterations=5).model
    made.save(tmp_path / "rounded.keras")
    again = keras.models.load_model(tmp_path / "rounded.keras")
    x = feed(made)
    np.testing.assert_array_equal(answers(made, x)[0], answers(again, x)[0])


def test_without_samples_it_says_what_to_give():
    with pytest.raises(DataError, match="no samples") as caught:
        run(graph("sequential"), samples=0)
    assert "--calibration" in caught.value.hint


def test_a_float_scheme_is_refused():
    with pytest.raises(SpecError, match="float32"):
        run(graph("sequential"), scheme="float32")
