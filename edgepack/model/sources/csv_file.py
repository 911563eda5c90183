"""A table in a CSV file with a header, read line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgepack.errors import DataError
from edgepack.model.rows import Array, Batch, Table
from edgepack.model.sources import digest, located, suggestion
from edgepack.spec.data import Dataset


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """One input of as many features as ``x`` names columns (all but ``y`` by default).

    Labels that are no numbers become the classes' positions in sorted order.
    """
    path = located(spec, folder=False)
    header = next((line for _, line in _lines(path)), None)
    if header is None:
        raise DataError(f"{path}: the file is empty", "give a header and rows")
    wanted = (spec.x,) if isinstance(spec.x, str) else spec.x
    names = wanted or tuple(name for name in header if name != spec.y)
    features = [_position(name, header, path) for name in names]
    label = _position(spec.y, header, path) if spec.y else None
    length, classes = _scanned(path, len(header), label)

    def labelled(text: str, number: int) -> float:
        return classes[text] if classes is not None else _number(text, number, path)

    def rows(indices: Array) -> Iterator[tuple[list[float], float]]:
        wanted_rows, at = indices.tolist(), 0
        for row, (number, line) in enumerate(_lines(path), start=-1):
            if at == len(wanted_rows):
                return
            if row == wanted_rows[at]:
                at += 1
                values = [_number(line[index], number, path) for index in features]
                yield values, 0.0 if label is None else labelled(line[label], number)

    def read(indices: Array, size: int) -> Iterator[Batch]:
        held: list[tuple[list[float], float]] = []
        for row in rows(indices):
            held.append(row)
            if len(held) == size:
                yield batch(held)
                held = []
        if held:
            yield batch(held)

    def batch(held: list[tuple[list[float], float]]) -> Batch:
        x = np.array([values for values, _ in held], dtype=np.float64)
        return Batch(x=(x,), y=None if label is None else _whole([y for _, y in held]))

    def labels(indices: Array) -> Array:
        return _whole([y for _, y in rows(indices)])

    return Table(
        length=length,
        read=read,
        labels=None if label is None else labels,
        digest=lambda: digest(path),
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the header and of every row that is not blank."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error, OSError) as exc:
        raise DataError(f"{path}: not a CSV file: {exc}", "save it as UTF-8 text") from exc


def _position(name: str, header: list[str], path: Path) -> int:
    if header.count(name) > 1:
        raise DataError(f"{path}: has {header.count(name)} columns '{name}'", "rename all but one")
    if name in header:
        return header.index(name)
    raise DataError(f"{path}: has no column '{name}'", suggestion(name, header))


def _scanned(path: Path, width: int, label: int | None) -> tuple[int, dict[str, int] | None]:
    """(number of rows, positions of the classes where labels are words)."""
    length, words = -1, False
    for number, line in _lines(path):
        if len(line) != width:
            raise DataError(
                f"{path}: line {number} has {len(line)} cells, the header {width}", "mend that line"
            )
        length += 1
        words = words or (label is not None and length > 0 and not _is_number(line[label]))
    if not words or label is None:
        return length, None
    every = sorted({line[label] for index, (_, line) in enumerate(_lines(path)) if index})
    return length, {word: position for position, word in enumerate(every)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, line: int, path: Path) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise DataError(f"{path}: line {line}: '{text}' is not a number", "mend that cell") from exc


def _whole(values: list[float]) -> Array:
    """Labels as integers where all of them are."""
    array = np.array(values, dtype=np.float64)
    finite = np.isfinite(array).all()
    return array.astype(np.int64) if finite and (array == np.rint(array)).all() else array
