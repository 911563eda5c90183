"""The exports' grids: what lies on one stays there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import SpecError
from edgepack.passes import grid

kernels = st.builds(
    lambda seed, sparse, tail: (
        np.random.default_rng(seed).standard_t(tail, (3, 7, 5))
        * (np.random.default_rng(seed + 1).random((3, 7, 5)) > sparse)
    ),
    seed=st.integers(0, 10_000),
    sparse=st.sampled_from([0.0, 0.5, 0.95]),
    tail=st.sampled_from([2, 30]),
)


@given(kernels, st.sampled_from([4, 8]))
def test_a_grid_keeps_what_lies_on_it(weights, bits) -> None:
    once = grid.on_grid(weights, grid.steps(weights, (0, 1), bits), bits)
    again = grid.on_grid(once, grid.steps(once, (0, 1), bits), bits)
    np.testing.assert_allclose(again, once, rtol=1e-12)


@given(kernels, st.sampled_from([4, 8]))
def test_each_channel_reaches_the_end_of_its_grid_and_zeros_stay(weights, bits) -> None:
    step = grid.steps(weights, (0, 1), bits)
    integers = grid.on_grid(weights, step, bits) / step
    largest = np.abs(np.rint(integers)).max((0, 1))
    alive = np.abs(weights).max((0, 1)) > 0
    assert (largest[alive] == grid.largest_integer(bits)).all()
    assert not integers[weights == 0].any()


@given(kernels)
def test_four_bits_are_ranged_no_worse_than_by_the_largest_weight(weights) -> None:
    whole = np.maximum(np.abs(weights).max((0, 1), keepdims=True), 1e-30) / 7
    made = grid.on_grid(weights, grid.steps(weights, (0, 1), 4), 4)
    plain = grid.on_grid(weights, whole, 4)
    assert ((made - weights) ** 2).sum() <= ((plain - weights) ** 2).sum() + 1e-12


def test_eight_bits_are_rounded_to_within_half_a_step() -> None:
    weights = np.random.default_rng(0).normal(size=(50, 4))
    step = grid.steps(weights, (0,), 8)
    np.testing.assert_allclose(step[0], np.abs(weights).max(0) / 127)
    assert (np.abs(grid.on_grid(weights, step, 8) - weights) <= step / 2 + 1e-12).all()


@pytest.mark.parametrize(
    ("kind", "scheme", "bits"),
    [
        ("Conv2D", "int8", 8),
        ("Conv2D", "int4", 4),
        ("Dense", "int4", 4),
        ("DepthwiseConv2D", "int4", 8),
        ("Conv2DTranspose", "int4", 8),
        ("Conv2D", "int16x8", 8),
    ],
)
def test_the_scheme_gives_each_kind_of_layer_its_bits(kind, scheme, bits) -> None:
    assert grid.bits_of(SimpleNamespace(edgepack_kind=kind), scheme) == bits


def test_a_scheme_of_floats_has_no_grid() -> None:
    with pytest.raises(SpecError, match="float16 export rounds no weights"):
        grid.bits_of(SimpleNamespace(edgepack_kind="Dense"), "float16")
