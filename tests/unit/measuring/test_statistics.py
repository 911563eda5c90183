"""The distribution's definitions, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import MeasureError
from edgepack.measuring.statistics import EXACT_UP_TO, drift, latency, median_ranks, outliers

times = st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=200)


@given(times)
def test_order_statistics(samples: list[float]) -> None:
    found = latency(samples)
    assert (found.n, found.min, found.max) == (len(samples), min(samples), max(samples))
    assert found.min <= found.p50 <= found.p90 <= found.p99 <= found.max
    assert found.min <= found.ci95[0] <= found.p50 <= found.ci95[1] <= found.max
    assert found.mean == pytest.approx(sum(samples) / len(samples))
    assert found.p50 == pytest.approx(float(np.median(samples)))


@given(times, st.randoms())
def test_the_order_of_samples_does_not_matter(samples: list[float], random) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)
    one, other = latency(samples), latency(shuffled)
    assert (one.p50, one.p90, one.p99, one.ci95) == (other.p50, other.p90, other.p99, other.ci95)


def test_known_figures() -> None:
    found = latency([float(value) for value in range(1, 102)])
    assert (found.mean, found.p50, found.p90, found.p99) == (51, 51, 91, 100)
    assert found.std == pytest.approx(math.sqrt(101 * 102 / 12))
    one = latency([7.0])
    assert (one.std, one.ci95, one.p99) == (0, (7, 7), 7)


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf], [-1.0, 2.0]])
def test_what_is_no_time(samples: list[float]) -> None:
    with pytest.raises(MeasureError):
        latency(samples)


def coverage(count: int) -> float:
    """The probability that the interval between the ranks holds the median."""
    low, high = median_ranks(count)
    return sum(math.comb(count, below) for below in range(low + 1, high + 1)) / 2**count


@pytest.mark.parametrize("count", [6, 7, 10, 31, 100, 999, EXACT_UP_TO])
def test_the_interval_covers_the_median_and_is_not_too_wide(count: int) -> None:
    low, high = median_ranks(count)
    assert coverage(count) >= 0.95
    tighter = sum(math.comb(count, below) for below in range(low + 2, high)) / 2**count
    assert tighter < 0.95


@pytest.mark.parametrize("count", range(1, 6))
def test_few_samples_give_the_whole_range(count: int) -> None:
    assert median_ranks(count) == (0, count - 1)


def test_the_approximation_joins_the_exact_ranks() -> None:
    exact, above = median_ranks(EXACT_UP_TO), median_ranks(EXACT_UP_TO + 2)
    assert abs(above[0] - exact[0] - 1) <= 1
    assert coverage(EXACT_UP_TO + 2) >= 0.95


@given(times, st.floats(1e-3, 1e3))
def test_outliers_do_not_depend_on_the_unit(samples: list[float], factor: float) -> None:
    found = outliers(samples)
    # no more than a quarter lies beyond either quartile
    assert 0 <= found.n <= len(samples) / 2
    assert found.below_us <= np.percentile(samples, 25) <= found.above_us
    scaled = outliers([value * factor for value in samples])
    assert scaled.above_us == pytest.approx(found.above_us * factor)


def test_what_is_far_out() -> None:
    steady = [100.0 + place % 5 for place in range(100)]
    assert outliers(steady).n == 0
    assert outliers([*steady, 108.0]).n == 0  # two ranges above the quartile: no outlier yet
    assert outliers([*steady, 150.0, 1.0]).n == 2
    assert outliers([5.0] * 50).n == 0
    assert outliers([*[5.0] * 50, 5.1]).n == 0  # within the clock's steps
    assert outliers([*[5.0] * 50, 5.2]).n == 1


@given(st.lists(st.floats(1.0, 1e6), min_size=24, max_size=120))
def test_drift_turns_with_the_order(samples: list[float]) -> None:
    one, other = drift(samples), drift(samples[::-1])
    assert one is not None
    assert other is not None
    assert (one.first_us, one.last_us, one.real) == (other.last_us, other.first_us, one.real)
    assert one.change == pytest.approx(one.last_us / one.first_us - 1)


def test_drift_is_real_only_beyond_the_noise_and_five_per_cent() -> None:
    def run(last: float, spread: float) -> list[float]:
        parts = [100.0, 100.0, 100.0, last]
        return [m + spread * ((place * 7) % 11 - 5) for m in parts for place in range(33)]

    assert drift([1.0] * 23) is None
    found = drift(run(110.0, 0.2))
    assert found is not None
    assert (found.real, found.change) == (True, pytest.approx(0.1))
    small, noisy = drift(run(104.0, 0.2)), drift(run(110.0, 20.0))
    assert small is not None
    assert noisy is not None
    assert not small.real
    assert not noisy.real
    assert abs(noisy.change) > 0.05  # which the noise alone can make
