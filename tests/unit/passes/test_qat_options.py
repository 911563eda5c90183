"""What a qat step may ask for, and what its scheme says to it."""

from __future__ import annotations

import pytest

from edgepack.errors import SpecError
from edgepack.passes.qat import Options, bits_of
from edgepack.passes.table import options
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import Step, Training


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [("int8", (8, 8)), ("int4", (4, 8)), ("int16x8", (8, 16)), ("mixed", (8, 8))],
)
def test_bits_follow_from_the_scheme(scheme, bits):
    assert bits_of(Options(), scheme) == bits


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic"])
def test_a_scheme_without_integer_activations_is_refused(scheme):
    with pytest.raises(SpecError, match=scheme):
        bits_of(Options(), scheme)


@pytest.mark.parametrize(
    ("given", "scheme"),
    [
        ({"weight_bits": 4}, "int8"),
        ({"weight_bits": 8}, "int4"),
        ({"activation_bits": 16}, "int8"),
        ({"activation_bits": 8}, "int16x8"),
    ],
)
def test_options_and_scheme_must_agree(given, scheme):
    with pytest.raises(SpecError, match=next(iter(given))):
        bits_of(Options(**given), scheme)


def test_a_mixed_scheme_takes_any_bits():
    assert bits_of(Options(weight_bits=4), "mixed") == (4, 8)


@pytest.mark.parametrize(
    "given",
    [
        {"weight_bits": 5},
        {"ranges": "fixed"},
        {"delay": 1.5},
        {"per_tensor": ["("]},
        {"per_tensor": [""]},
        {"bits": 8},
    ],
)
def test_what_is_no_option_is_refused(given):
    with pytest.raises(SpecError):
        options(Step(name="qat", options=given), "step qat")


def test_layers_that_share_a_step_are_named_wholly():
    some = options(Step(name="qat", options={"per_tensor": ["conv.*"]}), "step qat")
    assert some.shares("conv_a")
    assert not some.shares("my_conv")
    assert Options(per_tensor=True).shares("anything")
    assert not Options().shares("anything")


def test_a_training_step_needs_no_calibration():
    train = Training(epochs=1)
    learned = Recipe(id="r", scheme="int8", steps=(Step(name="qat", train=train),))
    assert learned.quantises_activations
    assert not learned.needs_calibration
    assert Recipe(id="r", scheme="int8", steps=(Step(name="qat"),)).needs_calibration
    other = Recipe(id="r", scheme="int8", steps=(Step(name="finetune", train=train),))
    assert other.needs_calibration
