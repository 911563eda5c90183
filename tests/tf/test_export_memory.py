"""Calibration keeps a few samples to judge by, not the batches that they came in."""

from __future__ import annotations

import pytest

from edgepack.export import to_float
from edgepack.export.observe import watch
from edgepack.model.data import open_data
from edgepack.model.load import load
from edgepack.spec.data import Dataset
from edgepack.spec.library import find

pytestmark = [pytest.mark.tf, pytest.mark.no_cover]


def test_kept_samples_own_their_numbers(tiny):
    model = load(tiny.model)
    data = open_data(find(Dataset, str(tiny.calibration)))
    watched = watch(to_float(model), data, model.inputs, foreign=False)
    assert watched.kept
    for sample in (*watched.kept, *watched.answers):
        for value in sample:
            assert value.base is None
