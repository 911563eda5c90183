"""Binary and ternary weights on real models: exact in the model and in the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.errors import SpecError
from edgepack.passes.binary import binary
from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Signs
from edgepack.passes.low_bit import edges
from edgepack.passes.network import read
from edgepack.passes.ternary import ternary
from tests.graphs import graph
from tests.sets import digits
from tests.tf.coarse import (
    accuracy,
    budget,
    drawing,
    integers,
    interrupted_and_gone_on,
    kernel,
    run,
)

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
INNER = ("conv_b", "time", "hidden")
ALL = {"first": True, "last": True, "depthwise": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digits(tmp_path_factory.mktemp("digits"), 400)


@pytest.fixture(scope="module")
def trained(data):
    return run(Candidate(model=drawing()), data, "finetune", more={"train": budget(12)}).model


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("name", ["binary", "ternary"])
def test_files_hold_one_magnitude_and_zero(trained, data, name, scheme):
    """Of Conv2D, DepthwiseConv2D, Conv1D and Dense; int4 keeps depthwise weights at 8 bits."""
    made = run(Candidate(model=trained), data, name, scheme=scheme, **ALL)
    top = 127 if scheme == "int8" else 7
    tops = [top, 127, top, top, top, top]
    found = integers(made.model, data, scheme)
    assert [set(np.unique(np.abs(values.astype(int)))) - {0} for values in found] == [
        {value} for value in tops
    ]
    assert all((values != 0).all() == (name == "binary") for values in found)


@pytest.mark.parametrize("name", ["binary", "ternary"])
def test_plain_layers_come_back_with_signs_times_a_scale(trained, data, name):
    made = run(Candidate(model=trained), data, name, more={"train": budget(2)})
    assert [c.layer for c in made.constraints] == list(INNER)
    for signs in made.constraints:
        assert isinstance(signs, Signs)
        found = kernel(made, signs.layer)
        scale = np.abs(found).max(signs.axes, keepdims=True)
        assert (scale > 0).all()
        assert scale.size == found.shape[-1]
        np.testing.assert_array_equal(found, signs.signs * scale)
    assert [type(layer).__name__ for layer in made.model.layers] == [
        type(layer).__name__ for layer in trained.layers
    ]
    (line,) = [line for line in made.steps[0].changed if line.startswith("hidden")]
    assert line.startswith("hidden: 1728 weights are signs times 24 scales")
    assert ("zero" in line) == (name == "ternary")
    why = {note.layer: note.why for note in made.steps[0].skipped}
    assert why["conv_a"] == "the first weighted layer: set first = true"
    assert why["label"] == "the last weighted layer: set last = true"
    assert "depthwise" in why["depth"]


@pytest.mark.parametrize("gradual", ["none", "layers", "weights", "blend"])
def test_training_recovers_however_gradual(trained, data, gradual):
    at_once = run(Candidate(model=trained), data, "binary")
    more = {"train": budget(8)}
    made = run(Candidate(model=trained), data, "binary", more=more, gradual=gradual)
    assert accuracy(made.model, data) > accuracy(at_once.model, data) + 0.1
    assert accuracy(made.model, data) > 0.8
    for signs in made.constraints:
        found = np.abs(kernel(made, signs.layer))
        np.testing.assert_array_equal(found, found.max(signs.axes, keepdims=True) + 0 * found)
    moved = [
        (np.sign(kernel(made, layer)) != np.sign(kernel(at_once, layer))).any() for layer in INNER
    ]
    assert all(moved), "signs never changed: the latent weights did not learn"


def test_one_scale_a_tensor_for_runtimes_without_channels(trained, data):
    made = run(Candidate(model=trained), data, "ternary", scales="tensor")
    for layer in INNER:
        assert len(np.unique(np.abs(kernel(made, layer)))) == 2


def test_masked_zeros_stay_in_ternary_and_binary_refuses_them(trained, data):
    more = {"layers": "conv_b|hidden"}
    sparse = run(Candidate(model=trained), data, "sparse", sparsity=0.7, scope="layer", more=more)
    masks = {c.layer: c.keep for c in sparse.constraints}
    made = run(sparse, data, "ternary", more={"train": budget(2)})
    assert [c.layer for c in made.constraints] == list(INNER)
    for layer, keep in masks.items():
        assert (kernel(made, layer)[~keep] == 0).all()
        assert (kernel(made, layer) == 0).mean() < 0.95
    made = run(sparse, data, "binary")
    why = {note.layer: note.why for note in made.steps[-1].skipped}
    assert "use ternary" in why["conv_b"]
    assert "use ternary" in why["hidden"]
    np.testing.assert_array_equal(kernel(made, "hidden"), kernel(sparse, "hidden"))
    assert [type(c).__name__ for c in made.constraints] == ["Mask", "Mask", "Signs"]


def test_a_later_training_moves_scales_only(trained, data):
    made = run(Candidate(model=trained), data, "ternary")
    tuned = run(made, data, "finetune", more={"train": budget(1)})
    for signs in made.constraints:
        found = kernel(tuned, signs.layer)
        np.testing.assert_array_equal(np.sign(found), signs.signs)
        assert not np.allclose(found, kernel(made, signs.layer))
    _, _, *inner, _ = integers(tuned.model, data)
    assert [set(np.unique(values)) for values in inner] == [{-127, 0, 127}] * 3


def test_earlier_signs_and_palettes(trained, data):
    first = run(Candidate(model=trained), data, "ternary", more={"layers": "conv_b"})
    first = run(first, data, "cluster", more={"layers": "time"})
    made = run(first, data, "binary")
    why = {note.layer: note.why for note in made.steps[-1].skipped}
    assert "palette" in why["time"]
    assert "ternary already" in why["conv_b"]
    again = run(run(Candidate(model=trained), data, "binary"), data, "ternary")
    assert [c.layer for c in again.constraints] == list(INNER)


def test_early_stopping_brings_back_a_finished_epoch(trained, data):
    train = budget(6, patience=1, learning_rate=1e-2)
    made = run(Candidate(model=trained), data, "binary", more={"train": train}, ramp=0.8)
    for layer in INNER:
        found = np.abs(kernel(made, layer))
        assert len(np.unique(found)) <= found.shape[-1]


def test_an_interrupted_training_goes_on_to_the_same_weights(data, tmp_path):
    assert interrupted_and_gone_on(tmp_path, data, "binary", ramp=0.7)


def test_the_first_and_last_of_every_branch():
    found = edges(read(graph("ends")))
    assert found == {
        "look": ["first"],
        "read": ["first"],
        "think": [],
        "label": ["last"],
        "size": ["last"],
    }
    assert edges(read(graph("residual")))["two_side"] == []


def test_a_threshold_of_nothing_is_refused(data):
    with pytest.raises(SpecError, match="threshold"):
        run(Candidate(model=drawing()), data, "ternary", threshold=0.0)


KERNELS = st.tuples(st.integers(0, 999), st.integers(1, 8), st.integers(1, 4)).map(
    lambda case: np.random.default_rng(case[0]).normal(size=case[1:]).astype(np.float32)
)


@settings(max_examples=25)
@given(KERNELS)
def test_no_other_scale_of_these_signs_is_nearer(values):
    made = np.array(binary(values, np.ones_like(values), (0,)))
    assert (np.sign(made) == np.where(values < 0, -1, 1)).all()
    error = ((made - values) ** 2).sum(0)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert (((made * factor - values) ** 2).sum(0) >= error - 1e-6).all()


@settings(max_examples=25)
@given(KERNELS, st.floats(0.1, 1.5))
def test_ternary_is_zero_below_the_threshold_and_the_mean_above(values, threshold):
    keep = (np.abs(values) > 0.2).astype(np.float32)
    made = np.array(ternary(threshold, values, keep, (0,)))
    for column, kept, found in zip(values.T, keep.T, made.T, strict=True):
        if not kept.any():
            assert (found == 0).all()
            continue
        size = np.abs(column) * kept
        large = size > threshold * size.sum() / kept.sum()
        assert (found[~large] == 0).all()
        scale = size[large].mean() if large.any() else 0.0
        np.testing.assert_allclose(found[large], np.sign(column[large]) * scale, rtol=1e-5)


@settings(max_examples=25)
@given(KERNELS)
def test_coarse_weights_are_their_own_coarse_weights(values):
    ones = np.ones_like(values)
    for coarse in (binary, lambda *given_: ternary(0.7, *given_)):
        once = np.array(coarse(values, ones, (0,)))
        np.testing.assert_allclose(coarse(once, ones, (0,)), once, rtol=1e-6)
