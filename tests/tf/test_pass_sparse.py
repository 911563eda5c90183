"""Weight pruning on real models: exact sparsity, its schedule, and what later passes keep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgepack.errors import SpecError
from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Mask
from edgepack.passes.sparse import Options, due, last_due
from tests.sets import digits
from tests.tf.coarse import (
    accuracy,
    budget,
    drawing,
    integers,
    interrupted_and_gone_on,
    kernel,
    run,
    zeros,
)

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
LAYERS = ("conv_a", "conv_b", "time", "hidden", "label")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digits(tmp_path_factory.mktemp("digits"), 400)


@pytest.fixture(scope="module")
def trained(data):
    """The drawing model after a short training."""
    more = {"train": budget(12)}
    return run(Candidate(model=drawing()), data, "finetune", more=more).model


def fresh(model) -> Candidate:
    return Candidate(model=model)


def test_at_once_the_smallest_of_each_layer_become_zero(trained, data):
    made = run(fresh(trained), data, "sparse", sparsity=0.75, scope="layer")
    for layer in LAYERS:
        before, after = kernel(fresh(trained), layer), kernel(made, layer)
        assert (after == 0).sum() == math.ceil(0.75 * after.size)
        kept = after != 0
        np.testing.assert_array_equal(after[kept], before[kept])
        assert np.abs(before[~kept]).max() <= np.abs(before[kept]).min()
    np.testing.assert_array_equal(kernel(made, "depth"), kernel(fresh(trained), "depth"))
    np.testing.assert_array_equal(
        kernel(made, "norm", "gamma"), kernel(fresh(trained), "norm", "gamma")
    )
    assert {mask.layer for mask in made.constraints} == set(LAYERS)
    assert "conv_a: 75.0 % of 72 weights are zero" in made.steps[0].changed
    assert [note.layer for note in made.steps[0].skipped] == ["depth"]


def test_in_one_ranking_the_whole_has_the_sparsity(trained, data):
    made = run(fresh(trained), data, "sparse", sparsity=0.9, depthwise=True)
    sizes = [kernel(made, layer).size for layer in (*LAYERS, "depth")]
    found = zeros(made, *LAYERS, "depth")
    assert round(found * sum(sizes)) == math.ceil(0.9 * sum(sizes))
    assert len({round(zeros(made, layer), 2) for layer in LAYERS}) > 2
    assert all(zeros(made, layer) < 1 for layer in LAYERS)


def test_2_of_4_lie_along_the_input_channels(trained, data):
    made = run(fresh(trained), data, "sparse", pattern="2:4")
    groups = kernel(made, "conv_b").transpose(0, 1, 3, 2).reshape(-1, 4)
    assert (np.count_nonzero(groups, axis=1) == 2).all()
    groups = kernel(made, "hidden").T.reshape(-1, 4)
    assert (np.count_nonzero(groups, axis=1) == 2).all()
    assert all(zeros(made, layer) >= 0.5 for layer in LAYERS)


def test_blocks_span_inputs_and_outputs(trained, data):
    made = run(
        fresh(trained), data, "sparse", sparsity=0.5, pattern="block", block=[4, 2], scope="layer"
    )
    blocks = kernel(made, "hidden").reshape(-1, 4, 12, 2).transpose(0, 2, 1, 3).reshape(-1, 8)
    assert set(np.count_nonzero(blocks, axis=1)) == {0, 8}
    assert zeros(made, "hidden") == 0.5


@pytest.mark.parametrize("options", [{}, {"schedule": "constant"}, {"pattern": "2:4"}], ids=str)
def test_training_recovers_and_the_sparsity_is_exact(trained, data, options):
    sparsity = 0.5 if "pattern" in options else 0.7
    options = {"sparsity": sparsity, **options}
    at_once = run(fresh(trained), data, "sparse", **options)
    made = run(fresh(trained), data, "sparse", more={"train": budget(8)}, **options)
    for candidate in (at_once, made):
        size = sum(kernel(candidate, layer).size for layer in LAYERS)
        if "pattern" not in options:
            assert round(zeros(candidate, *LAYERS) * size) == math.ceil(sparsity * size)
    assert accuracy(made.model, data) > max(0.8, accuracy(at_once.model, data))
    for mask in made.constraints:
        assert isinstance(mask, Mask)
        np.testing.assert_array_equal(mask.keep, kernel(made, mask.layer) != 0)


def test_early_stopping_brings_back_an_epoch_of_full_sparsity(trained, data):
    train = budget(6, patience=1, learning_rate=1e-2)
    made = run(fresh(trained), data, "sparse", more={"train": train}, sparsity=0.9, end=0.8)
    assert zeros(made, *LAYERS) >= 0.9


def test_zeros_outlive_a_later_training_and_the_export(trained, data):
    made = run(fresh(trained), data, "sparse", sparsity=0.8, scope="layer", more={"skip": "label"})
    tuned = run(made, data, "finetune", more={"train": budget(1)})
    for mask in made.constraints:
        found = kernel(tuned, mask.layer)
        np.testing.assert_array_equal(found == 0, ~mask.keep)
        assert not np.array_equal(found, kernel(made, mask.layer))
    conv_a, depth, conv_b, time, hidden, label = integers(tuned.model, data)
    for found in (conv_a, conv_b, time, hidden):
        assert (found == 0).mean() >= 0.8
    assert (label == 0).mean() < 0.2
    assert (depth == 0).mean() < 0.2


def test_a_second_pruning_builds_on_the_first(trained, data):
    first = run(fresh(trained), data, "sparse", sparsity=0.5)
    more = {"train": budget(1)}
    second = run(first, data, "sparse", more=more, sparsity=0.75, scope="layer")
    assert len(second.constraints) == len(first.constraints)
    for a, b in zip(first.constraints, second.constraints, strict=True):
        assert (b.keep <= a.keep).all()
        assert zeros(second, b.layer) >= 0.75
    third = run(second, data, "sparse", sparsity=0.25)
    for a, b in zip(second.constraints, third.constraints, strict=True):
        np.testing.assert_array_equal(a.keep, b.keep)


def test_coarse_weights_are_left_with_a_reason(trained, data):
    coarse = run(fresh(trained), data, "binary", more={"layers": "conv_b|hidden"})
    coarse = run(coarse, data, "cluster", more={"layers": "time"})
    made = run(coarse, data, "sparse", sparsity=0.5, smallest=73)
    why = {note.layer: note.why for note in made.steps[-1].skipped}
    assert "palette" in why["time"]
    assert "signs" in why["conv_b"]
    assert "fewer than 73" in why["conv_a"]
    assert [line.split(":")[0] for line in made.steps[-1].changed] == ["label"]
    np.testing.assert_allclose(kernel(made, "time"), kernel(coarse, "time"), atol=1e-6)


def test_an_interrupted_pruning_goes_on_to_the_same_weights(data, tmp_path):
    assert interrupted_and_gone_on(tmp_path, data, "sparse", sparsity=0.9, end=0.7)


def test_the_schedule():
    options = Options(sparsity=0.8, begin=0.1, end=0.5, every=15, initial=0.2)
    steps = {done: due(options, done, 100) for done in range(100)}
    assert {done for done, sparsity in steps.items() if sparsity is not None} == {10, 25, 40, 50}
    assert steps[10] == pytest.approx(0.2)
    assert steps[25] == pytest.approx(0.8 - 0.6 * (1 - 15 / 40) ** 3)
    assert steps[50] == 0.8
    assert last_due(options, 100) == 50
    at_once = Options(sparsity=0.8, schedule="constant", begin=0.25, end=1.0)
    assert [due(at_once, done, 8) for done in range(8)] == [None, None, 0.8, *[None] * 5]


@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize("end", [0.0, 0.5, 1.0])
def test_the_schedule_of_a_short_training_still_ends(total, end):
    options = Options(sparsity=0.8, end=end)
    assert due(options, last_due(options, total), total) == 0.8


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"sparsity": 1.0}, "less than 1"),
        ({"pattern": "2:4", "sparsity": 0.75}, "2:4"),
        ({"pattern": "block"}, "block"),
        ({"block": [2, 2]}, "block"),
        ({"begin": 0.5, "end": 0.2}, "before it begins"),
        ({"initial": 0.9}, "initial"),
    ],
)
def test_options_that_contradict_are_refused(options, word, data):
    with pytest.raises(SpecError, match=word):
        run(Candidate(model=drawing()), data, "sparse", **options)
