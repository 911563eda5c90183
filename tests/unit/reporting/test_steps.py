"""Step by step: what each step of a recipe brought and cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack.records import ReportSection
from edgepack.reporting.collect import build
from edgepack.reporting.document import to_json
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.page import to_html
from edgepack.reporting.steps import attributions
from tests.command import strict
from tests.unit.reporting.realistic import LAPTOP, pack, stepped


def report(*packs):
    """A report of these packs."""
    return build(packs, (), {}, [LAPTOP])


@pytest.fixture
def section() -> ReportSection:
    """A section with one plain pack and one that steps made."""
    return report(pack("float32"), stepped()).sections[0]


def test_only_recipes_with_steps_have_a_table(section):
    (found,) = attributions(section)
    assert found.recipe == "prune-filters50-int8"
    assert [row[0].text for row in found.table.rows] == [
        *("original model", "prune-filters", "finetune", "int8")
    ]


def test_a_row_has_the_figures_after_the_step_and_what_it_changed(section):
    table = attributions(section)[0].table
    titles = [column.title for column in table.columns]
    original, pruned, tuned, exported = (dict(zip(titles, r, strict=True)) for r in table.rows)
    assert original["MACs"].text == "600 k"
    assert not original["MACs"].detail
    assert (pruned["MACs"].text, pruned["MACs"].detail) == ("300 k", "2× fewer")
    assert pruned["Accuracy"].detail == "−1.00 points"
    assert pruned["Time"].text == "12.5 s"
    assert pruned["Layers"].text == "1 changed, 1 skipped"
    assert not any(value.detail for value in tuned.values())
    assert exported["File"].text == "30.6 KiB"
    assert exported["Host latency"].detail == "4.04× faster"


def test_figures_that_nobody_took_have_no_column():
    bare = tuple(replace(step, before={}, after={}) for step in stepped().steps)
    (found,) = attributions(report(replace(stepped(), steps=bare)).sections[0])
    assert [column.title for column in found.table.columns] == ["Step", "Time", "Layers"]


def test_the_page_folds_the_words_and_escapes_them():
    page = to_html(report(pack("float32"), stepped()))
    assert "Step by step" in page
    assert "conv2d: 16 → 8 filters" in page
    assert "&lt;the&gt; outputs" in page
    assert "<the>" not in page
    assert "Step by step" not in to_html(report(pack("float32")))


def test_markdown_folds_the_table():
    text = to_markdown(report(pack("float32"), stepped()))
    assert "<details><summary>prune-filters50-int8, step by step</summary>" in text
    assert "300 k (2× fewer)" in text


def test_json_has_every_figure():
    found = strict(to_json(report(stepped())))["sections"][0]["packs"][0]["steps"]
    assert found[0]["after"]["macs"] == 300_000
    assert found[0]["skipped"] == [{"layer": "dense", "why": "its neurons are <the> outputs"}]
