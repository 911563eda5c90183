"""Arrays in a NumPy archive, read by rows, compressed or not."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from edgepack.errors import DataError
from edgepack.model.rows import Table, of_columns
from edgepack.model.sources import digest, located, suggestion
from edgepack.model.sources.npy import column
from edgepack.spec.data import Dataset


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """The arrays named by ``x`` (the default is ``x``, or the only one there) and ``y``."""
    path = located(spec, folder=False)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as exc:
        raise DataError(f"{path}: damaged or not an .npz file: {exc}", "save it again") from exc
    wanted = (spec.x,) if isinstance(spec.x, str) else spec.x
    if wanted is None:
        wanted = (names[0],) if len(names) == 1 else ("x",)
    for name in (*wanted, *([spec.y] if spec.y else [])):
        _check_name(name, names, path)
    return of_columns(
        [column(name, _opened(path, name), str(path)) for name in wanted],
        column(spec.y, _opened(path, spec.y), str(path)) if spec.y else None,
        str(path),
        lambda: digest(path),
    )


def _check_name(name: str, names: list[str], path: Path) -> None:
    if name not in names:
        raise DataError(f"{path}: has no array '{name}'", suggestion(name, names))


def _opened(path: Path, name: str) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:
            member = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
            return archive.open(member)

    return opened
