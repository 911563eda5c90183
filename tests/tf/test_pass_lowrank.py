"""Low rank: the same outputs at full rank, lower cost below it, an honest record."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.passes.candidate import Candidate
from edgepack.passes.chains import names, replaced
from edgepack.passes.constraints import Mask
from edgepack.passes.lowrank import Options, apply, cost
from edgepack.passes.moments import patch_moments
from edgepack.passes.network import read
from edgepack.passes.splits import split
from tests.graphs import GRAPHS, graph, settled
from tests.tf.rewritten import Rows, answers, context, data, feed, int8_db, same_ends, saved_again

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]

FORMS = {
    "plain": ("Conv2D", {"kernel_size": 3}, (9, 8, 3)),
    "same, even": ("Conv2D", {"kernel_size": (4, 2), "padding": "same"}, (9, 8, 3)),
    "strides": ("Conv2D", {"kernel_size": 3, "strides": 2, "padding": "same"}, (9, 8, 3)),
    "uneven": ("Conv2D", {"kernel_size": (2, 5), "strides": (2, 1), "padding": "same"}, (9, 8, 3)),
    "strides, even": ("Conv2D", {"kernel_size": 4, "strides": 2, "padding": "same"}, (8, 7, 3)),
    "valid, strides": ("Conv2D", {"kernel_size": 3, "strides": 2}, (9, 8, 3)),
    "dilated": (
        "Conv2D",
        {"kernel_size": 3, "dilation_rate": (2, 1), "padding": "same"},
        (9, 8, 3),
    ),
    "no bias": ("Conv2D", {"kernel_size": 3, "use_bias": False, "activation": "relu"}, (9, 8, 3)),
    "pointwise": ("Conv2D", {"kernel_size": 1, "strides": 2}, (9, 8, 3)),
    "conv1d": ("Conv1D", {"kernel_size": 4, "strides": 2, "padding": "same"}, (9, 3)),
    "causal": ("Conv1D", {"kernel_size": 3, "dilation_rate": 2, "padding": "causal"}, (9, 3)),
    "dense": ("Dense", {"activation": "tanh"}, (7,)),
    "dense on rows": ("Dense", {}, (4, 7)),
}


def one(form, seed=0):
    import keras

    name, config, shape = FORMS[form]
    sizes = {"units": 5} if name == "Dense" else {"filters": 5}
    entry = keras.Input(shape, name="x")
    layer = getattr(keras.layers, name)(**{"activation": "relu"} | sizes | config, name="it")
    return settled(keras.Model(entry, layer(entry)), seed)


@pytest.mark.parametrize(
    ("form", "method"),
    [
        (form, method)
        for form, (kind, config, _) in FORMS.items()
        for method in ("svd", "spatial", "tucker")
        if method == "svd"
        or (method == "spatial" and kind == "Conv2D" and config["kernel_size"] != 1)
        or (method == "tucker" and kind != "Dense")
    ],
)
def test_full_rank_computes_the_same(form, method):
    model = one(form)
    kernel = model.get_layer("it").kernel
    full = (kernel.shape[-2], 5) if method == "tucker" else (99, 0)
    if method == "svd":
        full = (min(int(np.prod(kernel.shape[:-1])), 5), 0)
    if method == "spatial":
        full = (min(kernel.shape[0] * kernel.shape[2], kernel.shape[1] * 5), 0)
    named = names(read(model), "it", 3 if method == "tucker" else 2)
    pieces, lost = split(model.get_layer("it"), method, full, named, None)
    assert lost < 1e-9
    made = replaced(read(model), {"it": pieces})
    x = feed(model)
    np.testing.assert_allclose(answers(model, x)[0], answers(made, x)[0], atol=1e-5)
    same_ends(model, made)
    assert made.layers[-1].activation is model.get_layer("it").activation


@pytest.mark.parametrize(
    ("form", "method", "ranks"),
    [
        ("plain", "svd", (2, 0)),
        ("strides", "svd", (2, 0)),
        ("no bias", "svd", (2, 0)),
        ("causal", "svd", (2, 0)),
        ("dense", "svd", (2, 0)),
        ("dense on rows", "svd", (2, 0)),
        ("plain", "spatial", (3, 0)),
        ("uneven", "spatial", (3, 0)),
        ("dilated", "tucker", (2, 3)),
        ("conv1d", "tucker", (2, 3)),
    ],
)
def test_outputs_on_data_are_better_than_by_weights(form, method, ranks):
    import keras

    model = one(form)
    layer = model.get_layer("it")
    layer.activation = keras.activations.linear
    x = feed(model, 64, 2) * np.linspace(0.2, 3, model.inputs[0].shape[-1]).astype(np.float32) + 1
    known = patch_moments(read(model), ["it"], Rows(x))["it"]
    wanted = answers(model, x)[0]
    bias = layer.bias.numpy() if layer.use_bias else 0.0
    mean = known.mean @ layer.kernel.numpy().reshape(-1, 5)
    np.testing.assert_allclose(mean, (wanted - bias).reshape(-1, 5).mean(0), rtol=1e-3, atol=1e-3)
    errors = []
    for moments in (known, None):
        pieces, lost = split(layer, method, ranks, ["a", "b", "c"], moments)
        made = replaced(read(model), {"it": pieces})
        errors.append(float(np.square(answers(made, x)[0] - wanted).mean()))
        if moments is not None:
            spread = (wanted - bias) - (mean if layer.use_bias else 0)
            assert errors[0] == pytest.approx(lost * np.square(spread).mean(), rel=0.02)
    assert errors[0] < errors[1]


def test_patches_too_wide_are_left_to_the_weights(monkeypatch):
    model = graph("sequential")
    monkeypatch.setattr("edgepack.passes.moments.MOST_INPUTS", 30)
    found = patch_moments(read(model), ["conv_a", "conv_b", "label"], data(model))
    assert set(found) == {"conv_a", "label"}


def test_moments_are_the_same_in_small_groups(monkeypatch):
    model, names_ = graph("shared"), ["twin", "again", "label"]
    whole = patch_moments(read(model), names_, data(model))
    monkeypatch.setattr("edgepack.passes.moments.MOST_VALUES", 1)
    parts = patch_moments(read(model), names_, data(model))
    for name in names_:
        np.testing.assert_allclose(whole[name].second, parts[name].second)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name, tmp_path):
    model = graph(name)
    before = answers(model, feed(model))
    done = apply(Candidate(model=model), Options(keep=0.8), context(model))
    record = done.steps[-1]
    same_ends(model, done.model)
    saved_again(done.model, tmp_path)
    assert record.changed
    assert cost(read(done.model), "params") == done.model.count_params()
    assert done.model.count_params() < model.count_params()
    named = {line.split(":")[0] for line in record.changed}
    left = {skip.layer for skip in record.skipped}
    heavy = {
        call.name
        for call in read(model).calls
        if any(len(w.shape) > 1 for w in getattr(call.layer, "weights", []))
    }
    assert named | left >= heavy
    assert not named & left
    for a, b in zip(before, answers(model, feed(model)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["sequential", "conv1d", "shared"])
def test_int8_in_litert(name):
    model = graph(name)
    done = apply(Candidate(model=model), Options(keep=0.7), context(model))
    assert int8_db(done.model) > 15


def test_the_budget_of_the_whole_network_is_met():
    model = graph("residual")
    for measure in ("params", "macs"):
        done = apply(Candidate(model=model), Options(keep=0.6, measure=measure), context(model))
        share = cost(read(done.model), measure) / cost(read(model), measure)
        assert 0.5 < share <= 0.6


def test_a_budget_out_of_reach_is_said():
    model = graph("sequential")
    done = apply(Candidate(model=model), Options(keep=0.01), context(model))
    assert any("1 % asked" in line for line in done.steps[-1].changed)


def test_a_kernel_of_low_rank_is_found_and_costs_nothing():
    model = graph("sequential")
    hidden = model.get_layer("hidden")
    kernel = np.random.default_rng(0).normal(size=(hidden.kernel.shape[0], 2))
    hidden.kernel.assign(kernel @ np.random.default_rng(1).normal(size=(2, 16)) * 0.1)
    x = feed(model)
    for options in (Options(rank="energy", energy=0.999), Options(rank="vbmf", method="svd")):
        done = apply(Candidate(model=model), options, context(model))
        assert done.model.get_layer("hidden_a").units == 2
        assert done.model.get_layer("hidden_b").activation.__name__ == "relu"
        if options.rank == "energy":
            wanted = answers(model, x)[0]
            np.testing.assert_allclose(answers(done.model, x)[0], wanted, atol=0.02)


def test_a_constraint_of_a_layer_that_went_is_dropped_and_said():
    model = graph("sequential")
    masks = [
        Mask(layer=name, keep=np.ones(model.get_layer(name).kernel.shape, bool))
        for name in ("hidden", "label")
    ]
    candidate = Candidate(model=model, constraints=tuple(masks))
    chosen = context(model, select=lambda layer: layer.name == "hidden")
    done = apply(candidate, Options(keep=0.5), chosen)
    assert [c.layer for c in done.constraints] == ["label"]
    assert any("hidden: its mask of kernel" in line for line in done.steps[-1].changed)
    assert ("conv_a", "not selected") in [(s.layer, s.why) for s in done.steps[-1].skipped]


def test_names_that_are_taken_are_not_given_again():
    model = graph("sequential")
    model.get_layer("conv_a").name = "hidden_a"
    chosen = context(model, select=lambda layer: layer.name == "hidden")
    done = apply(Candidate(model=model), Options(keep=0.5), chosen)
    assert {"hidden__a", "hidden__b"} <= {layer.name for layer in done.model.layers}


def test_without_samples_the_weights_decide_and_it_is_said():
    model = graph("sequential")
    runs = [
        apply(Candidate(model=model), Options(data=asked), context(model))
        for asked in (True, False)
    ]
    for a, b in zip(runs[0].model.get_weights(), runs[1].model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "no samples" in runs[0].steps[-1].changed[-1]
    assert "samples" not in runs[1].steps[-1].changed[-1]


def test_data_with_samples_and_ranks_in_multiples():
    model = graph("sequential")
    chosen = context(model, calibration=data(model), channels=4)
    done = apply(Candidate(model=model), Options(method="svd", keep=0.5), chosen)
    assert "outputs' energy" in done.steps[-1].changed[0]
    widths = [layer.units for layer in done.model.layers if layer.name == "hidden_a"]
    assert widths
    assert widths[0] % 4 == 0
