"""Candidates as files, so that a finished step need not be run again: model and constraints.

Keras reads back its own ``.keras`` files; layers of edgepack's own are registered by importing
the modules that define them.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError
from edgepack.model.keras_file import custom_objects, quiet
from edgepack.passes.candidate import Candidate
from edgepack.passes.constraints import Constraint, restored, stored

LAYERS = ("edgepack.passes.fake_quant_layers", "edgepack.passes.fake_quant_range")
"""The modules that define and register Keras layers of edgepack's own."""


def content(candidate: Candidate) -> dict[str, bytes]:
    """The files of a candidate by name; its steps are not among them."""
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder, quiet():
        file = Path(folder) / "model.keras"
        candidate.model.save(file)
        model = file.read_bytes()
    return {"model.keras": model, "constraints.npz": _packed(candidate.constraints)}


def load(folder: Path, *, allow_code: Path | None, allow_lambda: bool) -> Candidate:
    """The candidate, without steps, whose files lie in ``folder``.

    ``allow_code`` is the file with the model's own layers. Raises ModelError where the files
    are damaged.
    """
    import keras

    for module in LAYERS:
        import_module(module)
    with quiet():
        try:
            model = keras.saving.load_model(
                folder / "model.keras",
                custom_objects=custom_objects(allow_code),
                compile=False,
                safe_mode=not allow_lambda,
            )
            with np.load(folder / "constraints.npz", allow_pickle=False) as archive:
                constraints = _unpacked({name: archive[name] for name in archive.files})
        except ModelError:
            raise
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{folder}: not a candidate as edgepack stores it: {reason}", "remove that folder"
            ) from error
    return Candidate(model=model, constraints=constraints)


def _packed(constraints: tuple[Constraint, ...]) -> bytes:
    """An ``.npz`` of all constraints, each array under its constraint's number."""
    named: dict[str, Any] = {
        f"{place:04}_{name}": array
        for place, constraint in enumerate(constraints)
        for name, array in stored(constraint).items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> tuple[Constraint, ...]:
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in arrays.items():
        place, _, name = key.partition("_")
        found.setdefault(place, {})[name] = array
    return tuple(restored(found[place]) for place in sorted(found))
