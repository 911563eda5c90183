from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepack.passes.kmeans import nearest, palette

VALUES = arrays(np.float64, st.integers(1, 80), elements=st.floats(-1, 1, width=32))
STARTS = st.sampled_from(["linear", "density", "kmeans++"])


def made(values, count, start="linear", seed=0, **more):
    return palette(values, count, start=start, rng=np.random.default_rng(seed), **more)


def error(values, centres):
    return float(((values - centres[nearest(values, centres)]) ** 2).sum())


@given(VALUES, st.integers(1, 20), STARTS)
def test_at_most_k_values_ascending_and_always_the_same(values, count, start):
    found = made(values, count, start)
    assert 1 <= len(found) <= count
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(found, made(np.flip(values), count, start))


@given(VALUES, st.integers(2, 20))
def test_the_error_is_at_most_that_of_a_linear_quantiser(values, count):
    steps = np.linspace(values.min(), values.max(), count)
    assert error(values, made(values, count)) <= error(values, np.unique(steps)) + 1e-9


@given(VALUES, st.integers(3, 20), STARTS)
def test_fixed_ends_stay(values, count, start):
    found = made(values, count, start, ends=(-1.0, 1.0))
    assert (found[0], found[-1]) == (-1.0, 1.0)
    assert len(found) <= count


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=60), st.integers(1, 20), STARTS)
def test_few_distinct_values_are_all_kept(values, count, start):
    values = np.array(values, float)
    distinct = np.unique(values)
    found = made(values, count, start)
    if len(distinct) <= count:
        np.testing.assert_array_equal(found, distinct)


@pytest.mark.parametrize("start", ["linear", "density", "kmeans++"])
def test_no_cluster_stays_empty(start):
    # Two far groups: centres spread evenly over the range between them fit nothing at first.
    values = np.concatenate([np.linspace(-1, -0.9, 40), np.linspace(0.9, 1, 40)])
    found = made(values, 8, start)
    assert len(found) == 8
    assert len(np.unique(nearest(values, found))) == 8


def test_each_value_goes_to_the_nearest():
    centres = np.array([-1.0, 0.0, 3.0])
    assert nearest(np.array([-5, -0.6, -0.4, 1.4, 1.6, 9]), centres).tolist() == [0, 0, 1, 1, 2, 2]
