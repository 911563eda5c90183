"""Width: the same share of channels everywhere, and the most important ones."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Mask
from edgepack.passes.width import Options, apply
from tests.graphs import GRAPHS, graph
from tests.tf.rewritten import answers, context, data, feed, int8_db, same_ends, saved_again

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name, tmp_path):
    model = graph(name)
    done = apply(Candidate(model=model), Options(alpha=0.5), context(model))
    same_ends(model, done.model)
    saved_again(done.model, tmp_path)
    smaller = done.model.count_params() < model.count_params()
    assert smaller == bool(done.steps[-1].changed) == (name != "recurrent")
    for line in done.steps[-1].changed:
        layer, counts = line.split(": ")
        if counts.startswith("reads"):
            continue
        before, after = (int(word) for word in counts.split(" channels")[0].split(" → "))
        assert after == before // 2
        assert done.model.get_layer(layer).output.shape[-1] == after


def test_the_most_important_channels_stay():
    model = graph("sequential")
    conv = model.get_layer("conv_a")
    kernel = conv.kernel.numpy()
    kernel[..., [1, 2, 5]] *= 1e-3
    conv.kernel.assign(kernel)
    norm = model.get_layer("norm_a")
    norm.moving_mean.assign(np.zeros(8))
    norm.beta.assign(np.zeros(8))
    chosen = context(model, select=lambda layer: layer.name == "conv_a")
    done = apply(Candidate(model=model), Options(alpha=5 / 8), chosen)
    np.testing.assert_array_equal(
        done.model.get_layer("conv_a").kernel.numpy(), kernel[..., [0, 3, 4, 6, 7]]
    )
    x = feed(model)
    np.testing.assert_allclose(answers(model, x)[0], answers(done.model, x)[0], atol=0.01)
    assert "hidden" in {skip.layer for skip in done.steps[-1].skipped}


def test_multiples_and_least():
    model = graph("residual")
    done = apply(Candidate(model=model), Options(alpha=0.6, multiple=4), context(model))
    filters = {layer.filters for layer in done.model.layers if hasattr(layer, "filters")}
    assert filters == {4, 8} or filters == {4, 8, 12}
    done = apply(Candidate(model=model), Options(alpha=0.01, min_channels=3), context(model))
    assert {layer.filters for layer in done.model.layers if hasattr(layer, "filters")} == {3}


def test_samples_bring_the_outputs_nearer():
    model = graph("sequential")
    samples = data(model, 256)
    x = feed(model, 64, 7)
    wanted = answers(model, x)[0]
    errors = [
        float(np.square(answers(done.model, x)[0] - wanted).mean())
        for done in (
            apply(Candidate(model=model), Options(alpha=0.75), context(model, calibration=given))
            for given in (samples, None)
        )
    ]
    assert errors[0] < errors[1]


def test_a_mask_is_cut_with_its_weights():
    model = graph("sequential")
    keep = np.random.default_rng(0).random(model.get_layer("conv_b").kernel.shape) < 0.5
    candidate = Candidate(model=model, constraints=(Mask(layer="conv_b", keep=keep),))
    done = apply(candidate, Options(alpha=0.5), context(model))
    (mask,) = done.constraints
    assert mask.keep.shape == done.model.get_layer("conv_b").kernel.shape
    assert mask.keep.shape == (3, 3, 4, 6)


def test_int8_in_litert():
    model = graph("residual")
    done = apply(Candidate(model=model), Options(alpha=0.5), context(model))
    assert int8_db(done.model) > 15
