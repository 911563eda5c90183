"""Cutting channels is exact: the cut model computes what zeros in their place would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.passes.layers import kind
from edgepack.passes.network import read, rebuild
from edgepack.passes.slicing import cut_model
from edgepack.passes.ties import MAKERS, trace
from tests.graphs import GRAPHS, graph
from tests.random_graphs import random_model

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def feed(model, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, *t.shape[1:])).astype(np.float32) for t in model.inputs]


def answers(model, x):
    import keras

    x = x[0] if len(x) == 1 and not isinstance(model.input, list) else x
    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def drawn(units, seed):
    """A random part of each group, at least one unit of it."""
    rng = np.random.default_rng(seed)
    kept = np.ones(units.count, bool)
    for group in units.groups:
        kept[rng.permutation(group)[: rng.integers(0, len(group))]] = False
    return kept


def masked(units, kept):
    """The model with removed channels zero wherever a layer reads them."""
    import keras

    def change(call, inputs, clone):
        if kind(call.layer) not in MAKERS:
            return None
        stays = kept[units.of[call.inputs[0]]].astype(np.float32)
        mask = keras.layers.Rescaling(stays.tolist(), name=f"mask_{call.index}")
        return clone(call.layer)(mask(inputs[0]))

    return rebuild(units.network, change)


def check_exact(model, seed):
    units = trace(read(model), lambda layer: True)
    kept, x = drawn(units, seed), feed(model, seed)
    cut = cut_model(units, kept)
    for a, b in zip(answers(masked(units, kept), x), answers(cut, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for call in units.makers:
        assert cut.get_layer(call.name).output.shape[-1] == kept[units.of[call.output]].sum()
    assert (cut.count_params() < model.count_params()) == (not kept.all())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_a_cut_model_computes_what_the_masked_one_does(seed):
    check_exact(random_model(seed), seed)


@pytest.mark.parametrize("name", GRAPHS)
def test_so_does_every_usual_shape_of_model(name):
    check_exact(graph(name), 3)
