"""Data in: a description becomes batches, read lazily, selected and preprocessed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from edgepack.errors import DataError
from edgepack.model.preprocess import shaped, valued
from edgepack.model.rows import Array, Batch, Table
from edgepack.model.sources import open_table
from edgepack.spec.data import Dataset

__all__ = ["Batch", "Data", "digest_rows", "open_data", "overlap"]
PASS_ROWS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Samples as a model takes them. Rows come in ascending order of their index.

    ``x_shapes`` are the shapes of one sample of each input, without a batch dimension;
    ``x_dtypes`` their dtypes.
    """

    spec: Dataset
    table: Table
    indices: Array
    x_shapes: tuple[tuple[int, ...], ...]
    x_dtypes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int = PASS_ROWS) -> Iterator[Batch]:
        """Preprocessed batches of ``size`` samples; the last may be smaller.

        Raises DataError where values are not finite, or a file is damaged.
        """
        if size < 1:
            raise DataError(f"{self.spec.id}: a batch of {size} samples", "ask for at least 1")
        done = 0
        for raw in self.table.read(self.indices, size):
            yield _prepared(raw, self.table, self.spec, self.indices[done:])
            done += len(raw.x[0])

    def raw(self, size: int = PASS_ROWS) -> Iterator[Batch]:
        """The same batches as they were decoded, before preprocessing."""
        yield from self.table.read(self.indices, size)

    def labels(self) -> Array | None:
        """The labels of all samples, or None."""
        if self.table.labels is None:
            return None
        return self.table.labels(self.indices)

    def select(self, indices: Sequence[int] | Array) -> Data:
        """The samples at those positions of this data set, in ascending order."""
        chosen = _checked(np.asarray(indices), len(self), self.spec.id)
        return replace(self, indices=self.indices[chosen])

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the preprocessed samples and their labels: what a result depends on.

        Reads every sample, once.
        """
        found = hashlib.sha256(repr((self.x_shapes, self.x_dtypes, len(self))).encode())
        for batch in self.batches():
            for array in (*batch.x, *([] if batch.y is None else [batch.y])):
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def open_data(spec: Dataset, *, allow_code: bool = False) -> Data:
    """The data that a description names.

    Raises DataError where the source is missing, damaged, empty, changed since its ``sha256``
    was noted, holds objects instead of numbers, or does not suit its description; and where
    Python code would run without ``allow_code``.
    """
    table = open_table(spec, allow_code)
    if spec.sha256 is not None:
        found = table.digest()
        if found != spec.sha256:
            raise DataError(
                f"{spec.id}: the source has changed: its sha256 is {found}",
                f"get the file with {spec.sha256} again, or mend sha256",
            )
    if table.length == 0:
        raise DataError(f"{spec.id}: the source holds no samples", "give at least one")
    indices = _selected(spec, table.length)
    first = next(table.read(indices[:1], 1))
    prepared = _prepared(first, table, spec, indices)
    return Data(
        spec=spec,
        table=table,
        indices=indices,
        x_shapes=tuple(array.shape[1:] for array in prepared.x),
        x_dtypes=tuple(str(array.dtype) for array in prepared.x),
    )


def _selected(spec: Dataset, length: int) -> Array:
    """Indices of the samples that a description chooses, ascending."""
    if spec.indices is not None:
        return _checked(np.asarray(spec.indices), length, spec.id)
    if spec.count is None:
        return np.arange(length)
    if spec.count < 1:
        raise DataError(f"{spec.id}: count is {spec.count}", "choose at least one sample")
    if spec.count > length:
        raise DataError(
            f"{spec.id}: count is {spec.count}, but the source holds {length}",
            f"choose at most {length}",
        )
    chosen = np.random.default_rng(spec.seed).choice(length, spec.count, replace=False)
    return np.sort(chosen)


def _checked(indices: Array, length: int, where: str) -> Array:
    if indices.size == 0:
        raise DataError(f"{where}: no indices", "choose at least one sample")
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise DataError(f"{where}: indices are not whole numbers", "give positions from 0")
    wrong = indices[(indices < 0) | (indices >= length)]
    if wrong.size:
        raise DataError(
            f"{where}: index {wrong[0]} is out of range: there are {length} samples",
            f"choose from 0 to {length - 1}",
        )
    ordered = np.sort(indices)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        raise DataError(f"{where}: index {twice[0]} is chosen twice", "choose each sample once")
    return ordered


def _prepared(raw: Batch, table: Table, spec: Dataset, indices: Array) -> Batch:
    """A decoded batch after preprocessing, its values checked to be finite."""
    arrays = []
    for array in raw.x:
        _check_finite(array, spec.id, "its values", indices)
        if not table.shaped and (spec.preprocess.size or spec.preprocess.channels):
            array = np.stack([shaped(row, spec.preprocess, spec.id) for row in array])
        made = valued(array, spec.preprocess, spec.id)
        _check_finite(made, spec.id, f"its values as {spec.preprocess.dtype}", indices)
        arrays.append(made)
    if raw.y is not None:
        _check_finite(raw.y, spec.id, "its labels", indices)
    return Batch(x=tuple(arrays), y=raw.y)


def _check_finite(array: Array, where: str, what: str, indices: Array) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    raise DataError(
        f"{where}: {what} are NaN or infinite in sample {indices[int(np.argmax(bad))]}",
        "mend or leave out that sample",
    )


def digest_rows(batches: Iterator[Batch]) -> Iterator[bytes]:
    """A digest of 16 bytes for each sample, over all its inputs."""
    for batch in batches:
        for row in zip(*batch.x, strict=True):
            found = hashlib.blake2b(digest_size=16)
            for array in row:
                part: Any = np.ascontiguousarray(array)
                found.update(f"{part.shape}{part.dtype}".encode())
                found.update(part.tobytes())
            yield found.digest()


def overlap(a: Data, b: Data) -> int:
    """How many samples of ``b`` are also in ``a``: decoded alike, or alike when preprocessed."""
    known_raw = set(digest_rows(a.raw()))
    raw = sum(digest in known_raw for digest in digest_rows(b.raw()))
    known = set(digest_rows(a.batches()))
    return max(raw, sum(digest in known for digest in digest_rows(b.batches())))
