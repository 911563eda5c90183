"""The pages on techniques name every pass, recipe and option, and their recipes are valid."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from edgepack.passes import rules
from edgepack.passes.table import MODULES
from edgepack.spec.library import load, shipped
from edgepack.spec.recipe import Recipe
from edgepack.spec.steps import FAMILIES, Distillation, Training

FOLDER = Path(__file__).parents[2] / "docs" / "techniques"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
STEPPING = [
    path.stem for path in sorted(shipped(Recipe).glob("*.toml")) if load(Recipe, path).steps
]
OPTIONS = {
    **{name: import_module(module).Options for name, module in MODULES.items()},
    "train": Training,
    "distill": Distillation,  # the pass of that name has no options of its own
}
FIELDS = [(name, found) for name, kind in OPTIONS.items() for found in fields(kind)]
BLOCKS = [
    (page, block)
    for page, text in PAGES.items()
    for block in re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    if "scheme =" in block
]
FIGURES = re.compile(r"^<!-- figures: (.*) -->$", re.MULTILINE)


def quoted(word: str) -> bool:
    """Whether a page has the word in backticks, alone or among others."""
    return any(
        re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", span)
        for text in PAGES.values()
        for span in re.findall(r"`([^`\n]+)`", text)
    )


def row(name: str, option: str) -> list[str]:
    """The cells of an option's row in the table of a pass's options; none where it has no row."""
    for text in PAGES.values():
        for section in re.split(r"^## ", text, flags=re.MULTILINE):
            title = section.partition("\n")[0]
            if title.startswith("Options of ") and f"`{name}`" in title:
                found = re.search(rf"^\| `{option}` \|(.*)\|$", section, re.MULTILINE)
                return [cell.strip() for cell in found[1].split(" | ")] if found else []
    return []


def written(value: Any) -> str:
    """A default as the pages write it: TOML in backticks, a dash for none."""
    if value is MISSING:
        return "required"
    if value is None:
        return "—"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "all"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_pass_is_in_a_page(name):
    assert any(f"`{name}`" in text for text in PAGES.values())


@pytest.mark.parametrize("name", STEPPING)
def test_every_recipe_with_steps_is_in_a_page(name):
    assert quoted(name)


@pytest.mark.parametrize(("name", "found"), FIELDS, ids=[f"{n}-{f.name}" for n, f in FIELDS])
def test_every_option_is_in_its_table_with_its_default(name, found):
    cells = row(name, found.name)
    assert len(cells) == 2, f"a row | `{found.name}` | default | meaning |"
    assert cells[0] == written(found.default)
    assert cells[1]


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[page for page, _ in BLOCKS])
def test_recipes_in_pages_are_valid(page, block, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(block, encoding="utf-8")
    rules.check(load(Recipe, path))


def test_pages_have_recipes_and_figures_of_recipes_that_there_are():
    assert BLOCKS
    named = [
        name for text in PAGES.values() for ids in FIGURES.findall(text) for name in ids.split()
    ]
    assert named
    assert set(named) <= set(STEPPING)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+\.md)[^)]*\)", PAGES[page]):
        assert (FOLDER / target).is_file(), target
