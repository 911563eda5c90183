"""Sound in a folder of WAV files: PCM of 8 to 32 bits as numbers from -1 to 1."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from edgepack.errors import DataError
from edgepack.model.preprocess import shaped
from edgepack.model.rows import Array, Table
from edgepack.model.sources import located
from edgepack.model.sources.files import of_files
from edgepack.spec.data import Dataset

SUFFIXES = frozenset({".wav"})


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """Sound as float32 (samples,), or (samples, channels) where there are several.

    ``size = [samples]`` crops longer files and pads shorter ones with silence.
    """
    folder = located(spec, folder=True)
    rates: dict[int, Path] = {}

    def read_one(path: Path) -> Array:
        sound, rate = decode(path)
        rates.setdefault(rate, path)
        if len(rates) > 1:
            known = ", ".join(f"{rate} Hz in {path.name}" for rate, path in rates.items())
            raise DataError(f"{folder}: sampled at different rates: {known}", "resample the files")
        return shaped(sound, spec.preprocess, str(path))

    return of_files(folder, SUFFIXES, read_one)


def decode(path: Path) -> tuple[Array, int]:
    """(samples from -1 to 1, the rate in Hz). Raises DataError for anything but PCM."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as exc:
        reason = str(exc) or "it ends early"
        raise DataError(f"{path}: not a PCM WAV file: {reason}", "save it as 16-bit PCM") from exc
    content = content[: len(content) // (width * channels) * width * channels]
    sound = _numbers(content, width)
    return (sound.reshape(-1, channels) if channels > 1 else sound), rate


def _numbers(content: bytes, width: int) -> Array:
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        parts = np.frombuffer(content, np.uint8).reshape(-1, 3)
        padded = np.zeros((len(parts), 4), np.uint8)
        padded[:, 1:] = parts
        return (padded.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    integers = np.frombuffer(content, "<i2" if width == 2 else "<i4")
    return (integers / 2.0 ** (8 * width - 1)).astype(np.float32)
