"""Factorisations: exact at full rank, best below it, and ranks that stand out of the noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.passes import factorise

SIZES = st.integers(1, 4)
CHANNELS = st.integers(1, 7)
SEEDS = st.integers(0, 1000)


def kernel(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def error(a, b) -> float:
    return float(np.square(a - b).sum() / np.square(a).sum())


def from_spatial(first, second):
    return np.einsum("hir,wro->hwio", first[:, 0], second[0])


def from_tucker(into, core, out):
    return np.einsum("ia,hwab,bo->hwio", into, core, out)


def from_depthwise(depth, point):
    inputs, multiplier = depth.shape[2:]
    return np.einsum("hwim,imo->hwio", depth, point.reshape(inputs, multiplier, -1))


@given(SEEDS, SIZES, SIZES, CHANNELS, CHANNELS)
def test_full_rank_is_exact(seed, high, wide, inputs, outputs):
    k = kernel(seed, high, wide, inputs, outputs)
    left, right = factorise.svd(factorise.unfold(k), min(high * wide * inputs, outputs))
    np.testing.assert_allclose((left @ right).reshape(k.shape), k, atol=1e-9)
    full = min(high * inputs, wide * outputs)
    np.testing.assert_allclose(from_spatial(*factorise.spatial_svd(k, full)), k, atol=1e-9)
    np.testing.assert_allclose(from_tucker(*factorise.tucker2(k, (inputs, outputs))), k, atol=1e-9)
    full = min(high * wide, outputs)
    np.testing.assert_allclose(
        from_depthwise(*factorise.depthwise_pointwise(k, full)), k, atol=1e-9
    )


@given(SEEDS, CHANNELS, CHANNELS, st.data())
def test_the_error_is_the_tail_of_the_energies(seed, inputs, outputs, data):
    k = kernel(seed, 3, 2, inputs, outputs)
    for matrix, make in (
        (factorise.unfold(k), lambda r: np.matmul(*factorise.svd(factorise.unfold(k), r))),
        (
            factorise.spatial(k),
            lambda r: factorise.spatial(from_spatial(*factorise.spatial_svd(k, r))),
        ),
    ):
        lost = factorise.tail(factorise.energies(matrix))
        rank = data.draw(st.integers(1, len(lost) - 1))
        assert error(matrix, make(rank)) == pytest.approx(lost[rank], abs=1e-9)
        assert (np.diff(lost) <= 1e-12).all()
        assert lost[0] == 1.0


@given(SEEDS, st.integers(2, 7), st.integers(2, 7), st.data())
def test_tucker_keeps_at_least_the_energy_of_its_table(seed, inputs, outputs, data):
    k = kernel(seed, 3, 3, inputs, outputs)
    a, b = data.draw(st.integers(1, inputs)), data.draw(st.integers(1, outputs))
    table = factorise.tucker_energies(k)
    total = np.square(k).sum()
    assert table[-1, -1] == pytest.approx(total)
    into, core, out = factorise.tucker2(k, (a, b))
    assert (into.shape, core.shape, out.shape) == ((inputs, a), (3, 3, a, b), (b, outputs))
    kept = total - np.square(k - from_tucker(into, core, out)).sum()
    assert kept >= table[a - 1, b - 1] - 1e-9 * total


@given(SEEDS, st.integers(2, 6), st.integers(2, 9))
def test_the_depthwise_of_each_input_channel_is_the_best_of_rank_one(seed, inputs, outputs):
    k = kernel(seed, 3, 3, inputs, outputs)
    made = from_depthwise(*factorise.depthwise_pointwise(k, 1))
    for channel in range(inputs):
        s = np.linalg.svd(k[:, :, channel].reshape(9, outputs), compute_uv=False)
        lost = np.square(k[:, :, channel] - made[:, :, channel]).sum()
        assert lost == pytest.approx(np.square(s[1:]).sum())


@given(SEEDS, st.integers(3, 8), st.integers(3, 8), st.data())
def test_data_makes_the_outputs_better_than_weights_alone(seed, inputs, outputs, data):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(inputs, outputs))
    x = rng.normal(size=(200, inputs)) * np.geomspace(5, 0.05, inputs)
    y = x @ matrix
    moment = y.T @ y / len(y)
    rank = data.draw(st.integers(1, min(inputs, outputs)))
    plain = error(y, x @ np.matmul(*factorise.svd(matrix, rank)))
    aware = error(y, x @ np.matmul(*factorise.svd(matrix, rank, moment)))
    assert aware <= plain + 1e-9
    lost = factorise.tail(factorise.energies(matrix, moment))
    assert aware == pytest.approx(lost[rank], abs=1e-9)


@given(SEEDS, st.integers(1, 6))
def test_both_factors_have_the_same_scale(seed, rank):
    left, right = factorise.svd(kernel(seed, 8, 6), rank)
    np.testing.assert_allclose(
        np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), rtol=1e-6
    )


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 8), st.sampled_from([(40, 60), (80, 30), (50, 50)]))
def test_vbmf_finds_the_rank_under_noise(seed, rank, shape):
    rng = np.random.default_rng(seed)
    rows, columns = shape
    signal = 3 * rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    assert factorise.vbmf_rank(signal + rng.normal(size=shape)) == rank


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_vbmf_finds_nothing_in_noise(scale):
    assert factorise.vbmf_rank(scale * kernel(3, 60, 40)) == 0


def test_vbmf_of_nothing():
    assert factorise.vbmf_rank(np.zeros((5, 4))) == 0


def test_nothing_is_lost_of_nothing():
    assert factorise.tail(np.zeros(3)).tolist() == [0.0, 0.0, 0.0, 0.0]
    left, right = factorise.svd(np.zeros((4, 3)), 2)
    assert not (left @ right).any()
