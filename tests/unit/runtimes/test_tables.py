"""The tables of the runtimes, as data."""

from __future__ import annotations

from dataclasses import fields

import pytest

from edgepack.errors import SpecError
from edgepack.runtimes.tables import Row, Runtime, known, load


def row(verdict: str, *, version: int = 1, op: str = "ADD") -> Row:
    return Row(
        op=op,
        activations="int8",
        weights="none",
        granularity="none",
        verdict=verdict,  # type: ignore[arg-type]
        version=version,
    )


def runtime(*rows: Row, operators: frozenset[str] | None = None) -> Runtime:
    return Runtime(
        id="r",
        name="R",
        package="p",
        version="1",
        description="d",
        rows=rows,
        operators=operators,
    )


def test_every_shipped_table_loads() -> None:
    assert known() == ("litert-2.3", "tflite-runtime-2.14", "tflm")
    for name in known():
        table = load(name)
        assert table.id == name
        assert table.rows
        assert table.arches
        assert {row.op for row in table.rows if row.verdict != "refused"} <= table.operators


@pytest.mark.parametrize("name", known())
def test_no_form_has_two_rows_and_bounds_go_with_tolerance(name: str) -> None:
    rows = load(name).rows
    keys = {(r.op, r.activations, r.weights, r.granularity, r.version) for r in rows}
    assert len(keys) == len(rows)
    assert all((r.verdict == "tolerance") == (r.tolerance is not None) for r in rows)
    assert all(r.tolerance is None or 0 < r.tolerance < 0.05 for r in rows)


@pytest.mark.parametrize("name", known())
def test_every_memory_figure_says_where_it_comes_from(name: str) -> None:
    table = load(name)
    figures = [field.name for field in fields(table) if field.name.endswith("_bytes")]
    assert {"code_bytes", "ram_bytes"} <= set(figures)
    assert {name for name in figures if getattr(table, name)} <= set(table.sources)


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="no runtime has the id") as caught:
        load("litert-2.4")
    assert caught.value.hint == "did you mean 'litert-2.3'?"
    with pytest.raises(SpecError) as caught:
        load("zzz")
    assert caught.value.hint == "known runtimes: litert-2.3, tflite-runtime-2.14, tflm"


def test_a_path_is_not_an_id() -> None:
    with pytest.raises(SpecError):
        load("../runtimes/tflm")


def test_a_row_holds_from_its_version_up_to_the_next() -> None:
    table = runtime(row("refused", version=12), row("exact"), row("tolerance", version=5))
    verdicts = {}
    for version in (1, 4, 5, 11, 12, 40):
        found = table.verdict("ADD", "int8", "none", "none", version)
        verdicts[version] = found and found.verdict
    assert verdicts == {
        1: "exact",
        4: "exact",
        5: "tolerance",
        11: "tolerance",
        12: "refused",
        40: "refused",
    }


def test_without_a_version_the_worst_row_counts() -> None:
    table = runtime(row("exact"), row("wrong", version=3), row("refused", version=5))
    found = table.verdict("ADD", "int8", "none", "none")
    assert found is not None
    assert found.verdict == "wrong"


def test_a_form_that_nobody_tried_has_no_row() -> None:
    table = runtime(row("exact", version=2))
    assert table.verdict("MUL", "int8", "none", "none") is None
    assert table.verdict("ADD", "int16", "none", "none") is None
    assert table.verdict("ADD", "int8", "none", "none", 1) is None


def test_no_list_of_operators_means_every_one() -> None:
    assert runtime().has("CONV_2D")
    listed = runtime(operators=frozenset({"ADD"}))
    assert listed.has("ADD")
    assert not listed.has("CONV_2D")
    assert not load("tflm").has("TILE")
