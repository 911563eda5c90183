"""Real numbers to stored ones and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.errors import ModelError
from edgepack.graph.values import carrier, dequantise, quantise, unstacked
from edgepack.records import TensorSpec

RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "int4": (-8, 7),
    "int2": (-2, 1),
    "uint4": (0, 15),
    "int32": (-(2**31), 2**31 - 1),
}


def spec(dtype: str, scale: float | None = None, zero_point: int | None = None) -> TensorSpec:
    return TensorSpec(name="x", shape=(1,), dtype=dtype, scale=scale, zero_point=zero_point)


@st.composite
def quantised(draw: st.DrawFn) -> TensorSpec:
    dtype = draw(st.sampled_from(["int8", "uint8", "int16", "int4", "int2", "uint4"]))
    low, high = RANGES[dtype]
    scale = float(np.float32(draw(st.floats(1e-6, 1e3))))
    return spec(dtype, scale, draw(st.integers(low, high)))


@given(quantised(), hnp.arrays(np.float32, 20, elements=st.floats(-1e6, 1e6, width=32)))
def test_error_is_half_a_step_inside_the_range_and_saturated_outside(of, real):
    stored = quantise(real, of)
    low, high = RANGES[of.dtype]
    assert stored.dtype == carrier(of.dtype)
    assert stored.min() >= low
    assert stored.max() <= high
    steps = real.astype(np.float64) / of.scale + of.zero_point
    inside = (steps > low) & (steps < high)
    error = np.abs(dequantise(stored, of).astype(np.float64) - real)
    slack = 1e-6 * np.maximum(np.abs(real), of.scale) * 4
    assert np.all(error[inside] <= of.scale / 2 + slack[inside])
    assert np.all(stored[steps > high + 1] == high)
    assert np.all(stored[steps < low - 1] == low)


@given(quantised(), st.data())
def test_stored_values_survive_the_round_trip(of, data):
    low, high = RANGES[of.dtype]
    stored = data.draw(
        hnp.arrays(carrier(of.dtype), 10, elements=st.integers(low, high)), label="stored"
    )
    assert np.array_equal(quantise(dequantise(stored, of), of), stored)


def test_halves_round_away_from_zero():
    real = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997], np.float32)
    assert quantise(real, spec("int8", 1.0, 0)).tolist() == [1, 2, 3, -1, -2, -3, 0]


def test_extremes_saturate_and_nan_is_the_zero_point():
    real = np.array([np.inf, -np.inf, np.nan, 3e38], np.float32)
    assert quantise(real, spec("int8", 1e-3, -5)).tolist() == [127, -128, -5, 127]
    assert quantise(real, spec("int64", 1e-3, 0)).tolist()[:2] == [2**63 - 1, -(2**63)]


def test_a_float_tensor_is_only_cast():
    real = np.array([1.25, -3.0])
    assert quantise(real, spec("float32")).dtype == np.float32
    assert quantise(real, spec("float16")).tolist() == [1.25, -3.0]
    assert dequantise(np.array([1.5], np.float16), spec("float16")).dtype == np.float32
    assert quantise(real, spec("bool")).tolist() == [True, True]


def test_integers_without_a_scale_saturate():
    assert quantise(np.array([300.0, -1.0]), spec("uint8")).tolist() == [255, 0]
    assert quantise(np.array([2**40]), spec("int32")).tolist() == [2**31 - 1]
    same = np.array([2**62 + 1])
    assert quantise(same, spec("int64")).tolist() == same.tolist()


def test_types_without_numbers_are_refused():
    with pytest.raises(ModelError, match="resource"):
        carrier("resource")


def test_a_floats_scale_means_nothing() -> None:
    values = np.array([1.5, -2.0], np.float32)
    scaled = spec("float32", 0.5, 3)
    np.testing.assert_array_equal(quantise(values, scaled), values)
    np.testing.assert_array_equal(dequantise(values, scaled), values)


def test_the_tensors_own_batch_goes() -> None:
    stored = np.array([[[1, 2]], [[9, 2]]], np.int8)
    found = unstacked(stored, spec("int8", 0.5, -2))
    assert (found.dtype, found.tolist()) == (np.float32, [[1.5, 2.0], [5.5, 2.0]])
    assert unstacked(np.zeros((5, 1), np.int64), spec("int64")).shape == (5,)
    assert unstacked(np.zeros((5, 2), np.float32), spec("float32")).shape == (5, 2)
    assert unstacked(np.zeros(5, np.float32), spec("float32")).shape == (5,)
