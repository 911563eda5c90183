"""Write the JSON schemas of edgepack's records: ``python docs/generate_schemas.py``."""

from __future__ import annotations

from pathlib import Path

from edgepack.files import to_json, write_text
from edgepack.records import SCHEMAS, json_schema

FOLDER = Path(__file__).parents[1] / "edgepack" / "schemas"


def render(name: str) -> str:
    """The text of one schema."""
    return to_json(json_schema(SCHEMAS[name]))


def main() -> None:
    """Write every schema."""
    for name in SCHEMAS:
        write_text(FOLDER / f"{name}.json", render(name))


if __name__ == "__main__":
    main()
