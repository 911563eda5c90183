"""Rounded weights, and the biases that make up for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.export.plan import Assigned
from edgepack.export.weights import EMPTY, best_rounding, shift, weight_bits

kernels = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-8, 8, width=32),
)


def plain(weights: np.ndarray, axis: int | None, bits: int) -> np.ndarray:
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(others, keepdims=True)
    largest = np.maximum(largest, max(largest.max() / EMPTY, 1e-12))
    step = largest / (2 ** (bits - 1) - 1)
    return np.rint(weights / step) * step


@given(kernels, st.sampled_from([0, 3, None]))
def test_four_bits_are_never_worse_than_min_max_in_any_channel(weights, axis):
    rounded, largest = best_rounding(weights, axis, 4)
    others = tuple(i for i in range(4) if i != axis)
    mine = ((rounded - weights) ** 2).sum(others)
    theirs = ((plain(weights, axis, 4) - weights) ** 2).sum(others)
    assert (mine <= theirs + 1e-9).all()
    assert largest.shape == tuple(n if i == axis else 1 for i, n in enumerate(weights.shape))


@given(kernels)
def test_the_range_given_reproduces_the_rounding(weights):
    rounded, largest = best_rounding(weights, 0, 4)
    step = largest / 7
    assert np.allclose(rounded, np.clip(np.rint(weights / step), -8, 7) * step)


@given(kernels)
def test_eight_bits_are_min_max(weights):
    rounded, _ = best_rounding(weights, 0, 8)
    assert np.allclose(rounded, plain(weights, 0, 8))


def test_an_empty_channel_gets_a_range_that_its_bias_fits():
    weights = np.zeros((3, 4))
    assert (best_rounding(weights, 0, 8)[1] == 1).all()
    weights[0] = 2.0
    weights[1] = 1e-6
    rounded, largest = best_rounding(weights, 0, 8)
    assert largest.ravel().tolist() == [2.0, 2.0 / EMPTY, 2.0 / EMPTY]
    assert (rounded[1:] == 0).all()


def test_a_shift_is_the_mean_change_of_the_outputs():
    random = np.random.default_rng(0)
    x = random.normal(1.0, size=(500, 6))
    change = random.normal(size=(3, 6))
    assert shift(change, x.mean(0), "FULLY_CONNECTED") == pytest.approx((x @ change.T).mean(0))


def test_a_shift_of_a_convolution_sums_over_its_window():
    change = np.ones((2, 3, 3, 4))
    assert shift(change, np.array([1.0, 2, 3, 4]), "CONV_2D").tolist() == [90.0, 90.0]


def test_a_shift_of_a_depthwise_convolution_keeps_channels_apart():
    change = np.ones((1, 2, 2, 4))
    assert shift(change, np.array([1.0, 10.0]), "DEPTHWISE_CONV_2D").tolist() == [4, 4, 40, 40]


@pytest.mark.parametrize(
    ("op", "scheme", "bits"),
    [
        ("CONV_2D", "int4", 4),
        ("DEPTHWISE_CONV_2D", "int4", 8),
        ("FULLY_CONNECTED", "int8", 8),
        ("FULLY_CONNECTED", "float32", 0),
        ("MEAN", "int8", 0),
    ],
)
def test_bits_of_weights(op, scheme, bits):
    assert weight_bits(Assigned(op=op, scope="", scheme=scheme)) == bits
