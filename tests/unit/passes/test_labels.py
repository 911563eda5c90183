"""The loss that follows from labels and outputs."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.passes.labels import label_loss

CLASSES = np.array([0, 2, 1, 3])
ONE_HOT = np.eye(4)[CLASSES]
PIXELS = np.arange(4 * 5 * 5).reshape(4, 5, 5) % 3


@pytest.mark.parametrize(
    ("y", "end", "output", "kind"),
    [
        (CLASSES, "softmax", (4,), "classes"),
        (CLASSES[:, None], "softmax", (4,), "classes"),
        (CLASSES.astype(np.float32), "softmax", (4,), "classes"),
        (CLASSES, "linear", (4,), "classes"),
        (CLASSES, "sigmoid", (4,), "classes"),
        (ONE_HOT, "softmax", (4,), "one-hot"),
        (ONE_HOT, "linear", (4,), "one-hot"),
        (0.9 * ONE_HOT + 0.025, "softmax", (4,), "one-hot"),
        (0.9 * ONE_HOT + 0.025, "linear", (4,), "values"),
        (ONE_HOT, "sigmoid", (4,), "binary"),
        (np.array([0, 1, 1, 0]), "sigmoid", (1,), "binary"),
        (np.array([[0], [1], [1], [0]]), "sigmoid", (1,), "binary"),
        (np.array([0, 1, 1, 0]), "linear", (1,), "binary"),
        (np.array([0.0, 1.0, 1.0, 0.0]), "linear", (1,), "values"),
        (np.array([0.5, 20.0, 3.0, 1.0]), "linear", (1,), "values"),
        (np.array([1, 20, 3, 7]), "linear", (1,), "values"),
        (PIXELS, "softmax", (5, 5, 3), "classes"),
        (PIXELS[..., None], "linear", (5, 5, 3), "classes"),
        (PIXELS % 2, "sigmoid", (5, 5, 1), "binary"),
        (np.random.default_rng(0).normal(size=(4, 6)), "linear", (2, 3), "values"),
        (None, "linear", (8,), "input"),
    ],
)
def test_labels_and_outputs_say_which_loss(y, end, output, kind):
    assert label_loss(y, end, output, (8,), "set").kind == kind


@pytest.mark.parametrize(
    ("y", "output", "says"),
    [
        (None, (4,), "there are none"),
        (CLASSES, (3,), "from 0 to 3, but the model has 3 classes"),
        (CLASSES - 1, (4,), "from -1 to 2"),
        (np.zeros((4, 3)), (4,), "labels of 3 for outputs of 4"),
        (np.array([0.5, 1.5, 2.0, 1.0]), (4,), "single numbers for outputs of 4"),
    ],
)
def test_what_does_not_go_together_is_refused(y, output, says):
    with pytest.raises(DataError, match=says):
        label_loss(y, "softmax", output, (8,), "set")
