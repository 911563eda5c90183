"""Where samples come from: one module a source, found through one table and read lazily."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import DataError
from edgepack.model.rows import Table
from edgepack.spec.data import Dataset

SOURCES = {
    "npz": "edgepack.model.sources.npz",
    "npy": "edgepack.model.sources.npy",
    "image-folder": "edgepack.model.sources.image_folder",
    "csv": "edgepack.model.sources.csv_file",
    "wav-folder": "edgepack.model.sources.wav_folder",
    "sklearn": "edgepack.model.sources.sklearn_set",
    "python": "edgepack.model.sources.python_function",
}


def open_table(spec: Dataset, allow_code: bool) -> Table:
    """The rows that a description names, before selection and preprocessing."""
    module = importlib.import_module(SOURCES[spec.source])
    table: Table = module.open_table(spec, allow_code)
    return table


def located(spec: Dataset, *, folder: bool | None) -> Path:
    """The path of a description. Raises DataError where it is missing or of the wrong kind."""
    if spec.path is None:
        raise DataError(f"{spec.id}: source '{spec.source}' needs a path", "add path = …")
    path = Path(spec.folder) / spec.path
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", f"mend path in {spec.id}")
    if folder is not None and path.is_dir() != folder:
        wanted = "a folder" if folder else "a file"
        raise DataError(f"{path}: source '{spec.source}' needs {wanted}", f"mend path in {spec.id}")
    return path


def suggestion(name: str, known: Sequence[str]) -> str:
    """The known name that is nearest to ``name``, as a question; else what there is."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean '{folded[near[0]]}'?" if near else f"there: {', '.join(known)}"


def digest(*paths: Path) -> str:
    """The SHA-256 of one file; of several or a folder, over names and contents, sorted."""
    found = hashlib.sha256()
    files: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            files += [(p.relative_to(path).as_posix(), p) for p in inside]
        else:
            files.append((path.name, path))
    alone = len(files) == 1 and not paths[0].is_dir()
    for name, path in files:
        if not alone:
            found.update(os.fsencode(f"{name}\0{path.stat().st_size}\0"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()
