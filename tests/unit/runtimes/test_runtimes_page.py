"""The page about the runtimes is the one that their tables give."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from edgepack.runtimes.tables import known, load


@pytest.fixture
def page() -> ModuleType:
    path = Path(__file__).parents[3] / "docs" / "generate_runtimes.py"
    spec = importlib.util.spec_from_file_location("generate_runtimes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(
    page: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = page.PAGE.read_text()
    assert text == page.render(), "run `python docs/generate_runtimes.py`"
    monkeypatch.setattr(page, "PAGE", tmp_path / "runtimes.md")
    page.main()
    assert (tmp_path / "runtimes.md").read_text() == text


def test_every_fault_of_every_runtime_is_on_the_page(page: ModuleType) -> None:
    sections = page.render().split("\n## ")[2:]
    assert len(sections) == len(known())
    for section, name in zip(sections, known(), strict=True):
        table = load(name)
        assert section.startswith(table.name)
        for verdict in ("wrong", "refused"):
            rows = [row for row in table.rows if row.verdict == verdict]
            assert section.count(f"| **{verdict}** |") == len(rows)


def test_each_row_of_a_table_has_the_cells_of_its_heading(page: ModuleType) -> None:
    lines = page.render().splitlines()
    for above, line in pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert line.replace("\\|", "").count("|") == above.replace("\\|", "").count("|"), line
