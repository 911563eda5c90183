"""The options of folding and repair: their defaults, and that unknown ones are refused."""

from __future__ import annotations

import pytest

from edgepack.errors import SpecError
from edgepack.passes.table import options
from edgepack.spec.steps import Step


@pytest.mark.parametrize("name", ["fold", "equalize", "correct-biases", "adaround"])
def test_each_pass_has_options_that_can_be_left_out(name) -> None:
    options(Step(name=name), "here")
    with pytest.raises(SpecError, match="colour"):
        options(Step(name=name, options={"colour": 1}), "here")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("adaround", {"bits": 5}),
        ("adaround", {"iterations": 0}),
        ("correct-biases", {"bits": 2}),
        ("equalize", {"by": "luck"}),
        ("equalize", {"clipped": 1.5}),
    ],
)
def test_options_out_of_range_are_refused(name, given) -> None:
    with pytest.raises(SpecError, match=next(iter(given))):
        options(Step(name=name, options=given), "here")
