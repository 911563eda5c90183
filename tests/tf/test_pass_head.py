"""Heads: fewer weights, started from what the old ones did."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Mask
from edgepack.passes.head import Options, apply
from tests.graphs import GRAPHS, graph, settled
from tests.tf.rewritten import Rows, answers, context, data, feed, int8_db, same_ends, saved_again

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def one(shape=(4, 6, 5), units=7, *, bias=True):
    import keras

    layers = keras.layers
    entry = keras.Input(shape, name="x")
    x = layers.Dropout(0.5, name="drop")(layers.Flatten(name="flat")(entry))
    made = layers.Dense(units, activation="tanh", use_bias=bias, name="label")(x)
    return settled(keras.Model(entry, made))


def fielded(x, grid):
    """The inputs, constant over each of the fields of a grid."""
    for axis in range(1, x.ndim - 1):
        step = x.shape[axis] // grid
        x = np.repeat(np.take(x, np.arange(0, x.shape[axis], step), axis), step, axis)
    return x


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("shape", [(4, 6, 5), (6, 5)])
def test_the_average_is_exact_where_fields_are_even(shape, grid, bias, tmp_path):
    model = one(shape, bias=bias)
    done = apply(Candidate(model=model), Options(grid=grid), context(model))
    same_ends(model, done.model)
    saved_again(done.model, tmp_path)
    even, other = fielded(feed(model), grid), feed(model)
    np.testing.assert_allclose(answers(model, even)[0], answers(done.model, even)[0], atol=1e-5)
    assert np.abs(answers(model, other)[0] - answers(done.model, other)[0]).max() > 0.1
    fields = grid ** (len(shape) - 1)
    assert done.model.get_layer("label").kernel.shape == (fields * 5, 7)
    assert any("needs training" in line for line in done.steps[-1].changed)


def test_refitting_comes_nearer():
    model = one()
    given = feed(model, 300).cumsum(1).cumsum(2) / 4 + 1
    samples = Rows(given)
    x = feed(model, 64, 3).cumsum(1).cumsum(2) / 4 + 1
    wanted = np.arctanh(answers(model, x)[0].clip(-0.999999, 0.999999))
    errors = []
    for refit in (True, False):
        chosen = context(model, calibration=samples)
        done = apply(Candidate(model=model), Options(refit=refit), chosen)
        found = np.arctanh(answers(done.model, x)[0].clip(-0.999999, 0.999999))
        errors.append(float(np.square(found - wanted).mean()))
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("shape", [(4, 6, 12), (6, 12)])
def test_a_bottleneck_is_exact_where_channels_are_mixtures(shape, tmp_path):
    model = one(shape, units=20)
    layer = model.get_layer("label")
    rng = np.random.default_rng(0)
    cube = np.einsum("cr,pru->pcu", rng.normal(size=(12, 2)), rng.normal(size=(24, 2, 20)))
    layer.kernel.assign(0.1 * cube[: layer.kernel.shape[0] // 12].reshape(-1, 20))
    options = Options(style="bottleneck", energy=0.999999)
    done = apply(Candidate(model=model), options, context(model))
    x = feed(model)
    np.testing.assert_allclose(answers(model, x)[0], answers(done.model, x)[0], atol=1e-4)
    same_ends(model, done.model)
    saved_again(done.model, tmp_path)
    assert done.model.get_layer("flat_a").filters == 2
    assert done.model.count_params() < model.count_params() / 4


@pytest.mark.parametrize("style", ["average", "bottleneck"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name, style, tmp_path):
    model = graph(name)
    chosen = context(model, calibration=data(model))
    done = apply(Candidate(model=model), Options(style=style), chosen)
    record = done.steps[-1]
    same_ends(model, done.model)
    assert (done.model.count_params() < model.count_params()) == bool(record.changed)
    flats = {layer.name for layer in model.layers if type(layer).__name__ == "Flatten"}
    assert len(flats) == len([line for line in record.changed if "now" in line]) + len(
        record.skipped
    )


@pytest.mark.parametrize(
    "options", [Options(), Options(grid=2), Options(style="bottleneck", energy=0.3)]
)
def test_int8_in_litert(options):
    model = graph("branches")
    done = apply(Candidate(model=model), options, context(model, calibration=data(model)))
    assert done.steps[-1].changed
    assert int8_db(done.model) > 15


@pytest.mark.parametrize(
    ("options", "shape", "why"),
    [
        (Options(grid=3), (4, 6, 5), "grid of 3"),
        (Options(grid=2), (2, 2, 5), "all its 4 positions"),
        (Options(), (1, 1, 5), "one position"),
        (Options(), (7,), "neither an image nor a signal"),
        (Options(style="bottleneck", energy=1.0), (4, 6, 5), "no cheaper"),
    ],
)
def test_what_stays_says_why(options, shape, why):
    model = one(shape)
    done = apply(Candidate(model=model), options, context(model))
    (skip,) = done.steps[-1].skipped
    assert (skip.layer, done.steps[-1].changed) == ("flat", ())
    assert why in skip.why


def test_a_flatten_that_feeds_two_layers_stays():
    import keras

    layers = keras.layers
    entry = keras.Input((4, 4, 3), name="x")
    flat = layers.Flatten(name="flat")(entry)
    model = keras.Model(entry, [layers.Dense(2, name="a")(flat), layers.Dense(3, name="b")(flat)])
    done = apply(Candidate(model=model), Options(), context(model))
    assert "more than one place" in done.steps[-1].skipped[0].why
    assert done.model.count_params() == model.count_params()


def test_a_constraint_of_the_old_weights_is_dropped_and_said():
    model = one()
    mask = Mask(layer="label", keep=np.ones(model.get_layer("label").kernel.shape, bool))
    done = apply(Candidate(model=model, constraints=(mask,)), Options(), context(model))
    assert done.constraints == ()
    assert any("label: its mask" in line for line in done.steps[-1].changed)
