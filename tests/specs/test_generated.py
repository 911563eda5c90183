"""What is generated and committed is current."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from jsonschema import Draft202012Validator

from edgepack.records import SCHEMAS

ROOT = Path(__file__).parents[2]


def generator(name: str) -> ModuleType:
    """A script of ``docs`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_targets_page_is_current_and_lists_every_target(monkeypatch, tmp_path):
    module = generator("generate_targets")
    text = module.PAGE.read_text()
    assert text == module.render(), "run `python docs/generate_targets.py`"
    for path in (ROOT / "targets").glob("*.toml"):
        assert f"| `{path.stem}` |" in text
    monkeypatch.setattr(module, "PAGE", tmp_path / "targets.md")
    module.main()
    assert (tmp_path / "targets.md").read_text() == text


def test_schemas_are_current_and_no_other_lies_beside_them(monkeypatch, tmp_path):
    module = generator("generate_schemas")
    assert {path.stem for path in module.FOLDER.glob("*.json")} == set(SCHEMAS)
    for name in SCHEMAS:
        text = (module.FOLDER / f"{name}.json").read_text()
        assert text == module.render(name), "run `python docs/generate_schemas.py`"
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    module.main()
    assert {path.stem for path in tmp_path.iterdir()} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_strict(name):
    schema = json.loads((ROOT / "edgepack" / "schemas" / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "$id" not in schema
    assert schema["title"] == f"edgepack.{name.replace('-', '/')}"
    for part in (schema, *schema["$defs"].values()):
        if part["type"] == "object":
            assert part["additionalProperties"] is False
            assert set(part["required"]) == set(part["properties"])
