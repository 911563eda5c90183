"""Layers as matrix products: the same answers as Keras gives, at every position drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.passes import patches
from edgepack.passes.layers import values

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]
FORMS = {
    "Dense": lambda k, pad, step, wide: k.Dense(5),
    "Conv1D": lambda k, pad, step, wide: k.Conv1D(4, 3, step, pad, dilation_rate=wide),
    "causal": lambda k, pad, step, wide: k.Conv1D(4, 3, step, "causal", dilation_rate=wide),
    "Conv2D": lambda k, pad, step, wide: k.Conv2D(4, (3, 2), step, pad, dilation_rate=wide),
    "grouped": lambda k, pad, step, wide: k.Conv2D(6, 3, step, pad, groups=3),
    "DepthwiseConv1D": lambda k, pad, step, wide: k.DepthwiseConv1D(3, step, pad),
    "DepthwiseConv2D": lambda k, pad, step, wide: k.DepthwiseConv2D(
        (2, 3), step, pad, depth_multiplier=2
    ),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=6, deadline=None)
@given(
    pad=st.sampled_from(["same", "valid"]),
    step=st.integers(1, 3),
    wide=st.integers(1, 2),
    size=st.integers(7, 10),
    seed=st.integers(0, 99),
)
def test_rows_times_matrices_are_the_layer(form, pad, step, wide, size, seed):
    import keras

    layer = FORMS[form](keras.layers, pad, step, wide if step == 1 else 1)
    spatial = (size,) if "1D" in form or form == "causal" else (size, size + 1)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, *spatial, 6)).astype(np.float32)
    wanted = np.asarray(layer(x))
    chosen = patches.positions(layer, x.shape, 40, rng)
    rows = patches.rows(layer, x, chosen)
    made = np.einsum("rgk,gko->rgo", rows, patches.matrices(layer, values(layer)))
    np.testing.assert_allclose(made.reshape(40, -1), wanted[chosen], atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_matrices_and_back_are_the_kernel(form):
    import keras

    layer = FORMS[form](keras.layers, "same", 1, 1)
    layer.build((1, 8, 6) if "1D" in form or form == "causal" else (1, 8, 8, 6))
    kernel = values(layer)
    again = patches.kernel_of(layer, patches.matrices(layer, kernel), kernel.shape)
    np.testing.assert_array_equal(again, kernel)


def test_positions_reach_every_output():
    import keras

    layer = keras.layers.Conv2D(2, 3, 2, "same")
    layer.build((1, 7, 5, 1))
    chosen = patches.positions(layer, (2, 7, 5, 1), 2000, np.random.default_rng(0))
    assert [sorted(set(axis)) for axis in chosen] == [[0, 1], [0, 1, 2, 3], [0, 1, 2]]


def test_other_layers_are_refused_with_a_reason():
    import keras

    assert "Conv2DTranspose" in patches.refusal(keras.layers.Conv2DTranspose(2, 3))
    first = keras.layers.Conv2D(2, 3, data_format="channels_first")
    assert patches.refusal(first) == "its channels come first"
    assert patches.refusal(keras.layers.Dense(2)) == ""
