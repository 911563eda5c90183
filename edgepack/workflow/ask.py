"""Ids and paths, as people give them, made into what ``pack`` and ``measure`` work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from edgepack.errors import ModelError, SpecError
from edgepack.files import check_writable, exists
from edgepack.spec.data import Dataset
from edgepack.spec.device import Device
from edgepack.spec.library import find, tagged
from edgepack.spec.recipe import Recipe
from edgepack.spec.target import Target
from edgepack.workflow.job import Job, Trust

S = TypeVar("S", Target, Recipe, Device)


def job(
    model: Path,
    *,
    targets: Sequence[str],
    recipes: Sequence[str] = (),
    train: str | None = None,
    calibration: str | None = None,
    evaluation: str | None = None,
    out: Path,
    seed: int = 0,
    resume: bool = False,
    folders: Sequence[Path] = (),
    trust: Trust | None = None,
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Job:
    """A job from ids or paths of TOML files. Without recipes: each target's own.

    Raises SpecError for what is not found or wrong, or has another's id, and where ``out``
    cannot be written; ModelError where the model is missing.
    """
    check_writable(out)
    if not exists(model):
        raise ModelError(
            f"{model}: no such file or folder", "give a .keras, .h5 or .tflite file or a SavedModel"
        )
    return Job(
        model=model,
        targets=distinct([find(Target, name, folders) for name in targets]),
        recipes=distinct([find(Recipe, name) for name in recipes]),
        out=out,
        train=dataset(train),
        calibration=dataset(calibration),
        evaluation=dataset(evaluation),
        seed=seed,
        trust=trust or Trust(),
        resume=resume,
        shapes=shapes,
    )


def devices(names: Sequence[str], folders: Sequence[Path] = ()) -> tuple[Device, ...]:
    """The devices with these ids, paths or tags (``tag:NAME``), each once. Raises SpecError."""
    found: list[Device] = []
    for name in names:
        tag = name.removeprefix("tag:")
        found += tagged(tag, folders) if tag != name else [find(Device, name, folders)]
    return distinct(found)


def distinct(specs: Sequence[S]) -> tuple[S, ...]:
    """Each spec once. Raises SpecError where two differ but would be stored under one id."""
    by_id: dict[str, S] = {}
    for spec in specs:
        if by_id.setdefault(spec.id, spec) != spec:
            kind = type(spec).__name__.lower()
            raise SpecError(
                f"two {kind}s have the id '{spec.id}': the later would overwrite the earlier",
                "rename one of the files: its name is its id",
            )
    return tuple(by_id.values())


def dataset(name: str | None) -> Dataset | None:
    """The data description with the id or path ``name``."""
    return find(Dataset, name) if name is not None else None
