from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.reporting import units

ANY = st.none() | st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.11, "0.11"),
        (5.0, "5"),
        (1234.5, "1,234"),
        (0.00012345, "0.000123"),
        (1e-12, "1.00e-12"),
        (-2.5, "-2.5"),
        (99.96, "100"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_three_digits_without_exponent(value: float | None, text: str) -> None:
    assert units.digits(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1000, "1,000 B"),
        (1024, "1 KiB"),
        (94_888, "92.7 KiB"),
        (1024**2 - 1, "1 MiB"),
        (3 * 1024**3, "3 GiB"),
        (5 * 1024**4, "5,120 GiB"),
        (None, "–"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0.5, "0.5 µs"),
        (96.25, "96.2 µs"),
        (999.9, "1 ms"),
        (1234, "1.23 ms"),
        (2.5e6, "2.5 s"),
        (90e6, "1.5 min"),
        (math.nan, "–"),
    ],
)
def test_durations(microseconds: float, text: str) -> None:
    assert units.duration(microseconds) == text


def test_counts_scores_and_intervals() -> None:
    assert units.quantity(12_501_632) == "12.5 M"
    assert units.quantity(640) == "640"
    assert units.score("top1", 0.98063) == "98.06 %"
    assert units.score("mae", 0.0123456) == "0.01235"
    assert units.score("top1", None) == units.NOTHING
    assert units.spread(95.0, 97.0) == "± 1 µs"
    assert units.spread(None, 97.0) == ""
    assert units.spread(8.43, 8.43) == "± < 0.05 µs"


def test_changes_turn_the_sign_of_a_loss() -> None:
    assert units.change("top1", 0.0028) == "−0.28 points"
    assert units.change("top1", -0.01) == "+1.00 points"
    assert units.change("top1", 0.0) == "±0.00 points"
    assert units.change("auc", 0.02) == "−0.02"
    assert units.change("mse", 0.02) == "+0.02"
    assert units.change("mse", None) == units.NOTHING


def test_a_loss_is_worse_for_both_kinds_of_metric() -> None:
    assert units.loss("top1", 0.9, 0.8) == pytest.approx(0.1)
    assert units.loss("mae", 0.9, 0.8) == pytest.approx(-0.1)
    assert units.loss("mae", None, 0.8) is None
    assert units.loss("mae", 0.9, math.nan) is None


def test_ratios_say_which_way() -> None:
    assert units.ratio(335, 100, "smaller", "larger") == "3.35× smaller"
    assert units.ratio(100, 200, "smaller", "larger") == "2× larger"
    assert units.ratio(1000, 1001, "smaller", "larger") == "the same"
    assert units.ratio(0, 5, "smaller", "larger") == ""
    assert units.ratio(None, 5, "smaller", "larger") == ""


def test_points() -> None:
    assert units.points(0.01) == "1 point"
    assert units.points(-0.0028) == "−0.28 points"


def test_the_chance_interval_of_a_share() -> None:
    # Wilson for 50 of 100: 0.4038 to 0.5962.
    assert units.chance(0.5, 100) == pytest.approx(0.0962, abs=1e-4)
    assert units.chance(0.5, 0) is None
    assert units.chance(1.5, 10) is None
    assert units.chance(None, 10) is None


def test_two_numbers_get_the_digits_that_tell_them_apart() -> None:
    assert units.apart(5.0004, 5.0) == ("5.0004", "5")
    assert units.apart(7.1, 5.0) == ("7.1", "5")
    assert units.apart(5.0, 5.0) == ("5", "5")


@given(ANY)
def test_no_number_is_ever_written_as_nan(value: float | None) -> None:
    for text in (
        units.digits(value),
        units.size(value),
        units.duration(value),
        units.quantity(value),
        units.score("top1", value),
        units.score("mse", value),
        units.change("top1", value),
        units.change("mse", value),
        units.ratio(value, 3.0, "less", "more"),
        units.spread(value, 3.0),
    ):
        assert "nan" not in text.lower()
        assert "inf" not in text.lower()


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_rounding_keeps_three_digits(value: float) -> None:
    assert float(units.digits(value).replace(",", "")) == pytest.approx(value, rel=0.0051)
