"""A user's own inputs: by name where the names are the model's, numbers only."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.workflow.golden import _given


def test_arrays_go_by_the_inputs_names(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, b=np.zeros((2, 1)), a=np.ones((2, 1)))
    assert [array.sum() for array in _given(path, ["a", "b"])] == [2, 0]
    assert [array.sum() for array in _given(path, ["first", "second"])] == [0, 2]


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", "b"]),
        np.zeros(2, complex),
        np.zeros(2, "datetime64[s]"),
        np.array([0.0, np.nan]),
        np.array([0.0, 1e39]),
        np.zeros(0),
    ],
)
def test_what_is_no_finite_number_is_refused(tmp_path, values):
    np.savez(tmp_path / "x.npz", x=values)
    with pytest.raises(DataError, match=r"x\.npz: holds"):
        _given(tmp_path / "x.npz", ["x"])
