"""NumPy arrays, one a file; also the reading of the format itself, which ``npz`` shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgepack.errors import DataError
from edgepack.model.rows import ArrayColumn, Column, StreamColumn, Table, of_columns
from edgepack.model.sources import digest, located
from edgepack.spec.data import Dataset

LONGEST_HEADER = 1 << 16


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """A file of samples and perhaps a second of labels (``y``), or a folder that holds both.

    In a folder, ``x`` names one file or several, with ``x.npy`` as the default.
    """
    path = located(spec, folder=None)
    names = (spec.x,) if isinstance(spec.x, str) else spec.x or ("x",)
    if path.is_dir():
        files = [_inside(path, name) for name in names]
        labels = _inside(path, spec.y) if spec.y else None
    else:
        if spec.x is not None:
            raise DataError(f"{path}: x = {spec.x!r} is for a folder of arrays", "drop x")
        files = [path]
        labels = _inside(path.parent, spec.y) if spec.y else None
    every = [*files, *([labels] if labels else [])]
    return of_columns(
        [column(file.name, _opened(file), str(file)) for file in files],
        column(labels.name, _opened(labels), str(labels)) if labels else None,
        str(path),
        lambda: digest(*every) if len(every) == 1 or not path.is_file() else digest(path),
    )


def _opened(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _inside(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.npy"):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.glob("*.npy"))) or "no .npy file"
    raise DataError(f"{folder / name}: no such file", f"there: {there}")


def column(name: str, opened: Callable[[], IO[bytes]], where: str) -> Column:
    """The array that starts where ``opened`` opens. Raises DataError for what is no array.

    An array in Fortran order cannot be read by rows and is read whole.
    """
    try:
        with opened() as stream:
            shape, fortran, dtype = _header(stream)
            if dtype.hasobject:
                raise DataError(
                    f"{where}: '{name}' holds Python objects, which are refused",
                    "save plain numbers",
                )
            if dtype.kind not in "biuf":
                raise DataError(f"{where}: '{name}' holds {dtype}, not numbers", "save numbers")
            if not shape:
                raise DataError(f"{where}: '{name}' is a single value", "name an array of rows")
            if fortran and len(shape) > 1:
                whole = np.frombuffer(stream.read(), dtype)
                return ArrayColumn(name=name, array=whole.reshape(shape[::-1]).T)
    except DataError:
        raise
    except (ValueError, EOFError, OSError, SyntaxError, TypeError) as exc:
        reason = (str(exc).splitlines() or ["damaged"])[0]
        raise DataError(
            f"{where}: '{name}' is not a NumPy array: {reason}", "save it again"
        ) from exc

    def at_first_row() -> IO[bytes]:
        stream = opened()
        _header(stream)
        return stream

    return StreamColumn(
        name=name, length=shape[0], shape=shape[1:], dtype=dtype, opened=at_first_row
    )


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(stream, max_header_size=LONGEST_HEADER)
    return shape, fortran, dtype
