"""Suggestions follow from what was measured, and change with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack.export.suggest import HURTS_DB, overall, strangers, suggestion
from edgepack.records import LayerError

ROW = LayerError(
    sqnr_db=10.0,
    cosine=0.9,
    max_abs=1.0,
    max_lsb=10.0,
    layer="conv",
    op="CONV_2D",
    tensor="model/conv/Conv2D",
    dtype="int8",
    weights="int8",
    granularity="per-channel",
    macs=1000,
    weight_bytes=100,
    local_sqnr_db=10.0,
    from_input=0.1,
    from_weights=0.1,
    from_output=0.8,
    input_range_ratio=1.2,
    input_channel_ratio=1.5,
    output_range_ratio=1.2,
    output_channel_ratio=1.5,
    weight_channel_ratio=1.5,
    weight_sqnr_db=35.0,
    reads=("before",),
)
INPUT = {"from_input": 0.9, "from_weights": 0.05, "from_output": 0.05}
WEIGHTS = {"from_input": 0.05, "from_weights": 0.9, "from_output": 0.05}


@pytest.mark.parametrize(
    ("change", "what", "why"),
    [
        ({}, "keep it in int16x8, or", "80% of its error is its output's rounding"),
        ({"dtype": "int16"}, "keep it in float32", "output's rounding"),
        ({"output_range_ratio": 5.0}, "percentile or mse", "5.0 times that of 99.9 %"),
        ({"output_channel_ratio": 40.0}, "equalize", "40 times the median"),
        (INPUT, "keep it in int16x8 together with before", "90% of its error is its input's"),
        (INPUT | {"input_channel_ratio": 9.0}, "equalize between before and conv", "9 times"),
        (INPUT | {"input_range_ratio": 4.0}, "percentile or mse", "4.0 times"),
        (INPUT | {"output_channel_ratio": 40.0}, "together with before", "neither"),
        (WEIGHTS, "adaround", "though each channel has its scale"),
        (WEIGHTS | {"granularity": "per-tensor"}, "adaround", "more scales would not help"),
        (
            WEIGHTS | {"granularity": "per-tensor", "weight_channel_ratio": 20.0},
            "one weight scale a channel",
            "20 times the median",
        ),
        (WEIGHTS | {"weights": "int4"}, "8 bits", "which have 4 bits"),
        (WEIGHTS | {"weights": None}, "keep it in int16x8", "no weights"),
        (
            {"from_input": None, "from_weights": None, "from_output": None},
            "keep it in int16x8",
            "cannot be told apart",
        ),
    ],
)
def test_what_helps_follows_from_the_cause(change, what, why):
    found = suggestion(replace(ROW, **change))
    assert what in found.what
    assert why in found.why


def test_a_runtime_without_16_bits_gets_floats():
    assert "keep it in float32" in suggestion(ROW, "float32").what
    (many,) = overall(layers(5, 5, 5, 5, 5, 40), "float32")
    assert "export in float32" in many.what


@pytest.mark.parametrize("local", [None, HURTS_DB, 40.0])
def test_a_layer_that_does_not_hurt_is_left_alone(local):
    assert suggestion(replace(ROW, local_sqnr_db=local)) is None


def layers(*local: float, **more) -> list[LayerError]:
    return [
        replace(ROW, layer=f"l{place}", local_sqnr_db=value, **more)
        for place, value in enumerate(local)
    ]


def test_the_whole_model_is_advised_by_how_many_hurt():
    assert overall(layers(40, 40, 40)) == ()
    (few,) = overall(layers(5, 40, 40))
    assert "keeps l0 wider" in few.what
    (tied,) = overall(layers(5, 40, 40, **INPUT))
    assert "keeps l0, before wider" in tied.what
    (many,) = overall(layers(5, 5, 5, 5, 5, 40))
    assert "qat, or export in int16x8" in many.what
    (narrow,) = overall(layers(5, 5, 5, 5, 5, 40, weights="int4"))
    assert "qat, or export in int8" in narrow.what


def test_weights_of_another_model_are_told_by_the_median_layer():
    assert strangers(layers(5, 5, 5)) == ()
    assert strangers(layers(5, weights=None, weight_sqnr_db=None)) == ()
    one = [*layers(5, 5), *layers(5, weight_sqnr_db=-2.0)]
    assert strangers(one) == ()
    assert "-2.0 dB" in strangers(layers(5, 5, weight_sqnr_db=-2.0))[0]
