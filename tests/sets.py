"""Data sets of arrays that a test has at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepack.model.data import Data, open_data
from edgepack.spec.data import Dataset


def data_of(folder: Path, *, y: np.ndarray | None = None, **x: np.ndarray) -> Data:
    """The data set of those inputs, in that order, and labels."""
    labels = {} if y is None else {"y": y}
    np.savez(folder / "set.npz", **x, **labels)
    names = tuple(x)
    return open_data(
        Dataset(
            id="set",
            source="npz",
            folder=str(folder),
            path="set.npz",
            x=names if len(names) > 1 else names[0],
            y="y" if labels else None,
        )
    )


def digits(folder: Path, count: int | None = None) -> Data:
    """Digits as images of 8×8 in 0..1, labelled 0 to 9."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = (found.images[..., None] / 16).astype(np.float32)[:count]
    return data_of(folder, x=x, y=found.target[:count])
