"""Made-up inputs are smooth, seeded and in range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import DataError
from edgepack.measuring.inputs import smooth_field, smooth_inputs
from edgepack.records import TensorSpec

IMAGE = TensorSpec(name="image", shape=(1, 32, 32, 3), dtype="int8", scale=1.0, zero_point=-128)


def spec(dtype: str, shape: tuple[int, ...] = (1, 6), scale: float | None = None) -> TensorSpec:
    return TensorSpec(name="x", shape=shape, dtype=dtype, scale=scale, zero_point=0)


def test_the_seed_decides() -> None:
    one, same, other = (smooth_inputs([IMAGE], 3, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len({sample.tobytes() for sample in one}) == 3


def test_neighbours_are_close() -> None:
    (stack,) = smooth_inputs([IMAGE], 2, 0)
    image = stack.astype(float)
    across = np.abs(np.diff(image, axis=2)).mean()
    assert across < 0.35 * np.abs(image[:, :, :1] - image[:, :, 16:17]).mean() + 20
    assert image.max() - image.min() > 100


@given(st.lists(st.integers(1, 40), min_size=0, max_size=4), st.integers(0, 99))
def test_a_field_has_its_shape_and_stays_in_range(shape: list[int], seed: int) -> None:
    field = smooth_field(tuple(shape), np.random.default_rng(seed))
    assert field.shape == tuple(shape)
    assert field.min() >= 0
    assert field.max() <= 1


@pytest.mark.parametrize(
    ("dtype", "scale", "low", "high"),
    [
        ("float32", None, 0, 1),
        ("float16", None, 0, 1),
        ("int8", 0.1, -128, 127),
        ("uint8", 0.1, 0, 255),
        ("int16", 0.1, -32768, 32767),
        ("int32", None, 0, 1),
        ("int64", None, 0, 1),
        ("int32", 0.1, -32768, 65535),
        ("bool", None, 0, 1),
        ("complex64", None, 0, 1),
    ],
)
def test_types_and_ranges(dtype: str, scale: float | None, low: int, high: int) -> None:
    (stack,) = smooth_inputs([spec(dtype, (1, 50), scale)], 8, 0)
    assert (stack.dtype.name, stack.shape) == (dtype, (8, 1, 50))
    assert low <= stack.real.min() < stack.real.max() <= high


def test_open_dimensions_and_scalars() -> None:
    stacks = smooth_inputs([spec("float32", (-1, 4)), spec("int32", ())], 2, 0)
    assert [stack.shape for stack in stacks] == [(2, 1, 4), (2,)]


@pytest.mark.parametrize("dtype", ["string", "resource", "int4x", "datetime64"])
def test_what_cannot_be_made_up(dtype: str) -> None:
    with pytest.raises(DataError, match="'x'") as caught:
        smooth_inputs([spec(dtype)], 1, 0)
    assert "--inputs" in caught.value.hint
