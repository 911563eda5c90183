"""Trainings on disk, so that an interrupted one goes on where its last finished epoch ended.

A step may train several times, so each training has a file of its own beside the path that the
step was given: ``step.ckpt`` → ``step-3f2a….ckpt``, named after everything that determines the
result. A file of another training is thereby never taken, and a damaged one is ignored. A
finished training's file stays, so that a step that is run again passes over it at once;
``discard`` removes them all once the step's own result is safe.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.files import write_bytes

Arrays = dict[str, NDArray[Any]]
DIGEST = hashlib.sha256().digest_size
log = logging.getLogger(__name__)


def fingerprint(words: Iterable[str], arrays: Mapping[str, NDArray[Any]]) -> str:
    """32 hexadecimal digits over words and named arrays: shapes, types and values."""
    found = hashlib.sha256()
    for word in words:
        found.update(f"{len(word)}:{word}".encode())
    for name, array in arrays.items():
        found.update(f"{name}{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


def place(checkpoint: Path, identity: str) -> Path:
    """The file of the training with that fingerprint."""
    return checkpoint.with_name(f"{checkpoint.stem}-{identity}.ckpt")


def save(path: Path, arrays: Arrays) -> None:
    """Write the arrays as a whole or not at all: an ``.npz`` after its own sha256.

    Raises SpecError where the disk is full.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **{f"_{name}": array for name, array in arrays.items()})  # type: ignore[arg-type]
    content = buffer.getvalue()
    write_bytes(path, hashlib.sha256(content).digest() + content)


def load(path: Path) -> Arrays | None:
    """The arrays in a file, or None where there is none or it is damaged."""
    if not path.is_file():
        return None
    whole = path.read_bytes()
    digest, content = whole[:DIGEST], whole[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        log.warning("%s is damaged: training starts again", path)
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return {name[1:]: found[name] for name in found.files}


def discard(checkpoint: Path) -> None:
    """Remove the files of every training that was told to use this checkpoint."""
    for path in checkpoint.parent.glob(f"{checkpoint.stem}-*.ckpt"):
        name = path.stem.removeprefix(f"{checkpoint.stem}-")
        if len(name) == 32 and set(name) <= set("0123456789abcdef"):
            path.unlink(missing_ok=True)
