"""An output folder: what is written where, and how it is read again.

``packs/MODEL/TARGET/RECIPE/`` holds one pack: its artefact, ``golden.npz`` (real inputs and the
source model's outputs for them), ``pack.json``, written last, and ``debug.json`` once ``debug`` has
looked at it. Below ``measurements/DEVICE/``
the same three folders hold one JSON file for each runner; ``targets/`` holds the specs that were
packed for. Every record is written as soon as it is known.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edgepack.errors import SpecError
from edgepack.files import sha256, to_json, write_bytes, write_text
from edgepack.records import Debug, Measurement, Pack, from_dict, to_dict
from edgepack.spec.library import find, paths, shipped
from edgepack.spec.target import Target
from edgepack.spec.toml import parse

T = TypeVar("T")
Arrays = list[NDArray[Any]]
DAMAGED = (OSError, ValueError, EOFError, AttributeError, TypeError, BadZipFile, zlib.error)
"""What numpy raises for a file that is cut short, spoiled, or no archive at all."""


@dataclass(frozen=True, kw_only=True)
class StoredPack:
    """A pack that was read from disk; its artefact's path is absolute."""

    pack: Pack
    sha256: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs (N, *sample shape) in real units, and the source model's outputs for them."""

    inputs: Arrays
    outputs: Arrays


def pack_folder(out: Path, model: str, target: str, recipe: str) -> Path:
    """Where the pack of one cell lives."""
    return out / "packs" / model / target / recipe


def write_pack(folder: Path, pack: Pack, content: bytes | None, golden: Golden | None) -> Pack:
    """Store a pack; the artefact and the golden samples first, the record that names them last.

    Returns the pack with its artefact's absolute path.
    """
    if pack.artefact is None or content is None:
        write_record(folder, pack)
        return pack
    path = folder / f"{pack.model}-{pack.recipe}.tflite"
    write_bytes(path, content)
    if golden is not None:
        write_bytes(folder / "golden.npz", _npz(golden))
    write_record(folder, replace(pack, artefact=replace(pack.artefact, path=path.name)))
    return replace(pack, artefact=replace(pack.artefact, path=str(path.resolve())))


def write_record(folder: Path, pack: Pack) -> None:
    """Store a pack's record alone; its artefact's path is relative to ``folder``."""
    write_text(folder / "pack.json", to_json(to_dict(pack)))


def write_target(out: Path, target: Target) -> None:
    """Keep a target's spec beside its packs, so that a report can judge them anywhere."""
    write_text(out / "targets" / f"{target.id}.json", to_json(asdict(target)))


def knows_target(out: Path, name: str, folders: Sequence[Path] = ()) -> bool:
    """Whether a target's spec is anywhere, sound or not."""
    return (out / "targets" / f"{name}.json").is_file() or name in paths(Target, folders)


def find_target(out: Path, name: str, folders: Sequence[Path] = ()) -> Target:
    """The target with the id ``name``: a user's own spec, else as it was kept in ``out``.

    What edgepack ships comes last: packs may be for a spec of the same id that lay elsewhere.
    Raises SpecError where it is nowhere.
    """
    path = out / "targets" / f"{name}.json"
    own = paths(Target, folders).get(name)
    if not path.is_file() or (own is not None and own.parent != shipped(Target)):
        return find(Target, name, folders)
    try:
        return parse(Target, json.loads(path.read_bytes()), str(path))
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not JSON: {error}", "remove it and pack again") from error


def read_pack(record: Path) -> StoredPack:
    """The pack whose ``pack.json`` is at ``record``. Raises SpecError where it is none."""
    pack, digest = _read(Pack, record)
    if pack.artefact is not None:
        path = _resolved(record.parent / pack.artefact.path)
        if path is None or path.parent != record.parent.resolve():
            raise SpecError(f"{record}: its artefact lies outside its own folder", "pack it again")
        pack = replace(pack, artefact=replace(pack.artefact, path=str(path)))
    return StoredPack(pack=pack, sha256=digest, folder=record.parent.resolve())


def _resolved(path: Path) -> Path | None:
    """The path without links and dots; None where no file can have that name."""
    try:
        found = path.resolve()
        found.is_file()
    except (OSError, ValueError):
        return None
    return found


def read_packs(out: Path) -> tuple[list[StoredPack], list[SpecError]]:
    """Every pack below an output folder, sorted by model, target and recipe.

    And what is wrong with each record that cannot be read: the others stand without it.
    """
    return _each(read_pack, out.glob("packs/*/*/*/pack.json"))


def pack_of(artefact: Path) -> StoredPack | None:
    """The pack that the file ``artefact`` belongs to, where it does."""
    record = artefact.parent / "pack.json"
    if not record.is_file():
        return None
    stored = read_pack(record)
    belongs = (
        stored.pack.artefact is not None and Path(stored.pack.artefact.path) == artefact.resolve()
    )
    return stored if belongs else None


def folder_of(stored: StoredPack) -> Path | None:
    """The output folder that a pack lies in; None where somebody carried it off alone."""
    place = stored.folder.parents
    return place[3] if len(place) > 3 and place[2].name == "packs" else None


def read_golden(folder: Path) -> Golden | None:
    """A pack's golden samples, where it has any."""
    path = folder / "golden.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            return Golden(
                inputs=[archive[name] for name in names if name.startswith("input_")],
                outputs=[archive[name] for name in names if name.startswith("output_")],
            )
    except DAMAGED as error:
        raise SpecError(f"{path}: no archive of samples", "pack the model again") from error


def has_golden(folder: Path) -> bool:
    """Whether a pack's golden samples are there and sound."""
    try:
        return read_golden(folder) is not None
    except SpecError:
        return False


def write_debug(stored: StoredPack, found: Debug) -> None:
    """Keep beside a pack what ``debug`` found of its artefact."""
    write_text(stored.folder / "debug.json", to_json(to_dict(found)))


def read_debug(stored: StoredPack) -> Debug | None:
    """What ``debug`` found of a pack's artefact as it is now; None where it has not looked."""
    path, artefact = stored.folder / "debug.json", stored.pack.artefact
    if artefact is None or not path.is_file():
        return None
    found = _read(Debug, path)[0]
    return found if found.sha256 == artefact.sha256 else None


def write_measurement(stored: StoredPack, measurement: Measurement) -> None:
    """Store the measurement of a pack; a later one of the same cell takes its place.

    That of a pack outside an output folder is not stored.

    A failed one stands beside what was measured earlier, until one succeeds.
    """
    whole = measurement.status in ("ok", "throttled") and measurement.runtime is not None
    runner = measurement.runtime.runner if whole and measurement.runtime else "failed"
    if (folder := _cell(stored, measurement.device.id)) is None:
        return
    write_text(folder / f"{runner}.json", to_json(to_dict(measurement)))
    if whole:
        (folder / "failed.json").unlink(missing_ok=True)


def measurements_of(stored: StoredPack, device: str) -> list[Measurement]:
    """What was measured of one pack on the device with that id, as far as it can be read."""
    folder = _cell(stored, device)
    return _each(read_measurement, folder.glob("*.json"))[0] if folder else []


def _cell(stored: StoredPack, device: str) -> Path | None:
    out = folder_of(stored)
    return out / "measurements" / device / Path(*stored.folder.parts[-3:]) if out else None


def read_measurements(out: Path) -> tuple[list[Measurement], list[SpecError]]:
    """Every measurement below an output folder, and what is wrong with what cannot be read."""
    return _each(read_measurement, out.glob("measurements/*/*/*/*/*.json"))


def read_measurement(path: Path) -> Measurement:
    """The measurement in one file. Raises SpecError where it is none."""
    return _read(Measurement, path)[0]


def _each(read: Callable[[Path], T], records: Iterable[Path]) -> tuple[list[T], list[SpecError]]:
    found, damaged = [], []
    for record in sorted(records):
        try:
            found.append(read(record))
        except SpecError as error:
            damaged.append(error)
    return found, damaged


def _read(kind: type[T], path: Path) -> tuple[T, str]:
    hint = "remove it, or write it again with the command that wrote it"
    try:
        content = path.read_bytes()
        return from_dict(kind, json.loads(content, parse_int=_integer)), sha256(content)
    except (OSError, ValueError, RecursionError) as error:
        what = "its fields are wrong" if isinstance(error, ValidationError) else str(error)
        raise SpecError(f"{path}: not a {kind.__name__.lower()} record: {what}", hint) from error


def _integer(text: str) -> int:
    """An integer that a count or a size can be. Raises ValueError: a float cannot hold others."""
    if len(text) > 20:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _npz(golden: Golden) -> bytes:
    named: dict[str, Any] = {f"input_{i:03}": array for i, array in enumerate(golden.inputs)}
    named |= {f"output_{i:03}": array for i, array in enumerate(golden.outputs)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()
