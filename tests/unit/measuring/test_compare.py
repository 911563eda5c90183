"""Whether a difference is real: the interval's properties, and how often the verdict errs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.measuring.compare import MARGIN, PAIRS, interval, judged, verdict
from edgepack.records import Comparison, Pair

ratios = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=PAIRS)


def compared(values: list[float]) -> Comparison:
    pairs = tuple(Pair(a_us=10.0, b_us=10.0 * value, n=(9, 9)) for value in values)
    blank = Comparison(artefact_sha256="b", model="b", recipe="", margin=MARGIN, pairs=pairs)
    return judged(blank)


@given(ratios)
def test_the_interval_holds_the_median_and_stays_within_the_values(values: list[float]) -> None:
    low, high = interval(values)
    assert min(values) <= low <= np.median(values) <= high <= max(values)
    assert interval(values) == (low, high)  # the same pairs, the same interval


@given(ratios, st.floats(0.1, 10.0))
def test_the_interval_scales(values: list[float], factor: float) -> None:
    assert interval([value * factor for value in values]) == pytest.approx(
        [bound * factor for bound in interval(values)]
    )


@given(st.floats(-1, 1), st.floats(0, 1))
def test_a_verdict_is_one_of_three_and_turns_with_the_sign(low: float, width: float) -> None:
    high = low + width
    found = verdict(low, high, MARGIN)
    assert found == verdict(-high, -low, MARGIN)
    if found == "real":
        assert low > MARGIN or high < -MARGIN
    elif found == "not real":
        assert max(abs(low), abs(high)) <= MARGIN


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0] * PAIRS, "not real"),
        ([1.015] * PAIRS, "not real"),
        ([0.8] * PAIRS, "real"),
        ([1.2 + place / 100 for place in range(PAIRS)], "real"),
        ([0.9, 1.1] * (PAIRS // 2), "can't tell"),
        ([1.5] * (PAIRS // 2 - 1), "can't tell"),  # too few pairs
        ([], "can't tell"),
    ],
)
def test_verdicts(values: list[float], expected: str) -> None:
    found = compared(values)
    assert found.verdict == expected
    assert (found.change is None) == (not values)


def test_the_same_model_is_seldom_called_different_and_a_slower_one_is_found() -> None:
    """300 comparisons of noisy pairs (±5 % from start to start, as was seen on shared machines)."""
    rng = np.random.default_rng(1)
    same = [compared(list(np.exp(rng.normal(0, 0.05, PAIRS)))) for _ in range(300)]
    assert sum(one.verdict == "real" for one in same) <= 300 * 0.05
    slower = [compared(list(1.15 * np.exp(rng.normal(0, 0.05, PAIRS)))) for _ in range(300)]
    assert sum(one.verdict == "real" for one in slower) >= 300 * 0.95
    assert all(one.verdict != "not real" for one in slower)


def test_drift_that_meets_both_models_alike_is_none_between_them() -> None:
    pairs = tuple(
        Pair(a_us=10.0 + place, b_us=(10.0 + place) * 1.001, n=(9, 9)) for place in range(PAIRS)
    )
    blank = Comparison(artefact_sha256="b", model="b", recipe="", margin=MARGIN, pairs=pairs)
    assert judged(blank).verdict == "not real"
