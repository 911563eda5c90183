"""The small data sets that ship inside scikit-learn: no download, so demos can rely on them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from edgepack.errors import DataError
from edgepack.model.rows import ArrayColumn, Table, of_columns
from edgepack.model.sources import suggestion
from edgepack.spec.data import Dataset

NAMES = ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """``path`` is a set's name; digits are images of 8 × 8 × 1 with values from 0 to 16."""
    name = spec.path or ""
    if name not in NAMES:
        raise DataError(
            f"{spec.id}: scikit-learn ships no data set '{name}'", suggestion(name, NAMES)
        )
    from sklearn import datasets

    loaded: Any = getattr(datasets, f"load_{name}")()
    x = loaded.images[..., None] if name == "digits" else loaded.data
    y = np.asarray(loaded.target)

    def digest() -> str:
        return hashlib.sha256(np.ascontiguousarray(x).tobytes() + y.tobytes()).hexdigest()

    return of_columns(
        [ArrayColumn(name="data", array=x)], ArrayColumn(name="target", array=y), name, digest
    )
