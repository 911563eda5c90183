"""What Keras lets a model be, made into what TensorFlow can trace and TensorFlow Lite compute."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError

REFUSED_IN_SCOPES = re.compile(r"[^A-Za-z0-9_.>-]+")


def make_exportable(model: Any, path: Path) -> None:
    """Change a loaded model in place: plain layer names, and float32 where training was mixed.

    Mixed precision keeps its weights in float32, so nothing is lost. Raises ModelError for
    layers whose weights have another float type.
    """
    for layer in model._flatten_layers():
        layer.name = REFUSED_IN_SCOPES.sub("_", layer.name).lstrip("_>-") or "layer"
        if layer.compute_dtype in ("float16", "bfloat16") and layer.variable_dtype == "float32":
            layer.dtype_policy = "float32"
        if layer.compute_dtype in ("float16", "bfloat16", "float64"):
            raise ModelError(
                f"{path}: layer '{layer.name}' computes in {layer.compute_dtype}, "
                "for which TensorFlow Lite has no kernels",
                "build the model with dtype float32, load these weights into it and save that",
            )
