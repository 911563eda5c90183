"""Ranks: only what costs less, and the least loss that a budget buys."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.passes.ranks import (
    METHODS,
    Choices,
    Places,
    by_budget,
    by_energy,
    by_vbmf,
    choices,
)

ONCE = Places(before=1, between=1, after=1)


def low_rank(seed: int, rank: int, *shape: int) -> np.ndarray:
    """A kernel whose output channels are mixtures of ``rank`` ones, and a little noise."""
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(*shape[:-1], rank))
    return few @ rng.normal(size=(rank, shape[-1])) + 0.01 * rng.normal(size=shape)


@given(st.integers(0, 99), st.sampled_from([(), (3,), (3, 3), (1, 5)]), st.integers(1, 9))
def test_every_row_costs_less_than_the_layer(seed, size, multiple):
    kernel = np.random.default_rng(seed).normal(size=(*size, 6, 10))
    spots = Places(before=16, between=8, after=4)
    table = choices(kernel, spots, METHODS[1:], multiple=multiple)
    assert METHODS[table.method[0]] == "keep"
    assert table.lost[0] == 0.0
    assert (table.params[0], table.macs[0]) == (kernel.size, 4 * kernel.size)
    assert (table.params[1:] < table.params[0]).all()
    assert (table.macs[1:] < table.macs[0]).all()


def test_the_costs_of_each_method():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 16))
    table = choices(kernel, Places(before=64, between=32, after=16), METHODS[1:])

    def row(method, *ranks):
        match = (table.method == METHODS.index(method)) & (table.ranks == ranks).all(1)
        return table.params[match].item(), table.macs[match].item()

    assert row("svd", 2, 0) == (2 * (72 + 16), 2 * (72 + 16) * 16)
    assert row("spatial", 2, 0) == (2 * 24 + 2 * 48, 48 * 32 + 96 * 16)
    assert row("tucker", 2, 3) == (16 + 54 + 48, 16 * 64 + (54 + 48) * 16)


def test_ranks_are_multiples_where_the_layer_is_wide_enough():
    kernel = np.random.default_rng(0).normal(size=(32, 32))
    assert choices(kernel, ONCE, ["svd"], multiple=8).ranks[1:, 0].tolist() == [8]
    small = np.random.default_rng(0).normal(size=(200, 6))
    assert choices(small, ONCE, ["svd"], multiple=8).ranks[1:, 0].tolist() == [1, 2, 3, 4, 5]


def test_energy_takes_the_cheapest_that_keeps_it():
    table = choices(low_rank(0, 3, 3, 3, 8, 24), ONCE, ["svd"])
    row = by_energy(table, 0.99, "params")
    assert table.ranks[row].tolist() == [3, 0]
    assert by_energy(table, 1.0, "params") == 0


def test_vbmf_takes_the_rank_of_the_signal():
    kernel = low_rank(1, 3, 3, 3, 8, 24)
    table = choices(kernel, ONCE, ["svd"])
    assert table.ranks[by_vbmf(table, kernel, "params")].tolist() == [3, 0]


def test_vbmf_leaves_noise_alone():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 24))
    for method in METHODS[1:]:
        assert by_vbmf(choices(kernel, ONCE, [method]), kernel, "params") == 0


@pytest.mark.parametrize("measure", ["params", "macs"])
def test_the_budget_goes_where_energy_is(measure):
    rich = np.random.default_rng(0).normal(size=(3, 3, 8, 24))
    poor = low_rank(0, 2, 3, 3, 8, 24)
    tables = [choices(kernel, ONCE, ["svd"]) for kernel in (rich, poor)]
    budget = int(1.3 * rich.size)
    rows = by_budget(tables, budget, measure)
    assert rows[0] == 0
    assert tables[1].ranks[rows[1], 0] >= 2
    assert sum(t.cost(measure)[r] for t, r in zip(tables, rows, strict=True)) <= budget


def table_of(cost: list[int], lost: list[float]) -> Choices:
    count = len(cost)
    return Choices(
        method=np.zeros(count, np.int64),
        ranks=np.zeros((count, 2), np.int64),
        params=np.array(cost),
        macs=np.array(cost),
        lost=np.array(lost),
    )


LAYER = st.integers(1, 40).flatmap(
    lambda full: st.lists(st.tuples(st.integers(1, full), st.floats(0.01, 0.99)), max_size=4).map(
        lambda rows: table_of([full, *(r[0] for r in rows)], [0.0, *(r[1] for r in rows)])
    )
)


@settings(max_examples=60)
@given(st.lists(LAYER, min_size=1, max_size=3), st.floats(0.1, 1.0))
def test_a_budget_is_kept_wherever_it_can_be(tables, share):
    budget = int(share * sum(int(t.params[0]) for t in tables))
    rows = by_budget(tables, budget, "params")
    spent = sum(int(t.params[r]) for t, r in zip(tables, rows, strict=True))
    least = sum(int(t.params.min()) for t in tables)
    assert spent <= max(budget, least)
    loss = sum(t.loss()[r] for t, r in zip(tables, rows, strict=True))
    for place, table in enumerate(tables):  # no single step is left that would do better
        for row in range(len(table.params)):
            more = int(table.params[row] - table.params[rows[place]])
            if spent + more <= budget:
                assert table.loss()[row] >= table.loss()[rows[place]] - 1e-9
    fits = [
        sum(t.loss()[r] for t, r in zip(tables, pick, strict=True))
        for pick in itertools.product(*(range(len(t.params)) for t in tables))
        if sum(int(t.params[r]) for t, r in zip(tables, pick, strict=True)) <= budget
    ]
    if fits:
        assert loss >= min(fits) - 1e-9


def test_data_says_what_is_lost():
    """Inputs of which only two vary: two channels are enough, whatever the weights are."""
    kernel = np.random.default_rng(0).normal(size=(24, 20))
    second = np.zeros((24, 24))
    second[:2, :2] = [[2.0, 0.5], [0.5, 1.0]]
    table = choices(kernel, ONCE, ["svd"], second=second)
    assert table.ranks[by_energy(table, 0.9999, "params")].tolist() == [2, 0]
    assert by_energy(choices(kernel, ONCE, ["svd"]), 0.9999, "params") == 0
