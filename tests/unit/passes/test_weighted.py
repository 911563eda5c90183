"""Factors that go by data: exact at full rank, and nearer to the outputs than by weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.passes import factorise, weighted

SEEDS = st.integers(0, 500)


def seen(seed: int, width: int) -> np.ndarray:
    """The second moment of inputs that vary more in some directions than in others."""
    rng = np.random.default_rng((seed, 1))
    x = rng.normal(size=(4 * width, width)) @ rng.normal(size=(width, width))
    x *= np.geomspace(1, 0.1, width)
    return x.T @ x / len(x)


def cases(seed):
    kernel = np.random.default_rng(seed).normal(size=(3, 2, 4, 6))
    return kernel, seen(seed, 24)


@settings(max_examples=30)
@given(SEEDS, st.booleans())
def test_full_rank_is_exact(seed, data):
    kernel, second = cases(seed)
    for method, ranks in (("svd", (6, 0)), ("spatial", (12, 0)), ("tucker", (4, 6))):
        chain = weighted.factors(kernel, method, ranks, second if data else None)
        made = weighted.product(chain, method)
        np.testing.assert_allclose(made, factorise.unfold(kernel), atol=1e-6)
        assert weighted.lost(kernel, made, second) < 1e-9


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([("svd", (2, 0)), ("spatial", (3, 0)), ("tucker", (2, 3))]))
def test_outputs_are_nearer_than_by_weights(seed, way):
    kernel, second = cases(seed)
    losses = [
        weighted.lost(
            kernel, weighted.product(weighted.factors(kernel, *way, known), way[0]), second
        )
        for known in (second, None)
    ]
    assert losses[0] <= losses[1] + 1e-9


@settings(max_examples=15)
@given(SEEDS, st.sampled_from([("spatial", (3, 0)), ("tucker", (2, 3))]))
def test_more_sweeps_are_never_worse(seed, way):
    kernel, second = cases(seed)
    losses = [
        weighted.lost(
            kernel, weighted.product(weighted.factors(kernel, *way, second, n), way[0]), second
        )
        for n in (1, 2, 4)
    ]
    assert losses[0] >= losses[1] - 1e-9
    assert losses[1] >= losses[2] - 1e-9


@given(SEEDS, st.integers(1, 6))
def test_the_energies_of_svd_are_its_losses(seed, rank):
    kernel, second = cases(seed)
    for known in (second, None):
        lost = factorise.tail(weighted.energies(kernel, "svd", known))[rank]
        made = weighted.product(weighted.factors(kernel, "svd", (rank, 0), known), "svd")
        assert weighted.lost(kernel, made, known) == pytest.approx(lost, abs=1e-9)


def test_inputs_that_never_vary_do_no_harm():
    kernel, _ = cases(0)
    for method, ranks in (("svd", (2, 0)), ("spatial", (3, 0)), ("tucker", (2, 3))):
        for second in (np.zeros((24, 24)), np.diag([1.0] + [0.0] * 23)):
            chain = weighted.factors(kernel, method, ranks, second)
            assert all(np.isfinite(array).all() for array in chain)
            assert weighted.lost(kernel, weighted.product(chain, method), second) < 1e-6


def test_both_spatial_factors_have_the_same_scale():
    kernel, second = cases(3)
    one, two = weighted.factors(kernel, "spatial", (4, 0), second)
    np.testing.assert_allclose(
        np.square(one).sum((0, 1, 2)), np.square(two).sum((0, 1, 3)), rtol=1e-6
    )
