"""Rows of a data set, read in ascending order and in small blocks, never whole."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np

from edgepack.errors import DataError

Array = np.ndarray[Any, Any]
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows of every input, each (n, …), and their labels (n, …) where there are any."""

    x: tuple[Array, ...]
    y: Array | None = None

    @property
    def truth(self) -> Array:
        """What the outputs should be: the labels, else, as for an autoencoder, the first input."""
        return self.x[0] if self.y is None else self.y


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """What a source offers.

    ``read(indices, size)`` yields batches of the rows with those ascending indices, ``labels``
    reads labels alone. ``shaped`` says that the rows have their size and channel order already.
    ``digest`` is the SHA-256 of the source file or folder.
    """

    length: int
    read: Callable[[Array, int], Iterator[Batch]]
    labels: Callable[[Array], Array] | None
    digest: Callable[[], str]
    shaped: bool = False


class Column(Protocol):
    """One array of a data set."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def length(self) -> int:
        """How many rows it has."""
        ...

    def blocks(self, indices: Array) -> Iterator[Array]:
        """The rows with those ascending indices, a few at a time."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayColumn:
    """An array that is in memory, because its source is small."""

    name: str
    array: Array

    @property
    def length(self) -> int:
        """How many rows there are."""
        return len(self.array)

    def blocks(self, indices: Array) -> Iterator[Array]:
        """See Column."""
        step = rows_per_block(self.array.itemsize * int(np.prod(self.array.shape[1:])))
        for start in range(0, len(indices), step):
            yield self.array[indices[start : start + step]]


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamColumn:
    """An array in C order in a stream; ``opened`` gives the stream at its first row."""

    name: str
    length: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    opened: Callable[[], IO[bytes]]

    def blocks(self, indices: Array) -> Iterator[Array]:
        """See Column. Skipped rows are passed over, compressed or not."""
        row = self.dtype.itemsize * int(np.prod(self.shape))
        step, position, at = rows_per_block(row), 0, 0
        with self.opened() as stream:
            while at < len(indices):
                first = int(indices[at])
                end = int(np.searchsorted(indices, first + step))
                count = int(indices[end - 1]) - first + 1
                try:
                    stream.seek((first - position) * row, 1)
                    content = stream.read(count * row)
                except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as exc:
                    raise DataError(f"{self.name} is damaged: {exc}", "save it again") from exc
                if len(content) != count * row:
                    raise DataError(f"{self.name} ends early, in row {first + len(content) // row}")
                block = np.frombuffer(content, self.dtype).reshape(count, *self.shape)
                yield block[indices[at:end] - first]
                position, at = first + count, end


def rows_per_block(row_bytes: int) -> int:
    """How many rows make a block of about a megabyte."""
    return max(1, BLOCK_BYTES // max(1, row_bytes))


def rebatched(blocks: Iterator[Array], size: int) -> Iterator[Array]:
    """The rows of ``blocks`` in batches of exactly ``size``; the last may be smaller."""
    held: list[Array] = []
    count = 0
    for block in blocks:
        while len(block):
            part, block = block[: size - count], block[size - count :]
            held.append(part)
            count += len(part)
            if count == size:
                yield np.concatenate(held)
                held, count = [], 0
    if held:
        yield np.concatenate(held)


def of_columns(
    x: Sequence[Column], y: Column | None, where: str, digest: Callable[[], str]
) -> Table:
    """A table of several columns. Raises DataError where their lengths differ."""
    length = x[0].length
    for column in (*x, *([y] if y is not None else [])):
        if column.length != length:
            raise DataError(
                f"{where}: '{column.name}' has {column.length} rows, '{x[0].name}' has {length}",
                "give as many labels as samples",
            )

    def read(indices: Array, size: int) -> Iterator[Batch]:
        columns = [rebatched(column.blocks(indices), size) for column in x]
        if y is None:
            for parts in zip(*columns, strict=True):
                yield Batch(x=parts)
        else:
            labels = rebatched(y.blocks(indices), size)
            for label, *rows in zip(labels, *columns, strict=True):
                yield Batch(x=tuple(rows), y=label)

    def labels(indices: Array) -> Array:
        return np.concatenate([] if y is None else list(y.blocks(indices)))

    return Table(length=length, read=read, labels=labels if y is not None else None, digest=digest)
