"""Samples that a user's own function yields; each pass over the data calls it again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import DataError
from edgepack.model.rows import Array, Batch, Table
from edgepack.model.sources import digest
from edgepack.model.usercode import function
from edgepack.spec.data import Dataset

Sample = tuple[tuple[Array, ...], Array | None]


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """``path`` is ``file.py:function``, which yields ``x`` or ``(x, y)`` for each sample.

    ``x`` is an array, or a list of arrays for several inputs. The function is called once to
    count its samples.
    """
    reference, folder = spec.path or "", Path(spec.folder)
    called = function(reference, folder, DataError, allow_code)

    def samples() -> Iterator[Sample]:
        try:
            for item in called():
                yield _sample(item, reference)
        except DataError:
            raise
        except (Exception, SystemExit) as exc:
            reason = f"{type(exc).__name__}: {exc}".splitlines()[0]
            raise DataError(f"{reference} failed: {reason}", "mend the function") from exc

    length, labelled = 0, False
    for x, y in samples():
        if length == 0:
            shapes, labelled = [array.shape for array in x], y is not None
        if [array.shape for array in x] != shapes or (y is not None) != labelled:
            raise DataError(f"{reference}: sample {length} is not like the first", "mend it")
        length += 1

    def read(indices: Array, size: int) -> Iterator[Batch]:
        wanted, at, held = indices.tolist(), 0, []
        for number, sample in enumerate(samples()):
            if at == len(wanted):
                break
            if number == wanted[at]:
                at += 1
                held.append(sample)
            if len(held) == size:
                yield _batch(held)
                held = []
        if held:
            yield _batch(held)

    def labels(indices: Array) -> Array:
        return np.concatenate([batch.y for batch in read(indices, 256) if batch.y is not None])

    path = folder / reference.rpartition(":")[0]
    return Table(
        length=length,
        read=read,
        labels=labels if labelled else None,
        digest=lambda: digest(path),
    )


def _sample(item: Any, reference: str) -> Sample:
    x, y = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    arrays = tuple(np.asarray(part) for part in (x if isinstance(x, list | tuple) else [x]))
    label = None if y is None else np.asarray(y)
    for array in (*arrays, *([] if label is None else [label])):
        if array.dtype.kind not in "biuf":
            raise DataError(f"{reference}: yields {array.dtype}, not numbers", "yield arrays")
    return arrays, label


def _batch(held: list[Sample]) -> Batch:
    columns = zip(*(x for x, _ in held), strict=True)
    labels = [y for _, y in held if y is not None]
    return Batch(
        x=tuple(np.stack(rows) for rows in columns), y=np.stack(labels) if labels else None
    )
