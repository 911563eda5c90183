"""Limits as people write them."""

from __future__ import annotations

import pytest

from edgepack.errors import SpecError
from edgepack.workflow.limit import limit


@pytest.mark.parametrize(
    ("text", "metric", "reference", "least"),
    [
        ("accuracy=0.5pt", "top1", 0.9, 0.895),
        ("accuracy=0pt", "auc", 0.9, 0.9),
        ("accuracy=0.87", "top1", 0.9, 0.87),
        ("accuracy = 87%", "top5", 0.2, 0.87),
        ("top1=87.5%", "top1", 0.9, 0.875),
        ("own.py:f1=0.5", "own.py:f1", 0.9, 0.5),
    ],
)
def test_more_is_better(text, metric, reference, least):
    found = limit(text)
    found.check(metric)
    assert found.holds(metric, reference, least)
    assert found.holds(metric, reference, least + 0.01)
    assert not found.holds(metric, reference, least - 1e-6)


@pytest.mark.parametrize(("text", "most"), [("mse=0.02", 0.02), ("mae=1e-3", 0.001)])
def test_less_is_better_for_errors(text, most):
    found = limit(text)
    metric = text[:3]
    found.check(metric)
    assert found.holds(metric, 0.0, most)
    assert not found.holds(metric, 0.0, most * 1.01)


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy=", "=0.5", "accuracy=high", "accuracy=1.5", "accuracy=101%",
     "accuracy=-1pt", "accuracy=1.2.3", "mse=5%", "mse=1pt", "accuracy=nan"],
)  # fmt: skip
def test_what_is_no_limit_is_refused_with_an_example(text):
    with pytest.raises(SpecError) as raised:
        limit(text)
    assert "accuracy=0.5pt" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "metric"), [("accuracy=0.9", "mse"), ("mse=0.1", "top1"), ("auc=0.9", "top1")]
)
def test_a_limit_on_what_is_not_judged_is_refused(text, metric):
    with pytest.raises(SpecError, match=f"judged by {metric}"):
        limit(text).check(metric)
