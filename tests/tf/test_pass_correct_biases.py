"""Bias correction: each layer's mean answer on samples is the float one in spite of rounding."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError, SpecError
from edgepack.passes import correct_biases, grid
from edgepack.passes.candidate import Candidate, Context
from edgepack.passes.constraints import Mask, Palette, Signs
from edgepack.passes.layers import shared_axes, values, weights
from tests.graphs import GRAPHS, graph, settled
from tests.tf.export_models import Samples, as_model
from tests.tf.test_network import answers

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def run(
    model,
    constraints=(),
    scheme="int4",
    samples=True,
    select=lambda layer: True,
    alike=(),
    **options,
):
    context = Context(
        teacher=model,
        scheme=scheme,
        alike=frozenset(alike),
        select=select,
        calibration=Samples(as_model(model), 48) if samples else None,
    )
    candidate = Candidate(model=model, constraints=constraints)
    return correct_biases.apply(candidate, correct_biases.Options(**options), context)


def means(model, names):
    """The mean of each named layer's linear answers over the samples."""
    import keras

    taps = [model.get_layer(name) for name in names]
    linear = keras.Model(model.inputs, [layer.output for layer in taps])
    found = linear.predict(Samples(as_model(model), 48).x[0], verbose=0)
    return [y.reshape(-1, y.shape[-1]).mean(0) for y in found]


def test_the_mean_answer_of_every_layer_is_the_float_one():
    model = graph("residual")
    names = ["one_b", "two_b", "two_side"]
    made = run(model).model
    for a, b in zip(means(model, names), means(made, names), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_comes_to_lie_on_the_export_s_grid(name, scheme):
    model = graph(name)
    made = run(model, scheme=scheme)
    left = {skipped.layer for skipped in made.steps[-1].skipped}
    for layer in made.model.layers:
        for weight in weights(layer) if layer.name not in left else ():
            kernel = values(layer, weight).astype(np.float64)
            bits = grid.bits_of(layer, scheme, weight)
            step = grid.steps(kernel, shared_axes(layer, weight), bits)
            np.testing.assert_allclose(grid.on_grid(kernel, step, bits), kernel, rtol=1e-5)
    assert [t.name for t in made.model.inputs] == [t.name for t in model.inputs]
    assert made.steps[-1].changed


def test_a_dense_layer_whose_export_has_one_step_comes_to_lie_on_that():
    made = run(graph("residual"), alike={"FULLY_CONNECTED"}).model
    dense = [layer for layer in made.layers if layer.__class__.__name__ == "Dense"]
    assert dense
    for layer in dense:
        kernel = values(layer).astype(np.float64)
        step = grid.steps(kernel, (0, 1), 4)
        assert step.size == 1
        np.testing.assert_allclose(grid.on_grid(kernel, step, 4), kernel, rtol=1e-5)


def test_correcting_twice_changes_nothing_more():
    once = run(graph("depthwise"))
    twice = run(once.model)
    for a, b in zip(once.model.get_weights(), twice.model.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_corrected_answers_are_nearer_than_rounded_ones():
    model = graph("residual")
    made = run(model).model
    plain = run(model).model
    exact = {w.path.split("/")[-2]: w for w in model.weights if w.name == "bias"}
    for name, bias in exact.items():
        plain.get_layer(name).bias.assign(bias)
    x = Samples(as_model(model), 64, seed=3).x[0]
    wanted = answers(model, x)[0]

    def off(other):
        return float(((answers(other, x)[0] - wanted) ** 2).mean())

    assert off(made) < off(plain)


def test_a_layer_without_bias_gets_one():
    import keras

    image = keras.Input((6,))
    model = settled(keras.Model(image, keras.layers.Dense(4, use_bias=False, name="only")(image)))
    made = run(model).model
    assert np.abs(values(made.get_layer("only"), "bias")).max() > 0


def test_a_shared_layer_is_left_as_it_is():
    model = graph("shared")
    made = run(model)
    why = {skipped.layer: skipped.why for skipped in made.steps[-1].skipped}
    assert "shared" in why["again"]
    np.testing.assert_array_equal(
        values(made.model.get_layer("again")), values(model.get_layer("again"))
    )


def test_a_layer_that_is_not_selected_keeps_its_weights():
    model = graph("conv1d")
    made = run(model, select=lambda layer: layer.name != "conv_a").model
    np.testing.assert_array_equal(
        values(made.get_layer("conv_a")), values(model.get_layer("conv_a"))
    )


@pytest.mark.parametrize("kind", ["mask", "signs", "own scale"])
def test_constraints_hold_after_rounding(kind):
    model = graph("sequential")
    layer = model.get_layer("conv_b")
    shape, rng = tuple(layer.kernel.shape), np.random.default_rng(0)
    constraint = {
        "mask": lambda: Mask(layer="conv_b", keep=rng.random(shape) > 0.5),
        "signs": lambda: Signs(
            layer="conv_b", signs=rng.integers(-1, 2, shape).astype(np.int8), axes=(0, 1, 2)
        ),
        "own scale": lambda: Palette(
            layer="conv_b", index=rng.integers(-1, 8, shape).astype(np.int32), axes=(0, 1, 2)
        ),
    }[kind]()
    layer.kernel.assign(constraint.project(layer.kernel.value))
    made = run(model, (constraint,), scheme="int8")
    assert any(line.startswith("conv_b: weights rounded") for line in made.steps[-1].changed)
    kernel = values(made.model.get_layer("conv_b"))
    np.testing.assert_allclose(np.asarray(constraint.project(kernel)), kernel, rtol=1e-4)


def test_a_palette_across_channels_keeps_its_layer():
    model = graph("sequential")
    layer = model.get_layer("conv_b")
    index = np.random.default_rng(0).integers(-1, 90, tuple(layer.kernel.shape)).astype(np.int32)
    palette = Palette(layer="conv_b", index=index)
    layer.kernel.assign(palette.project(layer.kernel.value))
    made = run(model, (palette,))
    why = {skipped.layer: skipped.why for skipped in made.steps[-1].skipped}
    assert why["conv_b"] == "rounding would break its palette"


def test_without_samples_it_says_what_to_give():
    with pytest.raises(DataError, match="no samples") as caught:
        run(graph("sequential"), samples=False)
    assert "--calibration" in caught.value.hint


def test_a_float_scheme_is_refused_unless_bits_are_given():
    with pytest.raises(SpecError, match="float32"):
        run(graph("sequential"), scheme="float32")
    assert run(graph("sequential"), scheme="float32", bits=8).steps[-1].changed
