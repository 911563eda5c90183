"""Records as JSON documents, and back; and the JSON schemas that they are checked against."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgepack.files import numbers
from edgepack.records.debug import Debug
from edgepack.records.facts import Facts
from edgepack.records.measurement import Measurement
from edgepack.records.pack import Pack
from edgepack.records.report import Report

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
SCHEMAS: dict[str, type] = {
    "pack-1": Pack,
    "measurement-1": Measurement,
    "facts-1": Facts,
    "report-1": Report,
    "debug-1": Debug,
}
DRAFT = "https://json-schema.org/draft/2020-12/schema"
UTC = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT.*(Z|\+00:00)$"}
"""How a moment is written: ISO 8601 in UTC."""
_adapters: dict[type, TypeAdapter[Any]] = {}


def to_dict(record: Any) -> dict[str, Any]:
    """A record as plain JSON values, ``schema`` first; tuples become lists."""
    plain: dict[str, Any] = _plain(record)
    return {"schema": plain.pop("schema"), **plain} if "schema" in plain else plain


def from_dict(kind: type[T], plain: dict[str, Any]) -> T:
    """A record from plain values. Raises pydantic.ValidationError where they do not fit."""
    record: T = _adapter(kind).validate_python(plain)
    return record


def json_schema(kind: type) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a record; every field that it writes is required."""
    schema: dict[str, Any] = _adapter(kind).json_schema(mode="serialization")
    for part in (schema, *schema.get("$defs", {}).values()):
        for key in {"started_at", "created_at"} & set(part.get("properties", ())):
            part["properties"][key] = UTC
    tag = schema["properties"].get("schema", {}).get("const", schema["title"])
    return {"$schema": DRAFT, **schema, "title": tag}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _adapters:
        from pydantic import TypeAdapter  # late: most of what uses records never reads one back

        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _plain(value: Any) -> Any:
    """Records as dicts and tuples as lists, all the way down."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(value) if numbers(value) else [_plain(item) for item in value]
    return value
