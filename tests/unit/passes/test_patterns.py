from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgepack.passes.patterns import kept, matrix, polynomial, tensor

SPARSITIES = st.floats(0, 0.99)


def magnitudes(seed: int, *shapes: tuple[int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [np.abs(random.normal(size=shape)) for shape in shapes]


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 23))


@given(array_shapes(min_dims=1, max_dims=5, max_side=5), st.data())
def test_matrix_and_tensor_go_there_and_back(shape, data):
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    values = np.arange(math.prod(shape)).reshape(shape)
    rows = matrix(values, axes)
    assert len(rows) == math.prod(shape[axis] for axis in axes)
    np.testing.assert_array_equal(tensor(rows, shape, axes), values)


def test_the_input_channel_runs_fastest_along_a_row():
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert matrix(kernel, (3,))[1].tolist() == kernel[..., 1].reshape(-1).tolist()
    np.testing.assert_array_equal(matrix(kernel, (2,))[3], kernel[:, :, 3, :].reshape(-1))


@given(st.integers(0, 99), st.lists(SHAPES, min_size=1, max_size=4), SPARSITIES, st.booleans())
def test_unstructured_sparsity_is_exact(seed, shapes, sparsity, together):
    given_ = magnitudes(seed, *shapes)
    stay = kept(given_, sparsity, together=together)
    zeros = [int((~found).sum()) for found in stay]
    if together:
        assert sum(zeros) == math.ceil(sparsity * sum(a.size for a in given_) - 1e-9)
    for found, values, zero in zip(stay, given_, zeros, strict=True):
        assert found.shape == values.shape
        if not together:
            assert zero == math.ceil(sparsity * values.size - 1e-9)
            assert values[~found].max(initial=0) <= values[found].min(initial=np.inf)


def test_one_ranking_takes_from_the_smaller_weights_but_leaves_every_layer_some():
    large, small = np.full((4, 10), 2.0), np.full((4, 10), 1.0)
    stay = kept([large, small], 0.25, together=True)
    assert (stay[0].sum(), stay[1].sum()) == (40, 20)
    stay = kept([large, small], 0.75, together=True)
    assert stay[1].sum() == 1
    assert stay[0].sum() == 19


@given(st.integers(0, 99), SHAPES)
def test_2_of_4_leaves_the_larger_2_of_each_group(seed, shape):
    (values,) = magnitudes(seed, shape)
    (stay,) = kept([values], 0.5, pattern="2:4")
    for row, found in zip(values, stay, strict=True):
        for at in range(0, shape[1], 4):
            group, chosen = row[at : at + 4], found[at : at + 4]
            assert chosen.sum() == len(group) // 2
            assert group[~chosen].max() <= group[chosen].min(initial=np.inf)


@given(st.integers(0, 99), SHAPES, st.floats(0, 0.49))
def test_2_of_4_on_the_way_takes_only_what_goes_in_the_end(seed, shape, sparsity):
    found = magnitudes(seed, shape)
    (on_the_way,) = kept(found, sparsity, pattern="2:4")
    (in_the_end,) = kept(found, 0.5, pattern="2:4")
    assert (in_the_end <= on_the_way).all()
    assert (~on_the_way).sum() == math.ceil(sparsity * found[0].size - 1e-9)


@given(
    st.integers(0, 99),
    SHAPES,
    SPARSITIES,
    st.tuples(st.integers(1, 30), st.integers(1, 12)),
    st.booleans(),
)
def test_blocks_go_whole_also_where_they_do_not_divide(seed, shape, sparsity, block, together):
    (values,) = magnitudes(seed, shape)
    (stay,) = kept([values], sparsity, pattern="block", block=block, together=together)
    largest = 0
    for row in range(0, shape[0], block[1]):
        for column in range(0, shape[1], block[0]):
            part = stay[row : row + block[1], column : column + block[0]]
            assert part.all() or not part.any()
            largest = max(largest, part.size)
    zeros = (~stay).sum()
    assert sparsity * values.size - 1e-6 <= zeros < sparsity * values.size + largest


def test_a_block_counts_by_its_mean_so_that_small_ones_at_the_edge_are_not_favoured():
    values = np.array([[1.0, 1.0, 1.0, 1.0, 3.0]])
    (stay,) = kept([values], 0.5, pattern="block", block=(4, 1))
    assert stay.tolist() == [[False] * 4 + [True]]


@given(
    arrays(np.float64, (3, 8), elements=st.floats(0, 1)),
    st.lists(SPARSITIES, min_size=2, max_size=2),
)
def test_more_sparsity_keeps_less_of_the_same(values, both):
    less, more = (kept([values], s)[0] for s in sorted(both))
    assert (more <= less).all()


@given(st.floats(-1, 2), st.floats(-1, 2), st.floats(0, 0.5), st.floats(0.5, 1))
def test_the_polynomial_climbs_from_the_initial_to_the_final_sparsity(a, b, initial, final):
    early, late = (polynomial(d, initial=initial, final=final) for d in sorted((a, b)))
    assert initial - 1e-9 <= early <= late + 1e-9 <= final + 1e-8
    assert polynomial(0, initial=initial, final=final) == pytest.approx(initial)
    assert polynomial(1, initial=initial, final=final) == final


def test_the_polynomial_is_that_of_the_paper():
    half = polynomial(0.5, initial=0.0, final=0.8)
    assert half == pytest.approx(0.8 * (1 - 0.5**3))
