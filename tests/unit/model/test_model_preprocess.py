import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepack.model.preprocess import shaped, valued
from edgepack.spec.data import Preprocess


@given(
    arrays(np.uint8, (3, 2, 2, 3)),
    st.floats(-10, 10, width=32).filter(bool),
    st.tuples(*[st.floats(-300, 300, width=32)] * 3),
    st.sampled_from(["int8", "uint8", "int16", "float32", "int64"]),
)
def test_values_are_scaled_offset_rounded_and_kept_in_range(batch, scale, offset, dtype):
    made = valued(batch, Preprocess(scale=scale, offset=offset, dtype=dtype), "set")
    real = batch * np.float64(scale) + np.asarray(offset)
    assert made.dtype == dtype
    if made.dtype.kind == "f":
        np.testing.assert_allclose(made, real, rtol=1e-6, atol=1e-5)
    else:
        limits = np.iinfo(dtype)
        np.testing.assert_array_equal(made, np.clip(np.rint(real), limits.min, limits.max))


def test_integers_are_kept_in_range_without_scaling():
    made = valued(np.array([[-5, 200]]), Preprocess(dtype="int8"), "set")
    assert made.tolist() == [[-5, 127]]


def test_channel_orders():
    pixel = np.array([[[200, 100, 50]]], np.uint8)
    assert shaped(pixel, Preprocess(channels="bgr"), "s").tolist() == [[[50, 100, 200]]]
    assert shaped(pixel, Preprocess(channels="rgb"), "s").tolist() == pixel.tolist()
    assert shaped(pixel, Preprocess(channels="gray"), "s").tolist() == [[[124]]]
    floating = shaped(pixel.astype(np.float32), Preprocess(channels="gray"), "s")
    assert floating[0, 0, 0] == pytest.approx(124.2)
    gray = np.array([[7]], np.uint8)
    assert shaped(gray, Preprocess(channels="rgb"), "s").tolist() == [[[7, 7, 7]]]
    assert shaped(gray, Preprocess(channels="gray"), "s").tolist() == [[[7]]]
    alpha = np.array([[[1, 2, 3, 255]]], np.uint8)
    assert shaped(alpha, Preprocess(channels="rgb"), "s").tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_and_bytes_are_resized_alike(channels):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    small = shaped(image, Preprocess(size=(4, 5)), "s")
    exact = shaped(image.astype(np.float32), Preprocess(size=(4, 5)), "s")
    assert small.shape == exact.shape == (4, 5, channels)
    assert np.abs(small - exact).max() <= 1
    assert shaped(image, Preprocess(size=(9, 7)), "s") is image


def test_sound_is_cut_and_filled():
    sound = np.array([[1, 2], [3, 4]])
    assert shaped(sound, Preprocess(size=(3,)), "s").tolist() == [[1, 2], [3, 4], [0, 0]]
    assert shaped(sound, Preprocess(size=(1,)), "s").tolist() == [[1, 2]]
