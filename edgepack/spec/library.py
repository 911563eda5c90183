"""Find specs by id or path: the shipped ones, and those in folders that the user names.

A file's stem is its id. A target may extend another, one level deep.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgepack.errors import SpecError
from edgepack.spec.data import Dataset
from edgepack.spec.device import Device
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Target
from edgepack.spec.toml import parse, read_table

log = logging.getLogger(__name__)
T = TypeVar("T", Target, Device, Recipe, Dataset)
FOLDERS: Mapping[type, str] = {
    Target: "targets",
    Device: "devices",
    Recipe: "recipes",
    Dataset: "calibration",
}


def shipped(kind: type) -> Path:
    """The folder of what edgepack ships: inside the wheel, or at the top of a checkout."""
    package, name = Path(__file__).parents[1], FOLDERS[kind]
    checkout = package.parent / name
    inside = (package / "shipped" / name, package / name)
    return next((folder for folder in inside if folder.is_dir()), checkout)


def user_folders(kind: type) -> list[Path]:
    """Where a user's own specs are looked for: the project's folder, then the config folder's."""
    from platformdirs import user_config_path

    name = FOLDERS[kind]
    return [
        folder
        for folder in (Path.cwd() / name, user_config_path("edgepack") / name)
        if folder.is_dir()
    ]


def paths(kind: type, folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Every known spec of a kind by id; a folder named earlier wins over a later one."""
    found: dict[str, Path] = {}
    for folder in (*folders, *user_folders(kind), shipped(kind)):
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def find(kind: type[T], name: str, folders: Sequence[Path] = ()) -> T:
    """The spec with the id ``name``, or in the TOML file at the path ``name``.

    Raises SpecError where there is none, with the nearest id, or where the file is wrong.
    """
    if name.endswith(".toml") or "/" in name:
        return load(kind, Path(name), folders)
    known = paths(kind, folders)
    if name not in known:
        raise SpecError(
            f"no {kind.__name__.lower()} has the id '{name}'",
            _nearest(name, known, f"see `edgepack {FOLDERS[kind]} list`"),
        )
    return load(kind, known[name], folders)


def tagged(tag: str, folders: Sequence[Path] = ()) -> list[Device]:
    """Every known device with a tag, by id. Raises SpecError where nobody has it.

    A file that is wrong is told in the log; it does not hide the others.
    """
    found: list[Device] = []
    tags: set[str] = set()
    for name, path in sorted(paths(Device, folders).items()):
        try:
            device = load(Device, path, folders)
        except SpecError as error:
            log.warning("device %s is left out: %s", name, error.message)
            continue
        tags.update(device.tags)
        if tag in device.tags:
            found.append(device)
    if not found:
        raise SpecError(f"no device has the tag '{tag}'", "known tags: " + ", ".join(sorted(tags)))
    return found


def load(kind: type[T], path: Path, folders: Sequence[Path] = ()) -> T:
    """The spec in one file. Raises SpecError where the file is missing or wrong."""
    table = read_table(path)
    if kind is Target and "extends" in table:
        table = _extended(table, path, folders)
    also = ("extends",) if kind is Target else ()
    return parse(kind, _identified(kind, table, path), str(path), also)


def _identified(kind: type, table: dict[str, Any], path: Path) -> dict[str, Any]:
    """``table`` with what its place says: the id, and the folder that its paths start from."""
    if path.stem.startswith("."):  # ids become names of folders
        raise SpecError(f"{path}: '{path.stem}' is no id", "give the file another name")
    if "id" in table:
        raise SpecError(f"{path}: unknown key 'id'", "the file's name is its id")
    if kind not in (Dataset, Recipe):
        return {**table, "id": path.stem}
    if "folder" in table:
        raise SpecError(f"{path}: unknown key 'folder'", "paths are relative to the file itself")
    return {**table, "id": path.stem, "folder": str(path.resolve().parent)}


def _extended(table: dict[str, Any], path: Path, folders: Sequence[Path]) -> dict[str, Any]:
    base_id = table.pop("extends")
    if not isinstance(base_id, str):
        raise SpecError(f"{path}: extends: should be the id of one target, found {base_id!r}")
    base_path = _base(base_id, path, folders)
    base = read_table(base_path)
    if "extends" in base:
        raise SpecError(
            f"{path}: extends '{base_id}', which itself extends '{base['extends']}'",
            "extend that one instead: one level only",
        )
    # First the base alone, so that an error in it is told of its own file.
    parse(Target, _identified(Target, base, base_path), str(base_path))
    return _merged(base, table)


def _base(base_id: str, path: Path, folders: Sequence[Path]) -> Path:
    """The extended target's file: a neighbour first; never ``path``, which may shadow its base."""
    for folder in (path.parent, *folders, *user_folders(Target), shipped(Target)):
        candidate = folder / f"{base_id}.toml"
        if candidate.is_file() and candidate.resolve() != path.resolve():
            return candidate
    known = {name: at for name, at in paths(Target, folders).items() if name != path.stem}
    raise SpecError(
        f"{path}: extends '{base_id}', which is not a target",
        _nearest(base_id, known, "see `edgepack targets list`"),
    )


def _nearest(name: str, known: Mapping[str, Path], otherwise: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = (
            _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged
