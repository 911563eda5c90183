"""Models in: Keras files, SavedModel folders and float flatbuffers, checked before they run."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepack.errors import ModelError
from edgepack.events import step
from edgepack.model.quiet import import_tensorflow
from edgepack.model.specs import Shapes
from edgepack.records import TensorSpec

KNOWN = ".keras, .h5, .tflite, or a SavedModel folder"


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A model as it came in. One of ``keras``, ``function`` and ``content`` is there.

    ``name`` is the file's stem as an id. ``keras`` is a Keras 3 model, ``function`` the concrete
    function of a SavedModel's signature, ``content`` a flatbuffer. ``inputs`` and ``outputs``
    have a batch of 1; those of a SavedModel are sorted by name, as its converter orders them.
    """

    name: str
    path: Path
    sha256: str
    kind: Literal["keras", "saved-model", "tflite"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    keras: Any | None = None
    function: Any | None = None
    content: bytes | None = None


def load(
    path: Path,
    *,
    allow_code: Path | None = None,
    allow_lambda: bool = False,
    seed: int = 0,
    shapes: Shapes | None = None,
) -> Model:
    """The model in a file or folder.

    ``allow_code`` is a trusted Python file with the model's custom objects, ``allow_lambda``
    trusts its Lambda layers, ``shapes`` gives the sizes that the model leaves open, by input
    name. ``seed`` seeds what Keras initialises. Raises ModelError for what is missing, damaged,
    of another type, unsafe, or incomplete.
    """
    with step(f"load {path.name}"):
        kind = _kind(path)
        name, digest = safe_id(path), digest_of(path)
        given = dict(shapes or {})
        if kind != "tflite":
            import_tensorflow()
        if kind == "saved-model":
            from edgepack.model import saved_model

            function, inputs = saved_model.signature(path, given)
            return Model(
                name=name,
                path=path,
                sha256=digest,
                kind="saved-model",
                inputs=inputs,
                outputs=saved_model.outputs(function, inputs, path),
                function=function,
            )
        if kind == "tflite":
            from edgepack.model import flatbuffer

            content = path.read_bytes()
            inputs, outputs = flatbuffer.specs(content, path, given)
            return Model(
                name=name,
                path=path,
                sha256=digest,
                kind="tflite",
                inputs=inputs,
                outputs=outputs,
                content=content,
            )
        from edgepack.model import keras_file
        from edgepack.model.exportable import make_exportable

        model = keras_file.read(path, kind, allow_code, allow_lambda, seed)
        make_exportable(model, path)
        inputs, outputs = keras_file.specs(model, given, path)
        return Model(
            name=name,
            path=path,
            sha256=digest,
            kind="keras",
            inputs=inputs,
            outputs=outputs,
            keras=model,
        )


def _kind(path: Path) -> Literal["keras", "h5", "saved-model", "tflite"]:
    """What the path holds, by its content first and its name second."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved-model"
        raise ModelError(f"{path}: a folder without saved_model.pb", f"give {KNOWN}")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError as exc:
        raise ModelError(f"{path}: no such file", f"give {KNOWN}") from exc
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror}", "check its rights") from exc
    if not head:
        raise ModelError(f"{path}: the file is empty", "save or copy the model again")
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[:4] == b"PK\x03\x04":
        return "keras"
    if head[:4] == b"\x89HDF":
        return "h5"
    suffix = path.suffix.lower()
    if suffix in (".keras", ".h5", ".hdf5", ".tflite"):
        raise ModelError(
            f"{path}: its content is not that of a {suffix} file", "save or copy the model again"
        )
    raise ModelError(f"{path}: not a model that edgepack reads", f"give {KNOWN}")


def safe_id(path: Path) -> str:
    """The stem of a path as an id: letters, digits, ``.``, ``_`` and ``-``."""
    stem = path.resolve().name if path.is_dir() else path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "model"


def digest_of(path: Path) -> str:
    """The SHA-256 of a file; of a folder, over its files' names and contents, sorted."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            name = file.relative_to(path).as_posix()
            digest.update(os.fsencode(f"{name}\0{file.stat().st_size}\0"))
        try:
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
        except OSError as exc:
            raise ModelError(f"{file}: cannot be read: {exc.strerror}") from exc
    return digest.hexdigest()
