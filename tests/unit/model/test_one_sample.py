"""One file as a model's input: pictures, sound, arrays, and what does not suit."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepack.errors import DataError, SpecError
from edgepack.model import taking
from edgepack.model.data import open_data
from edgepack.model.one_sample import sample
from edgepack.model.taking import Taking
from edgepack.spec.data import Dataset, Preprocess

PIXELS = Taking(
    data="photos", source="npz", row_dtype="uint8", preprocess=Preprocess(scale=1 / 255)
)
SOUND = Taking(
    data="words", source="wav-folder", row_dtype="float32", preprocess=Preprocess(size=(8,)),
    rate_hz=16000,
)  # fmt: skip


def picture(path: Path, width: int, height: int, value: int = 255) -> Path:
    Image.new("RGB", (width, height), (value, 0, 0)).save(path)
    return path


def clip(path: Path, samples: int, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.full(samples, 16384, "<i2").tobytes())
    return path


def array(path: Path, values: object, dtype: str = "float32") -> Path:
    np.save(path, np.asarray(values, dtype))
    return path


def test_a_picture_takes_the_models_size_and_the_datas_values(tmp_path):
    found, words = sample(picture(tmp_path / "p.png", 40, 30), (4, 6, 3), PIXELS)
    assert found.shape == (1, 4, 6, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0, 0], [1, 0, 0])
    assert words == "p.png as 4×6×3, then the preprocessing of photos"
    gray, _ = sample(tmp_path / "p.png", (4, 6, 1), PIXELS)
    np.testing.assert_allclose(gray, 76 / 255, atol=1e-6)
    bgr = replace(PIXELS, preprocess=Preprocess(channels="bgr", size=(4, 6)))
    np.testing.assert_array_equal(
        sample(tmp_path / "p.png", (4, 6, 3), bgr)[0][0, 0, 0], [0, 0, 255]
    )


def test_sound_is_cut_or_padded_as_the_data_is(tmp_path):
    long, _ = sample(clip(tmp_path / "a.wav", 20), (8,), SOUND)
    np.testing.assert_array_equal(long, np.full((1, 8), 0.5))
    short, _ = sample(clip(tmp_path / "b.wav", 3), (8, 1), SOUND)
    np.testing.assert_array_equal(short.ravel(), [0.5] * 3 + [0] * 5)


def test_an_array_is_a_row_of_the_data(tmp_path):
    row = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for values in (row, row[None]):
        found, _ = sample(array(tmp_path / "x.npy", values, "uint8"), (2, 2, 3), PIXELS)
        np.testing.assert_allclose(found[0], row / 255, rtol=1e-6)
    as_is, words = sample(tmp_path / "x.npy", (2, 2, 3), None)
    np.testing.assert_array_equal(as_is[0], row)
    assert "taken as it is" in words


@pytest.mark.parametrize(
    ("name", "shape", "how", "words"),
    [
        ("gone.png", (4, 4, 3), PIXELS, "no such file"),
        ("text.txt", (4, 4, 3), PIXELS, "not understood"),
        ("text.png", (4, 4, 3), PIXELS, "cannot be decoded"),
        ("text.wav", (8,), SOUND, "not a PCM WAV"),
        ("text.npy", (8,), PIXELS, "not a NumPy array"),
        ("p.png", (490,), PIXELS, "which is no picture"),
        ("p.png", (4, 4, 3), replace(PIXELS, row_dtype="float32"), "is not known"),
        ("p.png", (4, 4, 3), None, "is 2×2×3, the model takes 4×4×3"),
        ("a.wav", (8,), PIXELS, "is not known"),
        ("a.wav", (8,), replace(SOUND, rate_hz=8000), "has 16000 Hz, the data 'words' 8000 Hz"),
        ("a.wav", (8,), None, "is 5, the model takes 8"),
        ("x.npy", (8,), PIXELS, "is 3, the model takes 8"),
        ("nan.npy", (2,), PIXELS, "NaN"),
        ("words.npy", (2,), PIXELS, "no array of numbers"),
    ],
)
def test_what_does_not_suit_is_one_clear_line(name, shape, how, words, tmp_path):
    for text in ("text.txt", "text.png", "text.wav", "text.npy"):
        (tmp_path / text).write_text("no such thing")
    picture(tmp_path / "p.png", 2, 2)
    clip(tmp_path / "a.wav", 5)
    array(tmp_path / "x.npy", [1, 2, 3])
    array(tmp_path / "nan.npy", [1, np.nan])
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    with pytest.raises(DataError, match=words) as caught:
        sample(tmp_path / name, shape, how)
    assert "\n" not in caught.value.message


def test_what_is_kept_beside_a_pack_is_read_again(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        picture(tmp_path / "photos" / label / "1.png", 5, 4)
    spec = Dataset(
        id="d", source="image-folder", folder=str(tmp_path), path="photos",
        preprocess=Preprocess(size=(2, 2)),
    )  # fmt: skip
    found = taking.of_data(open_data(spec))
    assert (found.labels, found.row_dtype, found.row_shape) == (("cat", "dog"), "uint8", (2, 2, 3))
    assert taking.read(tmp_path) is None
    taking.write(tmp_path, found)
    assert taking.read(tmp_path) == found
    for spoiled in ("[]", "{", '{"data": 3}'):
        (tmp_path / "inputs.json").write_text(spoiled)
        with pytest.raises(SpecError):
            taking.read(tmp_path)


def test_the_rate_of_sound_is_kept(tmp_path):
    (tmp_path / "yes").mkdir()
    clip(tmp_path / "yes" / "1.wav", 12, rate=8000)
    spec = Dataset(id="d", source="wav-folder", folder=str(tmp_path), path=".")
    found = taking.of_data(open_data(spec))
    assert (found.rate_hz, found.labels, found.row_shape) == (8000, ("yes",), (12,))
