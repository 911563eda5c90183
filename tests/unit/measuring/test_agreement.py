"""The device's outputs against the host's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from edgepack.errors import MeasureError
from edgepack.measuring.agreement import agreement
from edgepack.records import TensorSpec

INT8 = TensorSpec(name="class", shape=(1, 4), dtype="int8", scale=0.5, zero_point=-2)
FLOAT = TensorSpec(name="box", shape=(1, 2), dtype="float32")
CLASSES = np.array([[[1, 2, 3, 4]], [[9, 2, 3, 4]]], np.int8)
BOXES = np.array([[[0.5, 1.0]], [[0.0, np.nan]]], np.float32)


def test_the_same_outputs_agree_even_where_they_are_no_numbers() -> None:
    found = agreement([CLASSES, BOXES], [CLASSES.copy(), BOXES.copy()], [INT8, FLOAT])
    assert (found.samples, found.max_abs, found.max_abs_lsb) == (2, 0, 0)
    assert (found.top1_match, found.first_divergence) == (1, None)


def test_steps_and_real_units_are_told_apart() -> None:
    other = CLASSES.copy()
    other[1, 0] = [1, 2, 3, 7]
    boxes = BOXES.copy()
    boxes[1, 0, 0] = 1.25
    found = agreement([other, boxes], [CLASSES, BOXES], [INT8, FLOAT])
    assert (found.max_abs, found.max_abs_lsb, found.top1_match) == (4.0, 8.0, 0.5)
    where = "sample 1, output 'class' at [0, 0]: 1 on the device, 9 on the host"
    assert found.first_divergence == where


def test_the_first_divergence_is_by_sample_then_by_output() -> None:
    classes, boxes = CLASSES.copy(), BOXES.copy()
    classes[1, 0, 3] = 0
    boxes[0, 0, 1] = 2
    found = agreement([classes, boxes], [CLASSES, BOXES], [INT8, FLOAT])
    assert (
        found.first_divergence == "sample 0, output 'box' at [0, 1]: 2 on the device, 1 on the host"
    )


def test_not_a_number_on_one_side_is_infinitely_far() -> None:
    other = BOXES.copy()
    other[0, 0, 0] = np.nan
    found = agreement([other], [BOXES], [FLOAT])
    assert found.max_abs == math.inf
    assert found.max_abs_lsb is None
    assert "nan on the device" in (found.first_divergence or "")


def test_infinities_agree_with_themselves_only() -> None:
    one = np.array([[np.inf, -np.inf]], np.float32)
    assert agreement([one], [one.copy()], [FLOAT]).max_abs == 0
    assert agreement([one], [-one], [FLOAT]).max_abs == math.inf


def test_one_value_has_no_arg_max() -> None:
    one = np.zeros((3, 1), np.float32)
    assert agreement([one], [one], [FLOAT]).top1_match is None
    assert agreement([], [], []).max_abs is None


@pytest.mark.parametrize("other", [CLASSES[:1], CLASSES.astype(np.int16), CLASSES[:, 0]])
def test_outputs_of_another_kind_are_an_error(other: np.ndarray) -> None:
    with pytest.raises(MeasureError, match="are not the host's"):
        agreement([other], [CLASSES], [INT8])
    with pytest.raises(MeasureError):
        agreement([CLASSES], [CLASSES], [INT8, FLOAT])


@given(arrays(np.int8, (3, 1, 4)), arrays(np.int8, (3, 1, 4)))
def test_it_is_symmetric_and_bounded(one: np.ndarray, other: np.ndarray) -> None:
    there, back = agreement([one], [other], [INT8]), agreement([other], [one], [INT8])
    assert (there.max_abs, there.top1_match) == (back.max_abs, back.top1_match)
    largest = int(np.abs(one.astype(int) - other.astype(int)).max())
    assert (there.max_abs_lsb, there.max_abs) == (largest, largest / 2)
    assert (there.first_divergence is None) == (largest == 0)


def test_a_floats_scale_means_nothing() -> None:
    scaled = TensorSpec(name="box", shape=(1, 2), dtype="float32", scale=0.5, zero_point=3)
    found = agreement([BOXES[:1]], [BOXES[:1] + 1], [scaled])
    assert (found.max_abs, found.max_abs_lsb) == (1.0, None)
