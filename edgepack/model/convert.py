"""A SavedModel as a Keras 3 model, for passes that need layers; Keras 2 does it in a child."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from edgepack.errors import ModelError
from edgepack.events import step
from edgepack.model.load import Model, load

DEADLINE_S = 600


def to_keras(model: Model, *, allow_code: Path | None = None, allow_lambda: bool = False) -> Model:
    """The same model with ``keras`` set; a Keras model comes back as it is.

    Raises ModelError where the model is a flatbuffer, the extra ``keras2`` is not installed, or
    the SavedModel was not saved from Keras layers.
    """
    if model.keras is not None:
        return model
    if model.kind == "tflite":
        raise ModelError(
            f"{model.path}: a flatbuffer has no Keras layers", "give the model it was made from"
        )
    if importlib.util.find_spec("tf_keras") is None:
        raise ModelError(
            f"{model.path}: turning a SavedModel into Keras layers needs tf_keras",
            "pip install 'edgepack[keras2]', or give the .keras or .h5 file",
        )
    with step(f"convert {model.name} to Keras 3"), tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.h5"
        _in_child(model.path, made, allow_lambda)
        shapes = {spec.name: spec.shape for spec in model.inputs}
        try:
            loaded = load(made, allow_code=allow_code, allow_lambda=allow_lambda)
        except ModelError as exc:
            message = exc.message.replace(str(made), str(model.path))
            raise ModelError(message, exc.hint) from exc
    if sorted(spec.shape for spec in loaded.inputs) != sorted(shapes.values()):
        raise ModelError(
            f"{model.path}: its Keras layers take other shapes than its signature",
            "give the .keras or .h5 file",
        )
    return replace(loaded, name=model.name, path=model.path, sha256=model.sha256)


def _in_child(source: Path, made: Path, allow_lambda: bool) -> None:
    """Let Keras 2 write ``made``. Raises ModelError with the child's last line."""
    command = [sys.executable, "-m", "edgepack.model.keras2_child", str(source), str(made)]
    try:
        done = subprocess.run(
            [*command, "--allow-lambda"] if allow_lambda else command,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ModelError(f"{source}: Keras 2 did not read it in {DEADLINE_S} s") from exc
    if done.returncode or not made.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else f"it ended with {done.returncode}"
        raise ModelError(
            f"{source}: cannot become Keras layers: {reason}",
            "a recipe that only exports takes it as it is; else give the .keras or .h5 file",
        )
