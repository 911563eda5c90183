"""Folders of files: one sample a file, subfolders are the classes in sorted order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import DataError
from edgepack.model.rows import Array, Batch, Table
from edgepack.model.sources import digest


def of_files(folder: Path, suffixes: frozenset[str], read_one: Callable[[Path], Array]) -> Table:
    """A table of the files with those suffixes, sorted by path; a flat folder has no labels."""
    files, numbers = listed(folder, suffixes)

    def labels(indices: Array) -> Array:
        return np.array([numbers[index] for index in indices], dtype=np.int64)

    def read(indices: Array, size: int) -> Iterator[Batch]:
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            rows = [read_one(files[index]) for index in part]
            for index, row in zip(part, rows, strict=True):
                if row.shape != rows[0].shape:
                    raise DataError(
                        f"{files[index]}: is {_by(row.shape)}, another file {_by(rows[0].shape)}",
                        "give [preprocess] a size, and channels for images",
                    )
            yield Batch(x=(np.stack(rows),), y=labels(part) if numbers else None)

    return Table(
        length=len(files),
        read=read,
        labels=labels if numbers else None,
        digest=lambda: digest(folder),
        shaped=True,
    )


def classes(folder: Path) -> tuple[str, ...]:
    """The names of the classes, in the order of their numbers; none in a flat folder."""
    return tuple(place.name for place in _subfolders(folder))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def listed(folder: Path, suffixes: frozenset[str]) -> tuple[list[Path], list[int]]:
    """(the files, sorted by path; the number of each one's class). Raises DataError for none."""
    subfolders = _subfolders(folder)
    files: list[Path] = []
    numbers: list[int] = []
    for number, place in enumerate(subfolders or [folder]):
        inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in suffixes)
        files += inside
        numbers += [number] * len(inside) if subfolders else []
    if not files:
        raise DataError(f"{folder}: holds no file of {', '.join(sorted(suffixes))}", "check path")
    return files, numbers


def _by(shape: tuple[Any, ...]) -> str:
    return "×".join(str(size) for size in shape)
