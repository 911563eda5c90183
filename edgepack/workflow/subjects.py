"""What is to be measured: the packs of an output folder, one of them, or a bare file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import EdgepackError, ModelError, SpecError
from edgepack.files import sha256
from edgepack.graph.facts import facts
from edgepack.workflow import store
from edgepack.workflow.golden import Subject


@dataclass(frozen=True, kw_only=True)
class Spoiled:
    """A pack whose artefact cannot be measured, and why."""

    stored: store.StoredPack
    error: EdgepackError


def subjects(
    source: Path, packs: Sequence[store.StoredPack], damaged: Sequence[SpecError]
) -> list[Subject | Spoiled]:
    """What is to be measured. Raises SpecError where a folder holds no pack.

    Raises ModelError where there is nothing but spoiled files.
    """
    if not packs and damaged:
        raise damaged[0]
    if source.is_dir() and not packs:
        raise SpecError(
            f"{source}: holds no pack to measure",
            f"first `edgepack pack … -o {source}`, or give a .tflite file",
        )
    if not packs:
        return [subject(source, None)]
    found = [_stored_subject(stored) for stored in packs]
    errors = [one.error for one in found if isinstance(one, Spoiled)]
    if len(errors) == len(found):
        raise errors[0]
    return found


def subject(path: Path, stored: store.StoredPack | None) -> Subject:
    """The model in a file. Raises ModelError where it is none."""
    known = facts(path)
    return Subject(path=path, signature=known.signatures[0], digest=known.sha256, stored=stored)


def _stored_subject(stored: store.StoredPack) -> Subject | Spoiled:
    try:
        store.read_golden(stored.folder)
        return subject(artefact_of(stored), stored)
    except EdgepackError as error:
        return Spoiled(stored=stored, error=error)


def artefact_of(stored: store.StoredPack) -> Path:
    """A pack's file. Raises ModelError where it is not the one that the record names."""
    artefact = stored.pack.artefact
    path = Path(artefact.path) if artefact else stored.folder
    if artefact is None or not path.is_file() or sha256(path.read_bytes()) != artefact.sha256:
        raise ModelError(f"{path}: is not the file that its pack.json names", "pack it again")
    return path
