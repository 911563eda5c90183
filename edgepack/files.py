"""Files that are either whole or absent: write to a temporary name, then rename."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgepack.errors import SpecError

PLACE = "choose a place with -o that you may write to and that has room"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the name ``path`` when the block succeeds.

    A link is followed. Raises SpecError where the place cannot be written, is no file, or the
    disk is full.
    """
    path = _target(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise SpecError(
            f"cannot write {path}: {error.strerror or error}",
            PLACE,
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """Where a file is written: a link's end. Raises SpecError for what is no regular file."""
    try:
        found = path.resolve() if path.is_symlink() else path
        special = found.exists() and not found.is_file()
    except OSError as error:
        raise SpecError(f"cannot write {path}: {error.strerror or error}", PLACE) from error
    if special:
        raise SpecError(f"cannot write {path}: it is there, and no regular file", PLACE)
    return found


def exists(path: Path) -> bool:
    """Whether there is anything; a name that no file can have is nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def check_writable(folder: Path) -> None:
    """Raises SpecError where nothing can be made in a folder that may not be there yet."""
    try:
        place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        with tempfile.TemporaryDirectory(prefix=".edgepack-", dir=place):
            pass
    except OSError as error:
        raise SpecError(f"cannot write {folder}: {error.strerror or error}", PLACE) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` as UTF-8 to ``path`` as a whole or not at all."""
    write_bytes(path, encoded(content))


def encoded(text: str) -> bytes:
    """Text as UTF-8; a byte of a file's name that is none becomes what JSON writes: ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace")


def strict(value: Any) -> Any:
    """A JSON value with every NaN and infinity, which JSON does not know, as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return value if numbers(value) else [strict(item) for item in value]
    return value


def numbers(values: Sequence[Any]) -> bool:
    """Whether a sequence holds finite numbers alone: raw samples, which come by the 100,000."""
    return {type(value) for value in values} <= {int, float} and all(map(math.isfinite, values))


def to_json(value: Any) -> str:
    """Strict JSON text of plain values, indented, with a final newline.

    An array of numbers takes one line: thousands of raw samples are no reading matter.
    """
    return _indented(strict(value), "\n") + "\n"


def _indented(value: Any, line: str) -> str:
    """JSON text whose lines begin with ``line``. Leaves are written by the C encoder at once."""
    inner = line + "  "
    if isinstance(value, dict) and value:
        items = (
            f"{json.dumps(k, ensure_ascii=False)}: {_indented(v, inner)}" for k, v in value.items()
        )
        return "{" + inner + f",{inner}".join(items) + line + "}"
    if isinstance(value, list | tuple) and value and not numbers(value):
        return "[" + inner + f",{inner}".join(_indented(v, inner) for v in value) + line + "]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def sha256(content: bytes) -> str:
    """The SHA-256 of ``content`` in hex."""
    return hashlib.sha256(content).hexdigest()


def gzip_size(content: bytes) -> int:
    """The size in bytes of ``content`` compressed by gzip -9: what a download costs."""
    return len(gzip.compress(content, 9, mtime=0))
