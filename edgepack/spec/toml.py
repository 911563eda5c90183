"""Read a TOML file into a frozen dataclass, with errors that name the file, the key and a cure."""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from edgepack.errors import SpecError

T = TypeVar("T")
LONG = 60
"""Of a value that is wrong, this many characters are told."""
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_adapters: dict[type, TypeAdapter[Any]] = {}


def read_table(path: Path) -> dict[str, Any]:
    """The TOML file's table. Raises SpecError where it is missing or not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise SpecError(
            f"{path}: no such file", "check the path, or use an id from `list`"
        ) from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(
            f"{path}: not valid TOML: {error}", "mend the file at that place"
        ) from error
    except RecursionError as error:
        raise SpecError(f"{path}: not valid TOML: nested too deeply") from error
    except ValueError as error:  # a path with a NUL
        raise SpecError(f"{str(path)!r}: no such path: {error}", "check the path") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's object, to be parsed like a TOML's. Raises SpecError where it is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not JSON: {error}", "write it again") from error
    if not isinstance(found, dict):
        raise SpecError(f"{path}: not a JSON object", "write it again")
    return found


def parse(kind: type[T], table: dict[str, Any], where: str, also: tuple[str, ...] = ()) -> T:
    """``table`` as a ``kind``. Raises SpecError with one line for the first thing wrong.

    ``also`` are keys of the file that the caller has taken out of ``table`` already.
    """
    try:
        # By way of JSON, because only there strict means: a list is a tuple, "1" is not a number.
        text = json.dumps(table, default=_moment)
        value: T = _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        message, hint = _explain(kind, error, where, also)
        raise SpecError(_one_line(message), _one_line(hint)) from error
    return value


def _adapter(kind: type) -> TypeAdapter[Any]:
    """The validator of a kind, built once: that takes longer than all the rest."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _moment(value: object) -> dict[str, str]:
    """TOML's dates and times, which no spec has: something that fits no field."""
    return {type(value).__name__: str(value)}


def _explain(
    kind: type, error: ValidationError, where: str, also: tuple[str, ...]
) -> tuple[str, str]:
    """(message, hint) for the first problem; pydantic's wording only where it is plain."""
    # a misspelt key is both unknown and missing: say the former
    problem = min(error.errors(), key=lambda found: found["type"] not in UNKNOWN)
    if problem["type"] in UNKNOWN + MISSING:
        *above, last = problem["loc"]
        path = [*(part for part in above if not _is_noise(part)), last]
        if problem["type"] in MISSING:
            return f"{where}: '{_dotted(path)}' is missing", f"add {last} = …"
        known = _keys(kind, path[:-1]) if path[:-1] else sorted({*_keys(kind, []), *also})
        near = difflib.get_close_matches(str(last), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known keys: " + ", ".join(known)
        return f"{where}: unknown key '{_dotted(path)}'", hint
    key = _dotted([part for part in problem["loc"] if not _is_noise(part)])
    what = f"{where}: {key}: " if key else f"{where}: "
    if problem["type"] == "value_error":
        return what + problem["msg"].removeprefix("Value error, "), ""
    message = problem["msg"].replace("Input should", "should").replace("Tuple should", "should")
    found = repr(problem["input"])
    return f"{what}{message}, found {found if len(found) < LONG else found[:LONG] + '…'}", ""


def _one_line(text: str) -> str:
    """Text in which a key or a value with line breaks does not break the line."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


def _is_noise(part: object) -> bool:
    """Pydantic names the members of a union in a location; a person did not write those."""
    return isinstance(part, str) and (
        "[" in part or part in ("str", "constrained-str", "int", "float", "bool")
    )


def _dotted(path: list[Any]) -> str:
    """A location as people write it: ``mixed[0].layers``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _keys(kind: Any, path: list[Any]) -> list[str]:
    """The keys that people may write in the dataclass at ``path`` below ``kind``."""
    for name in path:
        if isinstance(name, int):
            continue
        hint = get_type_hints(kind)[name]
        kind = next(member for member in (hint, *get_args(hint)) if is_dataclass(member))
    return sorted({f.name for f in fields(kind)} - {"id", "folder"})
