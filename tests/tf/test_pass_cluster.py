"""Weight sharing on real models: how many values there are, in the model and in the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.errors import SpecError
from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Mask, Palette, Signs
from edgepack.passes.orient import orient
from tests.sets import digits
from tests.tf.coarse import (
    accuracy,
    budget,
    drawing,
    integers,
    kernel,
    run,
    zeros,
)

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
LAYERS = ("conv_a", "depth", "conv_b", "time", "hidden", "label")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digits(tmp_path_factory.mktemp("digits"), 400)


@pytest.fixture(scope="module")
def trained(data):
    return run(Candidate(model=drawing()), data, "finetune", more={"train": budget(12)}).model


def distinct(values) -> int:
    return len(np.unique(values))


@pytest.mark.parametrize("start", ["linear", "density", "kmeans++"])
def test_a_layer_shares_k_floats(trained, data, start):
    made = run(Candidate(model=trained), data, "cluster", clusters=8, grid="float", start=start)
    assert [distinct(kernel(made, layer)) for layer in LAYERS] == [8] * len(LAYERS)
    assert "hidden: 1728 weights share 8 values" in made.steps[0].changed
    again = run(Candidate(model=trained), data, "cluster", clusters=8, grid="float", start=start)
    for layer in LAYERS:
        np.testing.assert_array_equal(kernel(made, layer), kernel(again, layer))


@pytest.mark.parametrize("train", [None, budget(2)], ids=["at once", "trained"])
def test_a_file_has_k_distinct_integers_a_tensor(trained, data, train):
    made = run(Candidate(model=trained), data, "cluster", clusters=8, more={"train": train})
    found = integers(made.model, data)
    assert len(found) == len(LAYERS)
    for values in found:
        assert distinct(values) <= 8
        assert (np.abs(values.astype(int).reshape(len(values), -1)).max(1) == 127).all()
    assert [distinct(values) for values in found][2:] == [8, 8, 8, 8]
    assert "hidden: 1728 weights share 8 integers" in made.steps[0].changed


def test_a_channel_of_its_own_has_k_distinct_integers(trained, data):
    made = run(Candidate(model=trained), data, "cluster", clusters=4, per="channel")
    for values in integers(made.model, data):
        assert max(distinct(channel) for channel in values) <= 4
    assert distinct(kernel(made, "hidden")) == 4 * 24


def test_the_scheme_decides_what_a_layer_shares(trained, data):
    floats = run(Candidate(model=trained), data, "cluster", scheme="float32")
    assert distinct(kernel(floats, "hidden")) == 16
    whole = run(Candidate(model=trained), data, "cluster", scheme="int8")
    assert distinct(kernel(whole, "hidden")) > 16


def test_zeros_of_an_earlier_pruning_stay_and_count_as_one_value(trained, data):
    sparse = run(Candidate(model=trained), data, "sparse", sparsity=0.6, scope="layer")
    made = run(sparse, data, "cluster", clusters=8, more={"train": budget(1)})
    masks = [c for c in made.constraints if isinstance(c, Mask)]
    assert len(masks) == len(LAYERS) - 1
    for mask in masks:
        np.testing.assert_array_equal(kernel(made, mask.layer) == 0, ~mask.keep)
    for values in integers(made.model, data):
        assert distinct(values) <= 8
    conv_a, _, conv_b, *_ = integers(made.model, data)
    assert (conv_a == 0).mean() >= 0.6
    assert (conv_b == 0).mean() >= 0.6
    assert zeros(made, "depth") == 0


def test_training_moves_the_shared_values_and_recovers(trained, data):
    at_once = run(Candidate(model=trained), data, "cluster", clusters=4)
    made = run(Candidate(model=trained), data, "cluster", clusters=4, more={"train": budget(4)})
    assert accuracy(made.model, data) > accuracy(at_once.model, data)
    for a, b in zip(at_once.constraints, made.constraints, strict=True):
        np.testing.assert_array_equal(a.index, b.index)
        assert not np.allclose(kernel(at_once, a.layer), kernel(made, a.layer))


def test_a_later_training_keeps_the_palettes(trained, data):
    made = run(Candidate(model=trained), data, "cluster", clusters=8)
    tuned = run(made, data, "finetune", more={"train": budget(1)})
    assert not np.allclose(kernel(made, "hidden"), kernel(tuned, "hidden"))
    assert [distinct(values) <= 8 for values in integers(tuned.model, data)] == [True] * 6


def test_clusters_anew_replace_the_palette_and_signs_are_left(trained, data):
    first = run(Candidate(model=trained), data, "ternary", more={"layers": "conv_b"})
    first = run(first, data, "cluster", clusters=16)
    second = run(first, data, "cluster", clusters=4)
    palettes = [c.layer for c in second.constraints if isinstance(c, Palette)]
    assert sorted(palettes) == sorted(set(LAYERS) - {"conv_b"})
    assert [c.layer for c in second.constraints if isinstance(c, Signs)] == ["conv_b"]
    assert "signs" in {note.layer: note.why for note in second.steps[-1].skipped}["conv_b"]
    assert all(distinct(values) <= 4 for values in integers(second.model, data))


def test_layers_that_the_options_leave_are_named(trained, data):
    more = {"skip": "@first"}
    made = run(Candidate(model=trained), data, "cluster", depthwise=False, smallest=250, more=more)
    why = {note.layer: note.why for note in made.steps[0].skipped}
    assert sorted(why) == ["conv_a", "depth", "label"]
    assert why["conv_a"] == "not selected"
    assert "240 weights" in why["label"]


def test_negative_normalisations_are_turned_without_a_difference(trained, data):
    from edgepack.passes.network import read, rebuild

    turned = rebuild(read(trained))
    orient(turned, {"conv_a", "hidden"})
    gamma = np.array(turned.get_layer("norm").gamma)
    assert (np.array(trained.get_layer("norm").gamma) < 0).any()
    assert (gamma >= 0).all()
    (batch,) = data.batches(len(data))
    np.testing.assert_allclose(turned(batch.x[0]), trained(batch.x[0]), atol=1e-5)
    untouched = rebuild(read(trained))
    orient(untouched, {"hidden"})
    assert (np.array(untouched.get_layer("norm").gamma) < 0).any()


def test_too_few_clusters_for_the_grid_are_refused(data):
    with pytest.raises(SpecError, match="ends of the range"):
        run(Candidate(model=drawing()), data, "cluster", clusters=3, grid="int8")


@st.composite
def palettes(draw, scaled: bool):
    """A palette over a small matrix [input, channel], as clustering makes it, and values."""
    rows, channels = draw(st.integers(2, 6)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    index = rng.integers(-1, 6, (rows, channels)).astype(np.int32)
    if scaled:
        index[0] = rng.integers(0, 2, channels)
    values = rng.normal(size=(rows, channels)).astype(np.float32)
    return Palette(layer="a", index=index, axes=(0,) if scaled else None), values


@settings(max_examples=25)
@given(st.booleans().flatmap(palettes))
def test_projecting_twice_is_projecting_once(case):
    palette, values = case
    once = np.array(palette.project(values))
    np.testing.assert_allclose(palette.project(once), once, atol=1e-5)
    assert (once[palette.index == -1] == 0).all()


@settings(max_examples=25)
@given(palettes(True))
def test_a_palette_in_channel_scales_is_one_palette_over_the_scales(case):
    palette, values = case
    made = np.array(palette.project(values))
    top = np.abs(made).max(0, keepdims=True)
    ratio = made / np.where(top > 0, top, 1)
    live = (top > 0) & np.ones_like(made, bool)
    for level in np.unique(palette.index):
        found = ratio[(palette.index == level) & live]
        np.testing.assert_allclose(found, found[:1].repeat(len(found)), atol=1e-5)
