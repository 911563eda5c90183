"""Images in a folder, decoded one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepack.errors import DataError
from edgepack.model.preprocess import shaped
from edgepack.model.rows import Array, Table
from edgepack.model.sources import located
from edgepack.model.sources.files import of_files
from edgepack.spec.data import Dataset, Preprocess

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp", ".tif"})


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """Images as uint8 height × width × channels (1 for gray ones, else RGB)."""
    folder = located(spec, folder=True)
    return of_files(folder, SUFFIXES, lambda path: picture(path, spec.preprocess))


def picture(path: Path, preprocess: Preprocess) -> Array:
    """One image in the wanted size and channel order. Raises DataError where it is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            wanted = {"gray": "L", None: "L" if image.mode in ("L", "1") else "RGB"}
            pixels = np.asarray(image.convert(wanted.get(preprocess.channels, "RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        reason = (str(exc).splitlines() or ["damaged"])[0]
        raise DataError(f"{path}: cannot be decoded: {reason}", "mend or remove the file") from exc
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return shaped(pixels, preprocess, str(path))
