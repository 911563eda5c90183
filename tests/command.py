"""The real command line in a process of its own, and what it prints, checked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).parents[1] / "edgepack" / "schemas"


def edgepack(
    *argv: object, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``edgepack`` to its end; its code, stdout and stderr."""
    command = [sys.executable, "-m", "edgepack", *map(str, argv)]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=cwd, timeout=600, check=False
    )


def strict(text: str) -> Any:
    """Parse JSON as the standard has it: NaN and the infinities are refused."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def records(text: str) -> list[dict[str, Any]]:
    """The records of a JSON array on stdout, each valid by its own committed schema."""
    found = strict(text)
    for record in found:
        validate(record)
    return found


def validate(record: dict[str, Any]) -> None:
    """Check a record against the committed schema that it names."""
    name = record["schema"].removeprefix("edgepack.").replace("/", "-")
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(record)
