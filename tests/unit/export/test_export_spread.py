"""Running sums against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepack.export.spread import NOTHING_LEFT, Error, Spread, ratio

VALUES = arrays(np.float32, (6, 5), elements=st.floats(-100, 100, width=32))


@given(VALUES, VALUES, st.integers(1, 5))
def test_an_error_is_the_same_in_one_piece_and_in_two(found, wanted, cut):
    error = Error()
    error.add(found[:cut], wanted[:cut])
    error.add(found[cut:], wanted[cut:])
    f, w = found.astype(np.float64), wanted.astype(np.float64)
    noise, signal = ((f - w) ** 2).sum(), (w**2).sum()
    record = error.record(0.5)
    if noise == 0:
        assert record.sqnr_db is None
    elif signal == 0:
        assert record.sqnr_db == NOTHING_LEFT
    else:
        plain = 10 * np.log10(signal / noise)
        assert record.sqnr_db == pytest.approx(max(plain, NOTHING_LEFT), abs=1e-6)
    both = np.sqrt(signal * (f**2).sum())
    assert record.cosine == (pytest.approx((f * w).sum() / both) if both else None)
    assert record.max_abs == pytest.approx(np.abs(f - w).max())
    assert record.max_lsb == pytest.approx(2 * record.max_abs)


def test_values_that_are_not_finite_leave_nothing():
    error = Error()
    error.add(np.array([1.0, np.nan]), np.ones(2))
    error.add(np.ones(2), np.ones(2))
    record = error.record(1.0)
    assert (record.sqnr_db, record.max_abs, record.max_lsb) == (NOTHING_LEFT, None, None)


def test_an_outlier_widens_the_range_and_its_channel():
    values = np.random.default_rng(0).uniform(-1, 1, (4, 50, 50, 3))
    spread = Spread()
    spread.add(values)
    assert spread.range_ratio() == pytest.approx(1, abs=0.01)
    assert spread.channel_ratio == pytest.approx(1, abs=0.01)
    values[0, 0, 0, 1] = 20
    spread.add(values)
    assert spread.range_ratio() == pytest.approx(10.5, rel=0.02)
    assert spread.range_ratio(span=4.0) == pytest.approx(2, rel=0.02)
    assert spread.channel_ratio == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize(
    ("largest", "found"), [([1, 2, 8], 4), ([0, 0, 3], None), ([0, 2, 6], 1.5), (None, None)]
)
def test_dead_channels_do_not_count(largest, found):
    given_ = None if largest is None else np.array(largest, np.float64)
    assert ratio(given_) == found
