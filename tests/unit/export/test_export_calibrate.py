"""Histograms, calibrators and what litert-quantizer is told."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.export.calibrate import (
    BINS,
    Histogram,
    Observed,
    calibration_result,
    expected_error,
    least_error,
    ranges,
    with_zero,
)

floats = st.floats(-1e6, 1e6, width=32)
samples = st.lists(
    hnp.arrays(np.float32, st.integers(1, 50), elements=floats), min_size=1, max_size=8
)


def observed(arrays: list[np.ndarray]) -> Observed:
    seen = Observed()
    for array in arrays:
        assert seen.add(array)
    return seen


@given(samples)
@example([np.array([1e-45], np.float32), np.array([-1.0], np.float32)])
def test_a_histogram_counts_every_value_and_holds_the_extremes(arrays):
    histogram = observed(arrays).histogram
    assert histogram.counts.sum() == sum(array.size for array in arrays)
    assert histogram.low <= min(a.min() for a in arrays)
    assert histogram.high >= max(a.max() for a in arrays)


@given(samples, st.floats(50, 100))
def test_a_percentile_lies_inside_min_max(arrays, percentile):
    seen = observed(arrays)
    low, high = seen.range("percentile", percentile)
    whole_low, whole_high = seen.range("minmax")
    assert whole_low <= low <= 0 <= high <= whole_high


@settings(max_examples=25, deadline=None)
@given(samples, st.sampled_from([16, 256]))
def test_mse_is_never_worse_than_min_max_on_its_own_histogram(arrays, levels):
    seen = observed(arrays)
    chosen, whole = seen.range("mse", levels=levels), seen.range("minmax")
    error = expected_error(seen.histogram, chosen, levels)
    assert error <= expected_error(seen.histogram, whole, levels)


@settings(max_examples=25, deadline=None)
@given(samples)
def test_every_range_holds_zero(arrays):
    seen = observed(arrays)
    for calibrator in ("minmax", "moving-average", "percentile", "mse"):
        low, high = seen.range(calibrator)
        assert low <= 0 <= high


def test_mse_draws_in_an_outlier():
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    values[0] = 100.0
    low, high = observed([values]).range("mse", levels=16)
    assert high < 60
    assert -5 < low < -1


def test_a_quantile_is_near_the_true_one():
    values = np.random.default_rng(1).normal(size=8000).astype(np.float32)
    histogram = observed([values]).histogram
    for fraction in (0.01, 0.5, 0.99):
        assert histogram.quantile(fraction) == pytest.approx(
            np.quantile(values, fraction), abs=0.02
        )


def test_growth_keeps_counts_where_they_were():
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32), 0.0, 0.0)
    histogram.add(np.full(5, -3.0, np.float32), -3.0, -3.0)
    histogram.add(np.full(7, 40.0, np.float32), 40.0, 40.0)
    filled = histogram.centres[histogram.counts > 0]
    assert list(histogram.counts[histogram.counts > 0]) == [5, 10, 7]
    assert filled == pytest.approx([-3, 0, 40], abs=histogram.width / BINS)


def test_the_moving_average_forgets_slowly():
    seen = observed([np.array([0.0, 1.0], np.float32), np.array([0.0, 11.0], np.float32)])
    assert seen.range("moving-average") == pytest.approx((0.0, 1.5))


def test_nan_and_infinity_are_noticed():
    assert not Observed().add(np.array([1.0, np.nan], np.float32))
    assert not Observed().add(np.array([np.inf], np.float32))
    assert Observed().add(np.zeros(0, np.float32))


def test_a_tensor_never_seen_has_an_empty_range():
    assert Observed().range("mse") == (0.0, 0.0)
    assert least_error(Histogram(), (0.0, 0.0)) == (0.0, 0.0)


def test_large_tensors_are_sampled_but_their_extremes_are_not():
    values = np.zeros(100_000, np.float32)
    values[12_345] = 9.0
    seen = observed([values])
    assert seen.range("minmax") == (0.0, 9.0)
    assert seen.histogram.counts.sum() < 10_000


def peak(count: int) -> int:
    seen, random = Observed(), np.random.default_rng(0)
    tracemalloc.start()
    for _ in range(count):
        seen.add(random.normal(size=1000).astype(np.float32))
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top


def test_memory_is_flat_while_data_grows_tenfold():
    tracer = sys.gettrace()  # coverage's would be counted too
    sys.settrace(None)
    try:
        peak(2)
        assert peak(300) < peak(30) * 1.1 + 4096
    finally:
        sys.settrace(tracer)


def test_the_result_is_what_the_quantizer_reads():
    made = calibration_result({"a": (-1.0, 2.0)}, {"w": np.full((2, 1), 3.0)})
    assert made["a"] == {"min": np.float32(-1), "max": np.float32(2)}
    assert made["w"]["min"].tolist() == [[-3.0], [-3.0]]
    assert made["w"]["max"].dtype == np.float32


def test_ranges_of_every_tensor():
    seen = {"a": observed([np.array([1.0, 2.0], np.float32)])}
    assert ranges(seen, "minmax") == {"a": (0.0, 2.0)}


@given(st.tuples(floats, floats))
@settings(max_examples=20)
def test_with_zero_widens_only(limits):
    low, high = with_zero(limits)
    assert low <= min(limits[0], 0)
    assert high >= max(limits[1], 0)
