"""Refusals, decided from rows alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.runtimes import schemes
from edgepack.runtimes.schemes import CLOSEST, COMMON, DTYPES, PRODUCERS, Method
from edgepack.runtimes.tables import Row, Runtime, Verdict, known, load

Grain = Literal["none", "per-tensor", "per-channel", "blockwise"]


def bad(
    op: str,
    activations: str,
    weights: str,
    granularity: Grain,
    verdict: Verdict = "refused",
    version: int = 1,
) -> Row:
    return Row(
        op=op,
        activations=activations,
        weights=weights,
        granularity=granularity,
        verdict=verdict,
        version=version,
    )


def runtime(*rows: Row, operators: Collection[str] | None = None) -> Runtime:
    return Runtime(
        id="r",
        name="R",
        package="p",
        version="1",
        description="d",
        rows=rows,
        operators=None if operators is None else frozenset(operators),
    )


def test_the_tables_cover_the_same_schemes() -> None:
    assert set(PRODUCERS) == set(CLOSEST) == set(DTYPES)
    for scheme, others in CLOSEST.items():
        assert sorted([scheme, *others]) == sorted(DTYPES)


@pytest.mark.parametrize("scheme", DTYPES)
def test_a_runtime_without_rows_refuses_nothing(scheme: str) -> None:
    assert schemes.refusal(runtime(), scheme) is None
    assert schemes.method(runtime(), scheme) == Method(producer=PRODUCERS[scheme][0])


@pytest.mark.parametrize(
    ("verdict", "words"), [("refused", "refuses"), ("wrong", "computes wrong results for")]
)
def test_wrong_and_refused_rows_both_refuse(verdict: Verdict, words: str) -> None:
    table = runtime(bad("CONV_2D", "float32", "float16", "none", verdict))
    refusal = schemes.refusal(table, "float16")
    assert refusal is not None
    assert refusal.why == f"R {words} CONV_2D with float32 activations and float16 weights"
    assert refusal.nearest == "float32"


def test_only_the_models_operators_count() -> None:
    table = runtime(bad("CONV_2D", "float32", "float16", "none"))
    assert schemes.refusal(table, "float16", ops=["FULLY_CONNECTED"]) is None
    assert schemes.refusal(table, "float16", ops=[]) is None
    assert schemes.refusal(table, "float16", ops={"CONV_2D"}) is not None


def test_an_operator_that_is_missing_refuses_every_scheme() -> None:
    refusal = schemes.refusal(runtime(operators=COMMON), "int8", ops=["CONV_2D", "TILE"])
    assert refusal is not None
    assert refusal.why == "R has no operator TILE"
    assert refusal.nearest is None


def test_the_quantizer_shares_a_scale_where_only_that_is_right() -> None:
    wrong = bad("FULLY_CONNECTED", "float32", "int8", "per-channel", "wrong")
    right = bad("FULLY_CONNECTED", "float32", "int8", "per-tensor", "tolerance")
    made = schemes.method(runtime(wrong, right), "dynamic")
    assert made == Method(producer="quantizer", per_tensor=frozenset({"FULLY_CONNECTED"}))


def test_a_shared_scale_that_nobody_tried_is_no_way_out() -> None:
    wrong = bad("FULLY_CONNECTED", "float32", "int8", "per-channel", "wrong")
    refusal = schemes.refusal(runtime(wrong), "dynamic")
    assert refusal is not None
    assert "int8 weights with a scale per channel" in refusal.why
    assert refusal.nearest == "int8"


def test_the_version_that_exports_carry_decides() -> None:
    old = bad("CONV_2D", "float32", "int8", "per-channel", "wrong")
    new = bad("CONV_2D", "float32", "int8", "per-channel", "tolerance", version=5)
    assert schemes.refusal(runtime(old, new), "dynamic") is None
    later = bad("CONV_2D", "float32", "int8", "per-channel", "tolerance", version=6)
    assert schemes.refusal(runtime(old, later), "dynamic") is not None


def test_what_the_quantizer_leaves_in_float_is_judged_as_float() -> None:
    table = runtime(bad("RELU6", "int8", "none", "none", "wrong"))
    assert schemes.method(table, "int8", ["RELU6"]) == Method(producer="quantizer")
    floats = runtime(bad("RELU6", "float32", "none", "none"))
    assert schemes.method(floats, "int8", ["RELU6"]) == Method(producer="converter")


def test_a_scheme_that_nobody_makes_right_is_refused() -> None:
    table = runtime(bad("ADD", "int8", "none", "none"))
    assert schemes.method(table, "int8", ["ADD"]) is None
    refusal = schemes.refusal(table, "int8", ops=["ADD"])
    assert refusal is not None
    assert refusal.why == "R refuses ADD with int8 activations"
    assert refusal.nearest == "int16x8"


@given(st.data())
def test_the_nearest_scheme_is_the_first_neighbour_that_works(data: st.DataObject) -> None:
    forms = sorted(
        {
            (f.op, f.activations, f.weights, f.granularity)
            for scheme in DTYPES
            for producer in PRODUCERS[scheme]
            for op in COMMON
            for shared in (False, True)
            for f in [schemes.form(scheme, producer, op, per_tensor=shared)]
        }
    )
    verdicts = st.sampled_from(["exact", "tolerance", "wrong", "refused"])
    table = runtime(
        *[bad(*form, data.draw(verdicts)) for form in forms]  # type: ignore[arg-type]
    )
    for scheme in DTYPES:
        refusal = schemes.refusal(table, scheme)
        if refusal is None:
            made = schemes.method(table, scheme)
            assert made is not None
            for op in COMMON:
                form = schemes.form(scheme, made.producer, op, per_tensor=op in made.per_tensor)
                row = table.verdict(form.op, form.activations, form.weights, form.granularity)
                assert row is not None
                assert row.verdict in ("exact", "tolerance")
        else:
            right = [other for other in CLOSEST[scheme] if not schemes.refusal(table, other)]
            assert refusal.nearest == (right[0] if right else None)
            assert refusal.why.startswith("R ")


@pytest.mark.parametrize("name", known())
@pytest.mark.parametrize("scheme", ["float32", "int8", "int16x8"])
def test_every_runtime_computes_the_plain_schemes(name: str, scheme: str) -> None:
    assert schemes.refusal(load(name), scheme) is None


def test_what_the_shipped_tables_decide() -> None:
    micro, old, new = load("tflm"), load("tflite-runtime-2.14"), load("litert-2.3")
    for scheme, nearest in (("float16", "float32"), ("dynamic", "int8")):
        refusal = schemes.refusal(micro, scheme)
        assert refusal is not None
        assert refusal.nearest == nearest
    for scheme in DTYPES:
        assert schemes.method(new, scheme) == Method(producer=PRODUCERS[scheme][0])
    shared = Method(producer="quantizer", per_tensor=frozenset({"FULLY_CONNECTED"}))
    assert schemes.method(old, "dynamic") == shared
    assert schemes.method(old, "int4") == schemes.method(micro, "int4") == shared
    assert schemes.method(old, "dynamic", ["CONV_2D"]) == Method(producer="quantizer")
    assert schemes.refusal(old, "dynamic", ops=["TRANSPOSE_CONV"]) is not None
