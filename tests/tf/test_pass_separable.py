"""Separable: the nearest depthwise-separable convolutions, refitted on data."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Mask
from edgepack.passes.lowrank import cost
from edgepack.passes.network import read
from edgepack.passes.separable import Options, apply
from tests.graphs import GRAPHS, graph, settled
from tests.tf.rewritten import Rows, answers, context, data, feed, int8_db, same_ends, saved_again

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]

FORMS = {
    "plain": ("Conv2D", {"kernel_size": 3}, (9, 8, 8)),
    "same, even": ("Conv2D", {"kernel_size": (4, 2), "padding": "same"}, (9, 8, 8)),
    "strides": ("Conv2D", {"kernel_size": 3, "strides": 2, "padding": "same"}, (9, 8, 8)),
    "dilated": ("Conv2D", {"kernel_size": 3, "dilation_rate": 2}, (9, 8, 8)),
    "no bias": ("Conv2D", {"kernel_size": 3, "use_bias": False}, (9, 8, 8)),
    "conv1d": ("Conv1D", {"kernel_size": 5, "strides": 2, "padding": "same"}, (9, 8)),
    "conv1d, valid": ("Conv1D", {"kernel_size": 4}, (9, 8)),
}


def one(kind, config, shape, filters=20):
    import keras

    entry = keras.Input(shape, name="x")
    layer = getattr(keras.layers, kind)(filters, activation="relu", name="it", **config)
    return settled(keras.Model(entry, keras.layers.Flatten(name="end")(layer(entry))))


@pytest.mark.parametrize("form", FORMS)
def test_a_kernel_that_is_separable_is_found(form):
    model = one(*FORMS[form])
    layer = model.get_layer("it")
    *size, inputs, outputs = layer.kernel.shape
    rng = np.random.default_rng(0)
    depth = rng.normal(size=(*size, inputs, 1))
    layer.kernel.assign(depth * rng.normal(size=(inputs, outputs)) * 0.3)
    done = apply(Candidate(model=model), Options(), context(model))
    assert {"it_a", "it_b"} <= {layer.name for layer in done.model.layers}
    same_ends(model, done.model)
    x = feed(model)
    np.testing.assert_allclose(answers(model, x)[0], answers(done.model, x)[0], atol=1e-4)
    assert "100.0 % of the energy" in done.steps[-1].changed[0]
    assert "not refitted" in done.steps[-1].changed[-1]


@pytest.mark.parametrize("form", FORMS)
def test_refitting_and_multipliers_come_nearer(form):
    model = one(*FORMS[form], filters=40)
    given = feed(model, 200).cumsum(1) / 3  # neighbours are alike, as in images
    samples = Rows(given)
    x = feed(model, 32, 3).cumsum(1) / 3
    wanted = answers(model, x)[0]

    def error(options):
        done = apply(Candidate(model=model), options, context(model, calibration=samples))
        return float(np.square(answers(done.model, x)[0] - wanted).mean())

    plain, refitted = error(Options(refit=False)), error(Options())
    assert refitted < plain
    assert error(Options(multiplier=2)) < refitted


def test_refitting_carries_the_bias_of_inputs_that_are_not_centred():
    model = one("Conv2D", {"kernel_size": 3}, (9, 8, 8), filters=40)
    given = feed(model, 200) + 3.0
    samples = data(model)
    samples = Rows(given)
    x = feed(model, 16, 5) + 3.0
    wanted = answers(model, x)[0]
    errors = [
        float(np.square(answers(done.model, x)[0] - wanted).mean())
        for done in (
            apply(Candidate(model=model), Options(refit=refit), context(model, train=samples))
            for refit in (True, False)
        )
    ]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name, tmp_path):
    model = graph(name)
    chosen = context(model, calibration=data(model))
    done = apply(Candidate(model=model), Options(), chosen)
    record = done.steps[-1]
    same_ends(model, done.model)
    saved_again(done.model, tmp_path)
    convolutions = {call.name for call in read(model).calls if "Conv" in type(call.layer).__name__}
    named = {line.split(":")[0] for line in record.changed}
    assert {skip.layer for skip in record.skipped} | named >= convolutions
    for measure in ("params", "macs"):
        before, after = (cost(read(m), measure) for m in (model, done.model))
        assert (after < before) == bool(convolutions & named)
        assert after <= before


@pytest.mark.parametrize("name", ["sequential", "conv1d"])
def test_int8_in_litert(name):
    model = graph(name)
    done = apply(Candidate(model=model), Options(least_inputs=1), context(model))
    assert any("depthwise" in line for line in done.steps[-1].changed)
    assert int8_db(done.model) > 15


@pytest.mark.parametrize(
    ("form", "why"),
    [
        (("Conv2D", {"kernel_size": 1}, (9, 8, 8)), "pointwise"),
        (("Conv2D", {"kernel_size": 3}, (9, 8, 3)), "3 input channels"),
        (("Conv2D", {"kernel_size": 3, "strides": (2, 1)}, (9, 8, 8)), "strides"),
        (("Conv2D", {"kernel_size": 3, "groups": 2}, (9, 8, 8)), "groups"),
        (("Conv1D", {"kernel_size": 3, "padding": "causal"}, (9, 8)), "causal"),
        (("Conv1D", {"kernel_size": 2}, (9, 8), 2), "instead of"),
        (("SeparableConv2D", {"kernel_size": 3}, (9, 8, 8)), "not a standard convolution"),
    ],
)
def test_what_stays_says_why(form, why):
    model = one(*form)
    done = apply(Candidate(model=model), Options(), context(model))
    (skip,) = done.steps[-1].skipped
    assert (skip.layer, done.steps[-1].changed) == ("it", ())
    assert why in skip.why


def test_a_constraint_of_a_layer_that_went_is_dropped_and_said():
    model = one(*FORMS["plain"])
    mask = Mask(layer="it", keep=np.ones(model.get_layer("it").kernel.shape, bool))
    done = apply(Candidate(model=model, constraints=(mask,)), Options(), context(model))
    assert done.constraints == ()
    assert any("it: its mask" in line for line in done.steps[-1].changed)
