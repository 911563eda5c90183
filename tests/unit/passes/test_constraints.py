from __future__ import annotations

import io

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.passes.constraints import Mask, Palette, Signs, restored, stored

RNG = np.random.default_rng(0)
MADE = [
    Mask(layer="a", keep=RNG.random((3, 3, 2, 4)) > 0.5, weight="depthwise_kernel"),
    Palette(layer="b", index=RNG.integers(-1, 4, (5, 6)).astype(np.int32)),
    Palette(layer="b/c", index=np.zeros((2, 2), np.int32), axes=(0,)),
    Signs(layer="d", signs=RNG.integers(-1, 2, (3, 2, 1)).astype(np.int8), axes=(0, 1)),
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_a_constraint_survives_a_file(made) -> None:
    file = io.BytesIO()
    np.savez(file, **stored(made))
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        again = restored(arrays)
    assert type(again) is type(made)
    for name, value in vars(made).items():
        found = getattr(again, name)
        assert type(found) is type(value)
        np.testing.assert_array_equal(found, value)
        assert not isinstance(value, np.ndarray) or found.dtype == value.dtype


@pytest.mark.parametrize(
    "change",
    [
        {"kind": np.array("other")},
        {"keep": np.zeros((2, 2), np.int64)},
        {"surplus": np.zeros(1)},
    ],
    ids=str,
)
def test_what_is_no_constraint_is_refused(change) -> None:
    with pytest.raises(ModelError, match="not a constraint"):
        restored({**stored(MADE[0]), **change})


def test_a_missing_part_is_refused() -> None:
    arrays = stored(MADE[0])
    del arrays["keep"]
    with pytest.raises(ModelError, match="keep"):
        restored(arrays)
