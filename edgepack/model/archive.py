"""What is inside a ``.keras`` or ``.h5`` file, looked at before Keras reads it."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgepack.errors import ModelError

LARGEST_CONFIG = 64 * 2**20
LARGEST_TOTAL = 8 * 2**30
LARGEST_RATIO = 1000
AGAIN = "save or copy the model again"


def keras_config(path: Path) -> tuple[dict[str, Any], str | None]:
    """(the model's configuration, Keras's version) of a ``.keras`` archive, all members checked.

    Raises ModelError for a damaged archive, a member outside it, one that unpacks to far more
    than it should, and weights that point to other files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            if "config.json" not in archive.namelist():
                raise ModelError(f"{path}: not a Keras model: it has no config.json", AGAIN)
            config = parse(archive.read("config.json"), path)
            for member in archive.infolist():
                if member.filename.endswith(".h5"):
                    with archive.open(member) as file:
                        check_h5(io.BytesIO(file.read()), path)
            metadata = {}
            if "metadata.json" in archive.namelist():
                metadata = parse(archive.read("metadata.json"), path)
            return config, metadata.get("keras_version")
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError, NotImplementedError) as exc:
        raise ModelError(f"{path}: damaged .keras file: {_line(exc)}", AGAIN) from exc


def with_config(path: Path, config: dict[str, Any], made: Path) -> None:
    """Copy a ``.keras`` archive to ``made`` with another configuration."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename == "config.json":
                content = json.dumps(config).encode()
            new.writestr(member.filename, content)


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    total = 0
    for member in archive.infolist():
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise ModelError(
                f"{path}: its member '{member.filename}' would be written outside the archive",
                "the file was made to do harm: get the model from its source again",
            )
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise ModelError(f"{path}: its member '{member.filename}' is a link", AGAIN)
        total += member.file_size
        ratio = member.file_size / max(1, member.compress_size)
        config_bomb = member.filename.endswith(".json") and member.file_size > LARGEST_CONFIG
        if config_bomb or (member.file_size > LARGEST_CONFIG and ratio > LARGEST_RATIO):
            raise ModelError(
                f"{path}: its member '{member.filename}' unpacks to {member.file_size} bytes",
                "the file was made to do harm: get the model from its source again",
            )
    if total > LARGEST_TOTAL:
        raise ModelError(f"{path}: unpacks to {total} bytes, more than {LARGEST_TOTAL}", "")


def parse(text: bytes | str, path: Path) -> dict[str, Any]:
    """A model's configuration. Raises ModelError where it is not a JSON object."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ModelError(f"{path}: its configuration is not JSON: {_line(exc)}", AGAIN) from exc
    if not isinstance(config, dict):
        raise ModelError(f"{path}: its configuration is not a JSON object", AGAIN)
    return config


@contextlib.contextmanager
def opened_h5(path: Path) -> Iterator[Any]:
    """The HDF5 file, checked by ``check_h5``. Raises ModelError where it is not one."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as exc:
        raise ModelError(f"{path}: damaged or not an HDF5 file: {_line(exc)}", AGAIN) from exc
    with file:
        _checked(file, path)
        yield file


def check_h5(content: IO[bytes], path: Path) -> None:
    """Refuse links to other files and data sets that claim absurd sizes."""
    import h5py

    try:
        with h5py.File(content, "r") as file:
            _checked(file, path)
    except OSError as exc:
        raise ModelError(f"{path}: its weights are damaged: {_line(exc)}", AGAIN) from exc


def _checked(file: Any, path: Path) -> None:
    """Look at everything in an HDF5 file; what cannot be looked at is damaged."""
    try:
        _check_group(file, path)
    except (KeyError, OSError, RuntimeError, ValueError, TypeError, OverflowError) as exc:
        raise ModelError(f"{path}: its contents are damaged: {_line(exc)}", AGAIN) from exc


def _check_group(root: Any, path: Path) -> None:
    import h5py

    waiting, seen = [root], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            raise ModelError(f"{path}: '{group.name}' contains itself", AGAIN)
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ModelError(
                    f"{path}: '{group.name}/{name}' links to somewhere else",
                    "the file was made to do harm: get the model from its source again",
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, path)


def _check_dataset(item: Any, path: Path) -> None:
    if item.is_virtual or item.external:
        raise ModelError(
            f"{path}: '{item.name}' takes its data from another file",
            "the file was made to do harm: get the model from its source again",
        )
    stored, claimed = item.id.get_storage_size(), item.size * item.dtype.itemsize
    if claimed > LARGEST_CONFIG and claimed > LARGEST_RATIO * max(1, stored):
        raise ModelError(f"{path}: '{item.name}' claims {claimed} bytes but holds {stored}", AGAIN)


def _line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
